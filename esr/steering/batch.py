"""What a worker does to the residual stream of a mixed batch. Knows torch, not vLLM.

A step of the engine feeds one matrix through the model: a *row* per token. Each request owns a
*span*, consecutive rows for consecutive positions of its text: a piece of its prompt, or one row
while it decodes. A request that steers has a line in the plan table, with a *slot* per latent:

    request  task                          rows of this step         slots
    -------  ----------------------------  ------------------------  ----------------------------
    a        Boost(7, 2.0)                 0  ] span (0, 1)          [7: boost 2]
    b        nothing                       1    not touched
    c        Clamp(3), Boost(9, -1), from  2    prompt: not touched
             the response on (first = 40)  3  ] span (3, 2)          [3: target 0, gain -1]
                                           4  ]                      [9: boost -1]

    begin_step   lays out the spans and expands the slots of each request to its rows: the plan
                 (:mod:`esr.steering.plan`). While requests only decode, layout and
                 plan stay the same from step to step, and are reused.
    touch        called with the output of every hooked layer: at the steering layer, the blocks
                 of the plan; row i reads and writes latents of its own request only. At the
                 feature layer,
                 :mod:`esr.steering.reads`.
    end_step     fails if a layer that had work to do was not called.

Requests are kept by id, never by place in a list. Before its first step a request is admitted: its
latents' SAE rows are put on the device (:class:`esr.steering.row_cache.RowCache`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esr.steering import interventions
from esr.steering.plan import Block, build
from esr.steering.reads import Reads
from esr.steering.row_cache import RowCache
from esr.steering.rows import Slots
from esr.steering.sae import Dictionary
from esr.steering.stream import SUM, StreamProbe, Streams, as_rows
from esr.steering.task import Task


@dataclass(frozen=True)
class Layout:
    """The rows of one step, in the order in which the model sees them.

    Attributes:
        request_ids: owner of each run of rows.
        counts: rows of each.
        positions: text position of the first row of each.
        scheduled_ids: the same requests in scheduling order; used only to reproduce the
            faulty pairing of the authors' fork (DEVIATIONS.md).
    """

    request_ids: Sequence[str]
    counts: Sequence[int]
    positions: Sequence[int]
    scheduled_ids: Sequence[str]


@dataclass(frozen=True)
class _Steered:
    """A request with interventions, and the latents it holds."""

    task: Task
    serial: int
    latents: tuple[int, ...]
    slots: Slots


class Steering:
    """The state of one worker.

    Args:
        dictionary: rows are read from its file on demand.
        device: of the model.
        steering_layer: where the interventions act.
        feature_layer: where latents are read, after the interventions if it is the same.
        scheduler_order: pair the i-th request in scheduling order with the i-th run of rows,
            as the authors' fork does. False pairs by request id.
        reads: whether this rank keeps readings; one rank of a tensor-parallel group does.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        device: torch.device,
        *,
        steering_layer: int = 0,
        feature_layer: int = 0,
        scheduler_order: bool = False,
        reads: bool = True,
    ) -> None:
        self._dictionary = dictionary
        self._device = device
        self._steering_layer, self._feature_layer = steering_layer, feature_layer
        self._forms: dict[int, str] = {}
        self._spans: list[tuple[_Steered, int, int]] = []
        self.probe: StreamProbe | None = None
        self._scheduler_order = scheduler_order
        self._keeps_reads = reads
        self._bank = RowCache(dictionary, device)
        self.reads = Reads(dictionary, device)
        self._steered: dict[str, _Steered] = {}
        self._serial = 0
        self._signature: tuple[tuple[int, int, int], ...] = ()
        self._blocks: list[Block] = []
        self._steer_due = 0
        self.steered_rows = 0
        self.plans_built = 0
        self.deviation: float | None = None
        """While it is a number: how far the stream after steering lies off what was to be added,
        relative to the row's largest entry; the worst of all rows since it was set to 0."""

    def start_probe(self) -> None:
        """Begin to measure where the stream is in the layers' outputs."""
        layers = tuple(sorted({self._steering_layer, self._feature_layer}))
        self.probe = StreamProbe(self._dictionary.d_model, layers)

    def end_probe(self) -> Streams:
        """What was measured; from now on it decides where the stream is read and written."""
        assert self.probe is not None
        results, self.probe = self.probe.results(), None
        self._forms = results[0]
        return results

    def admit(self, request_id: str, task: Task) -> None:
        """Remember a request that is about to be scheduled for the first time, or again."""
        self.forget(request_id)
        if task.interventions:
            latents = interventions.latents_of(task.interventions)
            slots = Slots.of(task.interventions, self._bank.acquire(latents))
            self._serial += 1
            self._steered[request_id] = _Steered(task, self._serial, latents, slots)
        if task.read is not None and self._keeps_reads:
            self.reads.admit(request_id, task.key, task.read)

    def forget(self, request_id: str) -> None:
        """Forget a finished request."""
        steered = self._steered.pop(request_id, None)
        if steered is not None:
            self._bank.release(steered.latents)
        self.reads.forget(request_id)

    def begin_step(self, layout: Layout) -> None:
        """Lay out the rows of the coming step. The plan is rebuilt only when it changes."""
        partners = layout.scheduled_ids if self._scheduler_order else layout.request_ids
        spans: list[tuple[_Steered, int, int]] = []
        self.reads.begin_step()
        row = 0
        for request_id, partner, count, position in zip(
            layout.request_ids, partners, layout.counts, layout.positions, strict=True
        ):
            steered = self._steered.get(partner)
            if steered is not None:
                skip = max(0, steered.task.first - position)
                if skip < count:
                    spans.append((steered, row + skip, count - skip))
            self.reads.lay_out(request_id, row, count, position)
            row += count
        signature = tuple((steered.serial, first, n) for steered, first, n in spans)
        if signature != self._signature:
            self._blocks = build([(s.slots, first, n) for s, first, n in spans], self._device)
            self.plans_built += bool(spans)
            self._signature = signature
        self._spans = spans
        self._steer_due = sum(n for _, _, n in spans)

    def end_step(self) -> None:
        """Stop rather than go on with tokens that were silently not steered or not read.

        Raises:
            RuntimeError: a hook did not run, e.g. because a compiled graph lacks it.
        """
        rows, texts = self._steer_due, self.reads.due
        self._steer_due = 0
        if rows or texts:
            raise RuntimeError(
                f"the hook in the model did not run in this step: {rows} rows are not steered, "
                f"{texts} texts not read"
            )

    def touch(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Steer and read at a hooked layer, in place.

        Args:
            layer: which.
            hidden: [n_rows, d_model] or [1, n_rows, d_model], the first part of its output.
            residual: the same shape, the second part, if the layer returns a pair. The residual
                stream is the sum of the two, unless a probe has shown the second to be stale.
        """
        if self.probe is not None:
            self.probe.touch(layer, hidden, residual)
            return
        rows = as_rows(hidden)
        is_sum = residual is not None and self._forms.get(layer, SUM) == SUM
        added = as_rows(residual) if residual is not None and is_sum else None
        if layer == self._steering_layer and self._steer_due:
            self._steer(rows, added)
        if layer == self._feature_layer:
            self.reads.touch(rows, added)

    def _steer(self, hidden: Tensor, residual: Tensor | None) -> None:
        before = None
        if self.deviation is not None:
            before = hidden.clone() if residual is None else hidden + residual
        for block in self._blocks:
            rows = block.rows
            stream = hidden[rows] if residual is None else hidden[rows] + residual[rows]
            steered = block.steer(stream, self._bank.bank)
            if residual is None:
                hidden[rows] = steered
            else:
                residual[rows] = steered
                hidden[rows] = 0
            self.steered_rows += stream.shape[0]
            self._steer_due -= stream.shape[0]
        if before is not None:
            self._compare(before, hidden if residual is None else hidden + residual)

    def _compare(self, before: Tensor, after: Tensor) -> None:
        """Take into :attr:`deviation` how far this step is off its boosts, on all rows: those of
        unsteered requests are to stay as they were."""
        expected = before.float()
        for steered, first, n in self._spans:
            for item in steered.task.interventions:
                decoder = self._dictionary.bank([item.latent]).decoder[0].to(expected.device)
                expected[first : first + n] += item.value * decoder
        n_rows = self._spans[-1][1] + self._spans[-1][2]
        off = (after.float() - expected)[:n_rows].abs().amax(1)
        worst = float((off / expected[:n_rows].abs().amax(1).clamp(min=1e-30)).max())
        self.deviation = max(self.deviation or 0.0, worst)
