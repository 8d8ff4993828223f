"""What more GPUs give: hours of the whole paper and of a thousand models: ``docs/scale.md``.

    python -m benchmarks.scale > docs/scale.md

The work is that of :mod:`benchmarks.costs`, rates and assumptions included: measured where a GPU
check has measured them, else estimated. Three things take time: the tokens, which every further
engine shares; the rounds of calibration, which follow one another however many engines there are;
and the judge, whose provider limits calls and tokens per minute.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks import costs, record
from benchmarks.costs import FIVE, IN_FLIGHT, LATENTS, Part, calibration_for, devices
from benchmarks.gpu import tables as gpu_tables
from esr import judge, models
from esr.pipeline.dry_run import total_hours

GPUS = (1, 2, 8, 64)
NODE = 8
"""GPUs of a machine of the cloud queue."""

MANY, MANY_KEY = 1000, "8b"
"""How many models the second table is for, and whose shape they have."""


@dataclass(frozen=True)
class Limits:
    """What a provider allows per minute, for one organisation and model."""

    calls: int
    input_tokens: int
    output_tokens: int
    spend_per_month: int
    source: str


SCALE_TIER = Limits(
    4_000,
    4_000_000,
    800_000,
    200_000,
    "https://platform.claude.com/docs/en/api/rate-limits",
)
"""Claude Haiku 4.5 in the highest tier without a contract, as that page gave it in 2026."""


@dataclass(frozen=True)
class Hours:
    """Hours of one run, by what they are spent on; all of it is at least the judge's."""

    tokens: float
    rounds: float
    judging: float

    @property
    def all(self) -> float:
        """Responses are judged while others are generated, so the slower of the two counts."""
        return max(self.tokens + self.rounds, self.judging)

    @property
    def bottleneck(self) -> str:
        """What the next gain would have to come from."""
        if self.judging > self.tokens + self.rounds:
            return "judge's limits"
        return "tokens" if self.tokens > self.rounds else "calibration rounds"

    def __add__(self, other: Hours) -> Hours:
        return Hours(
            self.tokens + other.tokens, self.rounds + other.rounds, self.judging + other.judging
        )


def judge_hours(parts: Iterable[Part], limits: Limits = SCALE_TIER) -> float:
    """Hours that the limits of the paper's judge make its verdicts take at least."""
    calls = spent_in = spent_out = 0
    for part in parts:
        for stage in part.stages:
            if stage.judged and "haiku" in part.judges:
                characters = 4.0 * stage.max_tokens
                estimate = judge.estimate("haiku", stage.responses, response_characters=characters)
                calls += estimate.calls
                spent_in += estimate.input_tokens
                spent_out += estimate.output_tokens
    shares = (
        calls / limits.calls,
        spent_in / limits.input_tokens,
        spent_out / limits.output_tokens,
    )
    return max(shares) / 60


