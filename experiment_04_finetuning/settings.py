"""Everything that decides what a fine-tuned model becomes, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from simple_parsing import field

from esr.errors import UserError
from esr.pipeline.cli import incidental
from esr.runs import bounds
from esr.runs.bounds import bounded

SENTENCES = (2, 4)
"""Least and most off-topic sentences of a self-correction, and correct ones after it (A.3.5)."""

WRITER_TEMPERATURE = 0.8
"""Of the language model that writes the examples (A.3.5)."""

TEMPLATE = "template"
"""Name of the offline writer: the organism's own sentence templates."""


PERCENTS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
"""By a name: simple-parsing finds no docstring behind a field of several lines."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which examples are written and how they are mixed. Defaults: section 3.5, A.3.5."""

    percents: tuple[int, ...] = bounded(PERCENTS, gt=0, lt=100, identity=False, metavar="N")
    """Shares of self-correction, in per cent: one mix, one fine-tuned model each (3.5)."""

    examples: int = bounded(915, ge=2, le=10**6, metavar="N")
    """Examples per mix (A.3.5). A mix is smaller, at its exact share, where a pool is short."""

    normal_per_prompt: int = bounded(20, ge=1, le=10**4, metavar="N")
    """Normal responses written per prompt (A.3.5)."""

    writer: str = field(default="sonnet", metavar="NAME")
    """A judge's name (Claude Sonnet 4.5, A.3.5), or template: offline, for the organism only."""

    subjects: str = field(default="", metavar="FILE")
    """Off-topic subjects, a JSON list; default: data/off_topic_subjects.json, own 50 (A.3.5)."""

    validation: float = bounded(0.05, ge=0, lt=1, metavar="SHARE")
    """Share of a mix, and of the prompts, set apart to validate (A.3.5)."""

    def __post_init__(self) -> None:
        bounds.check(self)
        if len(set(self.percents)) < max(1, len(self.percents)):
            typed = " ".join(map(str, self.percents))
            raise UserError(f"--percents {typed}", "1 to 99, each once", "--percents 10 50 90")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """How a model is fine-tuned. Defaults: section 3.5, A.3.5, Llama-3.1-8B."""

    lora_rank: int = bounded(32, ge=1, metavar="N")
    """Rank of the update of every linear layer (A.3.5)."""

    lora_alpha: int = bounded(16, ge=1, metavar="N")
    """The update is scaled by alpha / rank (A.3.5)."""

    lora_dropout: float = bounded(0.05, ge=0, lt=1, metavar="P")
    """On the input of the update (A.3.5)."""

    learning_rate: float = bounded(2e-4, gt=0, metavar="LR")
    """Peak; cosine decay to 0 (A.3.5)."""

    warmup_steps: int = bounded(10, ge=0, metavar="N")
    """Linear warm-up (A.3.5)."""

    epochs: int = bounded(4, ge=1, metavar="N")
    """Passes over a mix (A.3.5)."""

    batch: int = bounded(2, ge=1, metavar="N")
    """Examples per device and forward pass (A.3.5)."""

    accumulation: int = bounded(4, ge=1, metavar="N")
    """Forward passes per step (A.3.5)."""

    max_length: int = bounded(4096, ge=1, metavar="N")
    """Longest example in tokens; longer ones are cut on the right and counted (A.3.5)."""

    weight_decay: float = bounded(0.0, ge=0, metavar="W")
    """Of AdamW (A.3.5)."""

    gradient_checkpointing: bool = incidental(False, action="store_true")
    """Compute activations twice to save memory; the result stays the same."""

    checkpoint_every: int = bounded(50, ge=1, identity=False, metavar="STEPS")
    """A training that is killed goes on from the last checkpoint."""

    threads: int = bounded(0, ge=0, identity=False, metavar="N")
    """Torch threads on the CPU; 0 leaves the choice to torch."""

    def __post_init__(self) -> None:
        bounds.check(self)


ORGANISM_DATA = DataSettings(writer=TEMPLATE)
"""The organism's world knows template sentences only: a language model cannot write for it."""

ORGANISM_LORA = LoraSettings(learning_rate=5e-3, batch=8, accumulation=1, threads=1)
"""What differs for the organism, and why.

It is a thousandth of the size and was trained from scratch at 1.5e-3, so the paper's 2e-4 hardly
moves it. Of two settings tried for 4 epochs of the 50 % mix on an earlier build of the organism,
2e-3 with steps of 32 examples and 5e-3 with the paper's 8, the second had the lower validation
loss (0.97 against 1.21) and was taken, before any fine-tuned model was evaluated. 8 x 1 is the
paper's step of 2 x 4 in one forward pass. One torch thread: two take 0.87 of the time for 1.5
times the work, so two trainings side by side use two cores better.
"""


def identity(settings: Any) -> dict[str, Any]:
    """The fields that can change a result, as plain data."""
    relevant = [f.name for f in fields(settings) if f.metadata.get("identity", True)]
    return {name: value for name, value in asdict(settings).items() if name in relevant}
