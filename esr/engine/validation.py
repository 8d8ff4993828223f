"""What both engines read from a model's files, and the checks on every request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, get_args

from esr.engine.base import Generation, GenerationRequest, ReadRequest, Sampling, States
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.identity import named
from esr.models.weights import check_layers, load_config, load_tokenizer
from esr.steering import interventions
from esr.steering.effects import Effects
from esr.steering.interventions import Intervention, Slot
from esr.steering.layers import check_layer
from esr.steering.limits import GATED, GRAPH_LINES, GRAPH_ROWS
from esr.steering.sae import Dictionary
from esr.steering.scope import check_scope

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
        layers: those that interventions may name.
        identity: what names the model, to compare directions with.
    """

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: tuple[int, ...]
    context: int
    d_sae: int
    layers: tuple[int, ...]
    identity: Mapping[str, str]

    @property
    def n_layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    def text(self, token_ids: Sequence[int]) -> str:
        """A response without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def answer(
        self, request: GenerationRequest, generated: Sequence[int], finish: str
    ) -> Generation:
        """The answer to a request whose given prefix ``generated`` tokens follow."""
        prefix = request.prefix_token_ids
        tokens = prefix + tuple(generated)
        text = self.text(tokens)
        # A character may begin in the prefix and end in what is generated: it is generated.
        same = zip(self.text(prefix) if prefix else "", text, strict=False)
        begin = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], same))
        return Generation(request.request_id, tokens, text, finish, len(prefix), begin)


def model_info(spec: ModelSpec, dictionary: Dictionary, layers: Iterable[int] = ()) -> ModelInfo:
    """Read configuration and tokenizer, and check that model and dictionary fit.

    Args:
        spec: the model.
        dictionary: the SAE.
        layers: that interventions may name beside the model's steering and feature layer.

    Raises:
        UserError: no such model, no tokenizer, no such layer, or a dictionary of another width.
    """
    config, tokenizer = load_config(spec), load_tokenizer(spec)
    check_layers(spec, config, dictionary.d_model)
    for layer in layers:
        check_layer("layer", layer, int(config.num_hidden_layers))
    hooked = tuple(sorted({spec.steering_layer, spec.feature_layer, *layers}))
    stops = _stop_token_ids(spec, config, tokenizer)
    longest = int(getattr(config, "max_position_embeddings", spec.context))
    # A read of a full context still asks vLLM for one token, which must have a position.
    context = min(spec.context, longest - 1)
    return ModelInfo(config, tokenizer, stops, context, dictionary.d_sae, hooked, named(spec))


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
    check_scope(request.scope)
    _check_interventions(request.interventions, model)
    _check_tokens(request.prompt_token_ids, model)
    if request.prefix_token_ids:
        _check_tokens(request.prefix_token_ids, model)
    _check_sampling(request.sampling)
    n_prompt, n_prefix = len(request.prompt_token_ids), len(request.prefix_token_ids)
    if n_prompt + n_prefix + request.sampling.max_tokens > model.context:
        given = f", a given prefix of {n_prefix}" if n_prefix else ""
        raise UserError(
            f"a prompt of {n_prompt} tokens{given} and a response of "
            f"{request.sampling.max_tokens} exceed the context",
            f"{model.context} tokens together",
            f"shorten the {'prefix' if n_prefix else 'prompt'} or lower max_tokens",
        )


def check_read(request: ReadRequest, model: ModelInfo) -> None:
    """The same for a read.

    Raises:
        UserError: latents, token ids or positions out of range.
    """
    _check_interventions(request.interventions, model)
    _check_tokens(request.token_ids, model)
    n_prompt = request.n_prompt
    if n_prompt is None and any(item.scope != "all" for item in request.interventions):
        raise UserError(
            "a read whose interventions have a scope does not say where the prompt ends",
            "n_prompt, in tokens",
            "ReadRequest(n_prompt=...)",
        )
    if n_prompt is not None and not 0 <= n_prompt + request.n_prefix <= len(request.token_ids):
        raise UserError(
            f"a prompt of {n_prompt} tokens and a prefix of {request.n_prefix} are longer than the "
            "text",
            f"0 to {len(request.token_ids)} together",
            "correct n_prompt or n_prefix",
        )
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
    _check_kind(request, model)
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


def _check_kind(request: ReadRequest, model: ModelInfo) -> None:
    """One kind of reading, and one that there is."""
    if (request.latents is not None) + bool(request.states) + request.logprobs > 1:
        raise UserError(
            "a read of several kinds", "latents, states or logprobs", "one request for each"
        )
    if request.states not in get_args(States):
        allowed = ", ".join(name for name in get_args(States) if name)
        raise UserError(f"unknown states {request.states!r}", allowed, "correct states")
    if request.layer is not None and not request.states:
        raise UserError("a layer for a read of no states", "states", "ReadRequest(states='mean')")
    if request.states and request.layer is not None and request.layer not in model.layers:
        raise UserError(
            f"layer {request.layer} is not hooked",
            ", ".join(map(str, model.layers)),
            "name the layer where the engine starts (VllmOptions.layers, Experiment.layers)",
        )
    if request.logprobs and request.first_token == 0:
        raise UserError(
            "the first token of a text has no probability",
            "first_token 1 or more",
            "correct first_token",
        )


def check_graph(effects: Effects) -> None:
    """Refuse what has no room in the buffers that are inside CUDA graphs.

    Raises:
        UserError: too many rows, gated slots or scopes.
    """
    sizes = (
        ("latents and directions", len(effects.rows[0]), GRAPH_ROWS),
        ("gated slots", effects.n_gated, GATED),
        ("runs of positions with other slots", effects.n_phases, GRAPH_LINES),
    )
    for name, n, most in sizes:
        if n > most:
            raise UserError(
                f"{n} {name} in one request",
                f"at most {most} inside CUDA graphs",
                "fewer, or an engine with VllmOptions(in_graph=False)",
            )


def _check_interventions(items: Sequence[Intervention], model: ModelInfo) -> None:
    interventions.check(items, model.d_sae, model.layers)
    by_direction: dict[str, set[int]] = {}
    for slot in (item for item in items if isinstance(item, Slot)):
        for row in slot.rows:
            if row.digest:
                by_direction.setdefault(row.digest, set()).add(row.number)
    if not by_direction:
        return
    from esr.steering import directions

    width = int(model.config.hidden_size)
    for digest, indices in by_direction.items():
        directions.rows(digest, sorted(indices))
        directions.load(digest).check_model(width, model.identity)


def _check_tokens(token_ids: Sequence[int], model: ModelInfo) -> None:
    if not token_ids:
        raise UserError("an empty prompt", "at least one token", "give a prompt")
    vocabulary = model.vocabulary
    if min(token_ids) < 0 or max(token_ids) >= vocabulary:
        bad = next(token for token in token_ids if not 0 <= token < vocabulary)
        raise UserError(
            f"token id {bad} is not in the vocabulary",
            f"0 to {vocabulary - 1}",
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