def hours(part: Part, rate: float, gpus: int) -> Hours:
    """One experiment on one model, on so many GPUs."""
    judging = judge_hours([part])
    if not part.generates:
        return Hours(0.0, 0.0, judging)
    engines = max(1, gpus // devices(part.model))
    spent = {True: part.hours, False: 0.0}
    for stage in part.stages:
        if stage.at_once:
            latents = stage.responses // _per_latent(part.model)
            stage = calibration_for(part.model, latents, engines)
        spent[not stage.at_once] += total_hours([stage], rate, IN_FLIGHT, engines)
    return Hours(spent[True], spent[False], judging)


def _per_latent(key: str) -> int:
    settings = models.get(key).calibration
    return settings.rounds * settings.prompts_per_round


def one_after_the_other(rates: Mapping[str, float], gpus: int) -> Hours:
    """The whole paper, each experiment on all GPUs."""
    total = Hours(0.0, 0.0, 0.0)
    for part in costs.parts():
        total += hours(part, rates.get(part.model, 1.0), gpus)
    return total


def queue(rates: Mapping[str, float]) -> tuple[float, int]:
    """Hours until the last job of a queue ends, and the most GPUs at work at once.

    A job is one experiment on one model, on a machine of its own; those that replay start when
    experiment 1 of their model has ended. All share the judge's limits.
    """
    first, later = {}, dict.fromkeys(FIVE, 0.0)
    jobs = 0  # Those of experiment 1 have ended when these start.
    for part in costs.parts():
        if not part.generates:
            continue
        took = hours(part, rates[part.model], NODE).all
        if part.experiment == 1:
            first[part.model] = took
        else:
            jobs += 1
            later[part.model] = max(later[part.model], took)
    longest = max(first[key] + later[key] for key in FIVE)
    return max(longest, judge_hours(costs.parts())), NODE * max(jobs, len(first))


def many(rates: Mapping[str, float]) -> Iterator[tuple[int, Hours]]:
    """Experiment 1 on a thousand models, on machines with so many GPUs in all."""
    trials = costs.trials("trials", 5 * LATENTS)
    for gpus in (1, NODE, 64, MANY):
        # Models run side by side before one is spread over several GPUs: no rounds are wasted.
        at_once = min(gpus, MANY)
        part = Part(1, MANY_KEY, (calibration_for(MANY_KEY, LATENTS, 1), trials))
        each = hours(part, rates[MANY_KEY], 1)
        n = MANY / at_once
        yield gpus, Hours(each.tokens * n, each.rounds * n, each.judging * MANY)


def paper_rows(rates: Mapping[str, float]) -> Iterator[list[str]]:
    for gpus in GPUS:
        if gpus < devices("70b"):
            without = {key: rate for key, rate in rates.items() if key != "70b"}
            total = Hours(0.0, 0.0, 0.0)
            for part in costs.parts():
                if part.model in without:
                    total += hours(part, without[part.model], gpus)
            yield [f"{gpus}, without 70B, which needs {devices('70b')}", *_cells(total)]
        else:
            yield [str(gpus), *_cells(one_after_the_other(rates, gpus))]


def _cells(spent: Hours) -> list[str]:
    numbers = (spent.tokens, spent.rounds, spent.judging, spent.all)
    return [*(f"{n:,.1f}" for n in numbers), spent.bottleneck]


TEXT = """\
# Beyond one GPU

Computed by `python -m benchmarks.scale` from the work and the rates of [costs.md](costs.md).
{status}

`--replicas N`, or `--replicas auto`, runs engines side by side over Ray, on this machine or, with
`RAY_ADDRESS`, over a cluster: one command, one run folder, one journal. A replica that is lost is
started again and takes work again, elsewhere where its machine is gone; its requests go to the
others meanwhile. A run whose own process is killed leaves none of Ray's or vLLM's behind, and the
same command goes on where it was. Tested on two CPU replicas: one killed, both, the driver, every
generation once (`tests/engine/test_engine_replicas.py`); no machine with several GPUs and no
cluster of several machines has been at hand.

One engine stays within one machine: over several it would need pipeline parallelism, which leaves
the steering layer on one of them, and tensor parallelism between machines is not offered. A model
that fits on no machine is refused before anything loads, with what the memory plan asks of each
GPU.

## The whole paper

All experiments on the five models, H100 of 80 GB, one experiment after the other on all GPUs;
hours spent on each, and the bottleneck.

{paper}

- *Tokens* are shared by all engines; the trainings of experiment 4, on one GPU, are among them.
- *Calibration rounds* follow one another: each latent has
  {rounds} of them, and a round lasts as long as its longest response and its verdicts. More engines
  calibrate more latents at once, until all {latents:,} are; from then on nothing is gained.
- *Judge* is the least its provider's limits allow: {calls:,} calls, {tokens_in:,} input and
  {tokens_out:,} output tokens per minute for Claude Haiku 4.5 in the highest tier without a
  contract ({source}).
  Responses are judged while others are generated, so the slower of the two counts. The other
  judges of experiment 7 have limits of their own, which are left out.

**A queue in a cloud**: each experiment on each model is a job on a machine of {node} GPUs of its
own, the replays of a model together as soon as its experiment 1 has ended, at most {queue_gpus}
GPUs at once: {queue_hours:.1f} hours until the last one ends, of which the judge's limits alone are
{judge:.1f}. A machine that is taken away costs what was in flight: the command of its job is
repeated and goes on from the journal.

## A thousand models

Experiment 1 with {latents:,} latents on each of {many:,} models of the shape of `{many_key}`, each
on one GPU, as many side by side as there are GPUs. A model alone would calibrate quicker on
several GPUs; side by side none of them waits for the rounds of another.

{many_rows}

From {decides:,} GPUs on the judge decides. Its {many_calls:,} verdicts cost ${many_dollars:,.0f}
at list price, and half of that for trials with `--judge-batch`; that tier's cap is ${spend:,} a
month. A judge of one's own (`--judge openai:MODEL@URL`, its agreement by experiment 7) has no such
limits, and needs GPUs itself.
"""


def document(measured: Mapping[str, float]) -> str:
    """The whole document."""
    rates = costs.known_rates(measured)
    queue_hours, queue_gpus = queue(rates)
    calibration = models.get("70b").calibration
    many_calls, many_dollars = _many_judging()
    alone = next(spent for gpus, spent in many(rates) if gpus == 1)
    head = ("GPUs", "tokens", "calibration rounds", "judge, at least", "hours", "bottleneck")
    return TEXT.format(
        status=costs.status(measured),
        paper=record.table(head, paper_rows(rates)),
        rounds=calibration.rounds,
        latents=LATENTS,
        calls=SCALE_TIER.calls,
        tokens_in=SCALE_TIER.input_tokens,
        tokens_out=SCALE_TIER.output_tokens,
        source=SCALE_TIER.source,
        node=NODE,
        queue_hours=queue_hours,
        queue_gpus=queue_gpus,
        many=MANY,
        many_key=MANY_KEY,
        many_rows=record.table(
            head, ([f"{gpus:,}", *_cells(spent)] for gpus, spent in many(rates))
        ),
        many_calls=many_calls,
        many_dollars=many_dollars,
        spend=SCALE_TIER.spend_per_month,
        judge=judge_hours(costs.parts()),
        decides=math.ceil((alone.tokens + alone.rounds) / alone.judging),
    )


def _many_judging() -> tuple[int, float]:
    part = Part(
        *(1, MANY_KEY),
        (calibration_for(MANY_KEY, LATENTS, 1), costs.trials("trials", 5 * LATENTS)),
    )
    calls, dollars = part.judging()
    return MANY * calls, MANY * dollars


def main() -> None:
    """Print the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    print(document(gpu_tables.rates(gpu_tables.newest())), end="")


if __name__ == "__main__":
    main()
