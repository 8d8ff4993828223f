"""The context of a run: a model with its judge and its run folder, as every experiment gets them.

The engine starts on first use only: a run whose generations are all on disk needs no GPU.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from esr.engine.base import Engine, Generation, GenerationRequest, Reading, ReadRequest, Sampling
from esr.errors import SpendLimitError
from esr.judge.ledger import Ledger
from esr.models import GenerationProfile, ModelSpec, chat
from esr.models.prompts import PromptSet
from esr.runs import progress
from esr.runs.folder import RunFolder

if TYPE_CHECKING:
    from tqdm import tqdm

    from esr.judge.base import Judge, JudgeRequest, Verdict
    from esr.pipeline.replay import ReplayedRun


class Chat(Protocol):
    """How prompts become token ids; :class:`esr.models.chat.ChatFormat` in every real run."""

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Token ids of the user turn with the generation prompt."""
        ...

    def user_turn_ids(self, prompt: str) -> tuple[int, ...]:
        """Token ids of the user turn alone."""
        ...

    def conversation_ids(self, prompt: str, response: str) -> tuple[int, ...]:
        """Token ids of the whole chat."""
        ...

    def prefix_ids(self, prompt: str, prefix: str) -> tuple[int, ...]:
        """Token ids of a given beginning of the response, which follow :meth:`prompt_ids`."""
        ...

    def response_ids(self, response: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Token ids of a response that follows :meth:`prompt_ids`, and their characters."""
        ...


@dataclass
class RunContext:
    """Everything a list of trials needs.

    Attributes:
        spec: the model.
        profile: how prompts are rendered and tokens drawn.
        prompts: the prompt set of the run.
        judge: grades responses.
        urgent_judge: grades those whose scores are waited for, where that is another.
        run: the open run folder.
        seed: the run seed; every other seed derives from it.
        in_flight: requests sent to the engine at once.
        ledger: what judging costs, and may cost.
        start_engine: makes the engine, called at most once.
        rate_labels: concreteness of latent labels, 0 to 100.
        settings: everything that can change what a trial yields, beyond its spec.
        parent: the run whose trials are replayed, where there is one.
    """

    spec: ModelSpec
    profile: GenerationProfile
    prompts: PromptSet
    judge: Judge
    run: RunFolder
    seed: int
    start_engine: Callable[[], Awaitable[Engine]]
    rate_labels: Callable[[Sequence[str]], Awaitable[list[float]]]
    settings: Mapping[str, Any]
    ledger: Ledger
    parent: ReplayedRun | None = None
    urgent_judge: Judge | None = None
    in_flight: int = 64
    quiet: bool = False
    _engine: Engine | None = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.in_flight)

    @property
    def replayed(self) -> ReplayedRun:
        """The parent of an experiment that has one."""
        if self.parent is None:
            raise RuntimeError("this experiment was opened without a parent run")
        return self.parent

    @cached_property
    def chat(self) -> Chat:
        """The chat format of the model, loaded on first use."""
        return chat.load(self.spec, self.profile.chat_variant)

    def experiment_config(self) -> dict[str, Any]:
        """``experiment_config`` of ``results.json``: the options and what they resolved to."""
        return {
            **self.run.metadata.config,
            "model_name": self.spec.hf_id if not self.spec.organism else self.spec.key,
            "model_title": self.spec.title,
            "organism": self.spec.organism,
            "judge_id": self.judge.info.id,
            "rubric_hash": self.judge.info.rubric_hash,
            "prompt_set": self.prompts.name,
            "prompt_digest": self.settings["prompts"],
            "steering_layer": self.spec.steering_layer,
            "feature_layer": self.spec.feature_layer,
            "run_id": self.run.metadata.run_id,
        }

    async def engine(self) -> Engine:
        """The engine, started on first use; what it says of itself goes into ``run.json``."""
        async with self._starting:
            if self._engine is None:
                self._engine = await self.start_engine()
                self.run.update(engine=self._engine.describe())
            return self._engine

    def sampling(self, seed: int, max_tokens: int = 0) -> Sampling:
        """The paper's sampling with this model's cap and this profile's penalty."""
        return Sampling(
            max_tokens=max_tokens or self.spec.max_tokens,
            repetition_penalty=self.profile.repetition_penalty,
            seed=seed,
        )

    async def generate(self, request: GenerationRequest) -> Generation:
        """Generate within the limit of requests in flight."""
        engine = await self.engine()
        async with self._slots:
            return await engine.generate(request)

    async def read(self, request: ReadRequest) -> Reading:
        """Read latents within the limit of requests in flight."""
        engine = await self.engine()
        async with self._slots:
            return await engine.read(request)

    async def preflight(self) -> None:
        """Ask the judge one tiny question, before an engine is started for nothing.

        Raises:
            JudgeError: it does not answer; says why.
            UserError: its key is missing.
        """
        from esr.judge.llm import client_of

        client = client_of(self.judge)
        if client is not None and self.run.status != "complete":
            # Where the limit is reached, the first call that is needed says so: there may be none.
            with suppress(SpendLimitError):
                await client.ready()

    async def grade(self, request: JudgeRequest, *, urgent: bool = False) -> Verdict:
        """Judge one response.

        Args:
            request: what to judge.
            urgent: the run waits for this verdict, as a calibration does after every round.

        Raises:
            SpendLimitError: the limit has been reached; nothing was sent.
            JudgeError: the judge rejects what it is asked, or cannot be reached.
        """
        return await ((urgent and self.urgent_judge) or self.judge).grade(request)

    async def close(self) -> None:
        """Close the judges. The engine is closed by whoever gave :attr:`start_engine`."""
        await self.judge.close()
        if self.urgent_judge is not None:
            await self.urgent_judge.close()

    @contextmanager
    def progress(self, total: int, description: str) -> Iterator[Progress]:
        """A progress bar with rate, time left and judge spend."""
        with progress.bar(total, description, "trial", quiet=self.quiet) as bar:
            yield Progress(bar, self)


@dataclass(frozen=True)
class Progress:
    """A bar that several lists of trials may share; None shows nothing."""

    bar: tqdm[Any] | None
    context: RunContext

    def step(self, count: int = 1) -> None:
        """Count ``count`` finished trials."""
        if self.bar is None:
            return
        if spent := self.context.ledger.spent:
            self.bar.set_postfix_str(f"judge ${spent:.2f}", refresh=False)
        self.bar.update(count)
