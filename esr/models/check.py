"""Whether a model will work: everything that can be known without loading its weights.

What lies on this machine is read; what lies elsewhere is asked for once, and said to be not
checked where it cannot be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from esr.errors import UserError, unknown
from esr.models import chat, prompts
from esr.models.labels import load_labels
from esr.models.prompts import PromptSet
from esr.models.spec import ModelSpec
from esr.models.weights import check_layers, is_local, load_config, shape_from_config
from esr.runs import hub

WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
"""Files of a model folder that hold weights."""


@dataclass(frozen=True)
class Report:
    """What a check came to.

    Attributes:
        checked: one line for each part that is in order.
        faults: one for each that cannot work.
        unchecked: one line for each that could not be looked at, with the reason.
    """

    checked: tuple[str, ...]
    faults: tuple[UserError, ...]
    unchecked: tuple[str, ...]


class _NotHereError(Exception):
    """A part that is not on this machine and is no fault."""


CheckJudge = Callable[[str], object]
"""Raises UserError for a name that is no judge."""


def check(spec: ModelSpec, check_judge: CheckJudge) -> Report:
    """Check every part of a model; a part with a fault does not hide the next one's."""
    checked, unchecked = [], []
    faults: dict[str, UserError] = {}
    for part, step in _steps(spec, check_judge):
        try:
            checked.append(f"{part}: {step()}")
        except _NotHereError as reason:
            unchecked.append(f"{part}: {reason}")
        except UserError as error:
            faults.setdefault(str(error), error)
    return Report(tuple(checked), tuple(faults.values()), tuple(unchecked))


def _steps(spec: ModelSpec, check_judge: CheckJudge) -> Iterator[tuple[str, Callable[[], str]]]:
    """A part, and what checks it: returns a line about it, or raises."""

    def judge() -> str:
        check_judge(spec.judge)
        return spec.judge

    yield "judge", judge
    yield "prompts", lambda: _prompts(spec)
    yield "quantization", lambda: _quantization(spec)
    yield "SAE", lambda: _dictionary(spec)
    yield "labels", lambda: _labels(spec)
    yield "weights", lambda: _weights(spec)
    yield "tokenizer", lambda: _tokenizer(spec)


def _prompts(spec: ModelSpec) -> str:
    prompt_set = prompts.load("", spec.prompt_set)
    count = len(prompt_set.prompts)
    for name, value in (
        ("n_trials", spec.n_trials),
        ("calibration.prompts_per_round", spec.calibration.prompts_per_round),
    ):
        if value > count:
            raise UserError(
                f"{name} is {value}: a prompt is asked once, and there are {count}",
                f"1 to {count}",
                f"lower {name}, or name a longer prompt_set",
            )
    return f"{prompt_set.name}, {count}"


def _quantization(spec: ModelSpec) -> str:
    if not spec.quantization:
        return f"none, {spec.dtype}"
    try:
        from vllm.model_executor.layers.quantization import QuantizationMethods
    except ImportError as error:
        raise _NotHereError(f"not checked: vLLM does not load here ({error})") from error
    names = get_args(QuantizationMethods)
    if spec.quantization not in names:
        raise unknown("quantization", spec.quantization, names, 'quantization = "fp8_per_tensor"')
    return spec.quantization


def _dictionary(spec: ModelSpec) -> str:
    from esr.steering import sae

    if spec.sae.folder is None:
        repository = sae.check_release(spec.sae)
        if hub.cached(repository) is None:
            raise _NotHereError(_not_downloaded(spec.sae.describe(), repository))
    dictionary = sae.load(spec.sae)
    if (dictionary.d_model, dictionary.d_sae) != (spec.d_model, spec.d_sae):
        raise UserError(
            f"SAE {spec.sae.describe()} has {dictionary.d_sae} latents of width "
            f"{dictionary.d_model}, the model's entry says {spec.d_sae} of {spec.d_model}",
            "d_sae and d_model of the SAE",
            f"d_sae = {dictionary.d_sae}, d_model = {dictionary.d_model}",
        )
    return f"{dictionary.d_sae:,} latents of width {dictionary.d_model:,}"


def _labels(spec: ModelSpec) -> str:
    if not spec.label_file.is_file() and spec.neuronpedia:
        raise _NotHereError(
            f"not downloaded yet: python -m esr.upstream labels {spec.key} (or the model's file)"
        )
    count = len(load_labels(spec))
    if count < spec.n_latents:
        raise UserError(
            f"{spec.label_file} has labels of {count} latents, n_latents is {spec.n_latents}",
            "a label for each latent that may be boosted",
            f"lower n_latents, or add labels to {spec.label_file}",
        )
    return f"{count:,} of {spec.d_sae:,} latents"


