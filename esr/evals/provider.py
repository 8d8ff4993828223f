"""The model provider ``esr/MODEL``: our engine in process, steered per request.

What steers travels in ``extra_body`` of the generate config, as the journal writes it::

    config = GenerateConfig(extra_body={"interventions": [{"boost": 1013, "value": 300.0}]})

``-M engine=transformers`` and the like set options of :class:`esr.pipeline.cli.CommonConfig`;
``-M layers=3,5`` names layers that interventions may have beside the model's own two.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.hooks import Hooks, RunEnd, hooks
from inspect_ai.model import (
    ChatMessage,
    ChatMessageUser,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from rich.markup import escape

from esr.engine.base import Engine, Generation, GenerationRequest, Sampling
from esr.errors import UserError, unknown
from esr.models import chat
from esr.pipeline.cli import CommonConfig
from esr.pipeline.engines import start_engine
from esr.pipeline.settings import resolve
from esr.steering import interventions as iv

OPTIONS = ("engine", "pairing", "profile", "in_flight", "tensor_parallel", "replicas")
"""Options of a run that a model takes with ``-M``."""

KEYS = ("interventions", "scope", "prefix_token_ids", "repetition_penalty")
"""What ``extra_body`` may hold."""

SET = ("temperature", "top_p", "max_tokens", "seed", "extra_body")
"""Settings of a request that the engine follows."""

PASSING = ("max_retries", "timeout", "attempt_timeout", "max_connections", "adaptive_connections")
"""Settings of the client side, which change no response; Inspect follows them itself."""

_numbers = itertools.count()
_providers: list[EsrAPI] = []


def config_of(model: str, options: Mapping[str, Any]) -> CommonConfig:
    """Options of a run from what Inspect was given.

    Args:
        model: a key, or the path of a model file.
        options: ``-M`` of the command line.

    Raises:
        UserError: an option or a value that is not allowed.
    """
    for name in options:
        if name not in OPTIONS:
            raise unknown("model argument", name, [*OPTIONS, "layers"], "-M engine=vllm")
    named: dict[str, Any] = {"model_file": model} if model.endswith(".toml") else {"model": model}
    return CommonConfig(**named, **options)


@contextmanager
def one_line() -> Iterator[None]:
    """Bad input ends in one line, as on our own command lines, and not in a traceback."""
    try:
        yield
    except UserError as error:
        raise PrerequisiteError(f"error: {escape(str(error))}") from error


class EsrAPI(ModelAPI):
    """A model with its SAE; the engine starts at the first request, and ends with the run."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        **options: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        with one_line():
            self.layers = _layers(options.pop("layers", ()))
            self.options = config_of(model_name, options)
            self.spec = resolve(self.options)
        self.profile = self.spec.profile(self.options.profile)
        self._chat: chat.ChatFormat | None = None
        self._engine: Engine | None = None
        self._starting: asyncio.Lock | None = None
        _providers.append(self)

    def max_connections(self) -> int:
        """Requests in flight."""
        return self.options.in_flight

    def max_tokens(self) -> int:
        """The model's cap (paper section 2.1), where a request names none."""
        return self.spec.max_tokens

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,  # noqa: ARG002 (Inspect's interface)
        config: GenerateConfig,
    ) -> ModelOutput:
        """One response to one user turn.

        Raises:
            UserError: another conversation than one user turn, tools, or a setting that would be
                ignored in silence.
        """
        self._chat = self._chat or chat.load(self.spec, self.profile.chat_variant)
        prompt_ids = self._chat.prompt_ids(_prompt(input, tools))
        request = self._request(prompt_ids, config)
        engine = await self._started()
        return self._output(await engine.generate(request), len(prompt_ids))

    def _request(self, prompt_ids: tuple[int, ...], config: GenerateConfig) -> GenerationRequest:
        given = config.model_dump(exclude_none=True)
        if ignored := [name for name in given if name not in (*SET, *PASSING)]:
            raise UserError(
                f"the engine has no {', '.join(ignored)}", ", ".join(SET), "leave it out"
            )
        body = config.extra_body or {}
        for name in body:
            if name not in KEYS:
                raise unknown("key of extra_body", name, KEYS, "interventions")
        own: dict[str, Any] = {"max_tokens": self.spec.max_tokens, "seed": 0}
        own["repetition_penalty"] = self.profile.repetition_penalty
        asked = {name: given[name] for name in SET[:-1] if name in given}
        if "repetition_penalty" in body:
            asked["repetition_penalty"] = body["repetition_penalty"]
        return GenerationRequest(
            request_id=f"inspect-{next(_numbers)}",
            prompt_token_ids=prompt_ids,
            interventions=_interventions(body.get("interventions") or ()),
            sampling=Sampling(**{**own, **asked}),
            scope=body.get("scope", "all"),
            prefix_token_ids=tuple(body.get("prefix_token_ids", ())),
        )

    def _output(self, answer: Generation, prompt_tokens: int) -> ModelOutput:
        reason: StopReason = "max_tokens" if answer.finish_reason == "length" else "stop"
        output = ModelOutput.from_content(f"esr/{self.model_name}", answer.text, reason)
        new = len(answer.token_ids)
        output.usage = ModelUsage(
            input_tokens=prompt_tokens, output_tokens=new, total_tokens=prompt_tokens + new
        )
        output.metadata = {"token_ids": list(answer.token_ids)}
        return output

    async def _started(self) -> Engine:
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self._engine is None:
                self._engine = await start_engine(self.options, self.spec, self.layers)
            return self._engine

    async def aclose(self) -> None:
        """Free the model; a later request loads it again."""
        engine, self._engine, self._starting = self._engine, None, None
        if engine is not None:
            await engine.close()


@modelapi(name="esr")
def provider() -> type[ModelAPI]:
    """The provider by its name; Inspect puts a function in the place of a decorated class."""
    return EsrAPI


def _layers(given: Any) -> tuple[int, ...]:
    """``-M layers=3,5``: a number, a list, or numbers with commas between them."""
    listed = str(given).split(",") if isinstance(given, str | int) else list(given)
    try:
        return tuple(int(layer) for layer in listed)
    except (TypeError, ValueError) as error:
        raise UserError(f"layers {given!r}", "numbers of layers", "-M layers=3,5") from error


def _prompt(messages: Sequence[ChatMessage], tools: Sequence[ToolInfo]) -> str:
    if tools or len(messages) != 1 or not isinstance(messages[0], ChatMessageUser):
        raise UserError(
            f"{len(messages)} messages and {len(tools)} tools",
            "one user turn (paper section 2.1)",
            "leave system messages, tools and earlier turns out",
        )
    return messages[0].text


def _interventions(data: Any) -> tuple[iv.Intervention, ...]:
    try:
        return iv.from_json(data)
    except (LookupError, TypeError, ValueError, StopIteration, AttributeError) as error:
        raise UserError(
            f"interventions {data!r}", '[{"boost": LATENT, "value": NUMBER}, ...]', "correct them"
        ) from error


@hooks(name="esr-engines", description="Closes the engines of esr/ models when a run ends.")
class CloseEngines(Hooks):
    """Inspect has no end of a model, but an end of a run."""

    async def on_run_end(self, data: RunEnd) -> None:
        """Close every engine that is open."""
        del data
        for provider in _providers:
            await provider.aclose()
