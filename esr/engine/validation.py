"""What both engines read from a model's files, and the checks on every request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from esr.engine.base import GenerationRequest, ReadRequest, Sampling
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.weights import check_layers, load_config, load_tokenizer
from esr.steering import interventions
from esr.steering.sae import Dictionary

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

GREEDY_BELOW = 1e-5
"""A lower temperature means greedy decoding, as in vLLM."""


@dataclass(frozen=True)
class ModelInfo:
    """Read from the model's configuration files; costs no weights.

    Attributes:
        config: the text part of the Hugging Face configuration.
        tokenizer: decodes responses.
        stop_token_ids: end of text or of turn; a response ends with the first of them.
        context: longest prompt and response together, in tokens.
        d_sae: latents in the dictionary.
    """

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: tuple[int, ...]
    context: int
    d_sae: int

    @property
    def n_layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    def text(self, token_ids: Sequence[int]) -> str:
        """A response without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))


def model_info(spec: ModelSpec, dictionary: Dictionary) -> ModelInfo:
    """Read configuration and tokenizer, and check that model and dictionary fit.

    Raises:
        UserError: no such model, no tokenizer, no such layer, or a dictionary of another width.
    """
    config, tokenizer = load_config(spec), load_tokenizer(spec)
    check_layers(spec, config, dictionary.d_model)
    stops = _stop_token_ids(spec, config, tokenizer)
    longest = int(getattr(config, "max_position_embeddings", spec.context))
    # A read of a full context still asks vLLM for one token, which must have a position.
    context = min(spec.context, longest - 1)
    return ModelInfo(config, tokenizer, stops, context, dictionary.d_sae)


def _stop_token_ids(
    spec: ModelSpec, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    from transformers import GenerationConfig

    try:
        declared: Any = GenerationConfig.from_pretrained(
            spec.hf_id, revision=spec.revision
        ).eos_token_id
    except OSError:
        declared = getattr(config, "eos_token_id", None)
    ids = [declared] if isinstance(declared, int) else list(declared or ())
    ids.append(tokenizer.eos_token_id)
    return tuple(sorted({token for token in ids if token is not None}))


def check_generation(request: GenerationRequest, model: ModelInfo) -> None:
    """Refuse at admission what would fail, or end all other requests, inside a worker.

    Raises:
        UserError: latents, token ids, sampling values or lengths out of range.
    """
    interventions.check(request.interventions, model.d_sae)
    _check_tokens(request.prompt_token_ids, model)
    _check_sampling(request.sampling)
    room = model.context - len(request.prompt_token_ids)
    if request.sampling.max_tokens > room:
        raise UserError(
            f"a prompt of {len(request.prompt_token_ids)} tokens and a response of "
            f"{request.sampling.max_tokens} exceed the context",
            f"{model.context} tokens together",
            "shorten the prompt or lower max_tokens",
        )


def check_read(request: ReadRequest, model: ModelInfo) -> None:
    """The same for a read.

    Raises:
        UserError: latents, token ids or positions out of range.
    """
    interventions.check(request.interventions, model.d_sae)
    _check_tokens(request.token_ids, model)
    if len(request.token_ids) > model.context:
        raise UserError(
            f"a text of {len(request.token_ids)} tokens exceeds the context",
            f"{model.context} tokens",
            "read a shorter text",
        )
    if not 0 <= request.first_token < len(request.token_ids):
        raise UserError(
            f"first_token {request.first_token} is outside the text",
            f"0 to {len(request.token_ids) - 1}",
            "correct first_token",
        )
    if request.latents is None:
        return
    if not request.latents:
        raise UserError("no latents to read", "at least one, or None for all", "name a latent")
    for latent in request.latents:
        if not 0 <= latent < model.d_sae:
            raise UserError(
                f"latent {latent} is not in the dictionary",
                f"0 to {model.d_sae - 1}",
                "choose a latent in that range",
            )


def _check_tokens(token_ids: Sequence[int], model: ModelInfo) -> None:
    if not token_ids:
        raise UserError("an empty prompt", "at least one token", "give a prompt")
    bad = next((token for token in token_ids if not 0 <= token < model.vocabulary), None)
    if bad is not None:
        raise UserError(
            f"token id {bad} is not in the vocabulary",
            f"0 to {model.vocabulary - 1}",
            "tokenize with this model's own tokenizer",
        )


def _check_sampling(sampling: Sampling) -> None:
    rules = (
        ("temperature", sampling.temperature, sampling.temperature >= 0, "0 or more"),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1, "above 0, at most 1"),
        ("max_tokens", sampling.max_tokens, sampling.max_tokens >= 1, "1 or more"),
        (
            "repetition_penalty",
            sampling.repetition_penalty,
            sampling.repetition_penalty > 0,
            "above 0; 1 for none",
        ),
        ("seed", sampling.seed, 0 <= sampling.seed < 2**63, "0 to 2**63 - 1"),
    )
    for name, value, fine, allowed in rules:
        if not (fine and math.isfinite(value)):
            raise UserError(f"{name} is {value}", allowed, f"correct {name}")