def _on_this_machine(spec: ModelSpec) -> ModelSpec:
    """The model with ``hf_id`` as a folder, whether it is a local one or in the hub's cache."""
    if is_local(spec):
        if spec.revision != "main":
            raise UserError(
                f"revision is {spec.revision!r}, but {spec.hf_id} is a folder, which has none",
                "a revision of a Hugging Face id",
                "leave revision out",
            )
        return spec
    snapshot = hub.cached(spec.hf_id, spec.revision)
    if snapshot is None:
        raise _NotHereError(_not_downloaded(spec.hf_id, spec.hf_id, spec.revision))
    return replace(spec, hf_id=str(snapshot), revision="main")


def _not_downloaded(what: str, repository: str, revision: str = "main") -> str:
    """One line about something on the hub, which is asked whether it exists."""
    reason = hub.absence(repository, revision)
    if reason and (here := hub.revisions(repository)):
        raise UserError(
            f"{repository} is on this machine, but not its revision {revision!r}",
            f"{', '.join(here)}, or a network to ask for others ({reason})",
            f'revision = "{here[0]}"',
        )
    exists = f"not checked: Hugging Face cannot be reached ({reason})" if reason else "it exists"
    return f"{what} is not on this machine; {exists}"


def _weights(spec: ModelSpec) -> str:
    """Configuration against the entry, and whether there are weights beside it."""
    here = _on_this_machine(spec)
    config = load_config(here)
    check_layers(spec, config, spec.d_model)
    for profile in spec.profiles.values():
        if profile.steering_layer is not None:
            check_layers(replace(spec, steering_layer=profile.steering_layer), config, spec.d_model)
    if spec.shape is not None:
        _same_shape(spec, config.to_dict())
    if not any(file for form in WEIGHTS for file in Path(here.hf_id).glob(form)):
        if is_local(spec):
            raise UserError(
                f"{here.hf_id} has no weights",
                f"a file such as {', '.join(WEIGHTS)}",
                "copy or train the weights; for the organism: python -m esr.organism build",
            )
        raise _NotHereError(f"the weights of {spec.hf_id} are not downloaded yet")
    return f"{config.num_hidden_layers} layers of width {config.hidden_size:,} in {here.hf_id}"


def _same_shape(spec: ModelSpec, config: dict[str, object]) -> None:
    try:
        actual = shape_from_config(config)
    except (KeyError, ValueError):
        return
    for name, value in vars(actual).items():
        declared = getattr(spec.shape, name)
        if declared != value:
            raise UserError(
                f"shape.{name} is {declared}, the model's config.json has {value}",
                str(value),
                "correct [shape], or leave it out for a local folder",
            )


def _tokenizer(spec: ModelSpec) -> str:
    """Every prompt rendered, in every profile, with room for an answer."""
    here, prompt_set = _on_this_machine(spec), prompts.load("", spec.prompt_set)
    config = load_config(here)
    context = min(spec.context, int(getattr(config, "max_position_embeddings", spec.context)) - 1)
    wanted = max(spec.max_tokens, spec.calibration.max_tokens)
    longest: tuple[int, ...] = ()
    for name, profile in spec.profiles.items():
        longest = _longest(chat.load(here, profile.chat_variant), prompt_set)
        if max(longest) >= config.vocab_size:
            raise UserError(
                f"profile {name}: chat_variant {profile.chat_variant!r} writes token "
                f"{max(longest)}, which this model does not have",
                f"tokens 0 to {config.vocab_size - 1}",
                'chat_variant = "template"',
            )
        if len(longest) + wanted > context:
            raise UserError(
                f"a prompt of {len(longest)} tokens and an answer of {wanted} exceed the context",
                f"{context} tokens together",
                "lower max_tokens, or raise context where the model allows it",
            )
    return f"longest prompt {len(longest)} tokens, context {context}"


def _longest(rendered: chat.ChatFormat, prompt_set: PromptSet) -> tuple[int, ...]:
    """Token ids of the longest prompt.

    Raises:
        UserError: the chat template fails, or leaves the question out.
    """
    ids = []
    for prompt in prompt_set.prompts:
        try:
            text, tokens = rendered.text(prompt.text), rendered.prompt_ids(prompt.text)
        # A template is a program: it can raise anything.
        except Exception as error:
            raise _bad_template(f"fails: {type(error).__name__}: {error}") from error
        if prompt.text.strip() not in text or not tokens:
            raise _bad_template(f"leaves out the question {prompt.text[:40]!r}")
        ids.append(tokens)
    return max(ids, key=len)


def _bad_template(fault: str) -> UserError:
    return UserError(
        f"the model's chat template {fault}",
        "a template that renders one user turn",
        "name the instruct version of the model, or correct chat_template.jinja",
    )
