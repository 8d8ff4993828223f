"""What a worker does to the residual stream of a mixed batch. Knows torch, not vLLM.

A step of the engine feeds one matrix through the model: a row of the *stream* per token. Each
request owns a *span*, consecutive rows for consecutive positions of its text: a piece of its
prompt, or one row while it decodes. What a request asks for is, at every hooked layer, a list of
*slots* from position to position (:mod:`esr.steering.slots`); what slots read and write are the
*rows in play*, which lie in one bank on the device (:class:`esr.steering.row_cache.RowCache`):

    request  asks for                    rows of this step          slots at layer 33
    -------  --------------------------  -------------------------  ------------------------------
    a        Boost(7, 2.0)               0  ] span (0, 1)           [write 7: 2]
    b        nothing                     1    not touched
    c        Clamp(3), Boost(9, -1),     2    prompt: not touched
             scope "generated"           3  ] span (3, 2)           [write 3: 0 - p(3)]
             (the prompt has 40 tokens)  4  ]                       [write 9: -1]

    bank      row 0: latent 7     row 1: latent 3     row 2: latent 9     row 3: ...

    begin_step   lays out the spans and expands the slots of each request to its rows: a plan for
                 every layer (:mod:`esr.steering.plan`). While requests only decode, layout and
                 plan stay the same from step to step, and are reused.
    touch        called with the output of every hooked layer: the blocks of the layer's plan; a
                 row reads and writes what its own request asks for only. Then
                 :mod:`esr.steering.reads`, at the feature layer or where states are read.
    end_step     fails if a layer that had work to do was not called.

Requests are kept by id, never by place in a list. Before its first step a request is admitted: its
rows are put on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from esr.steering.interventions import Row
from esr.steering.pairing import PairingCounts
from esr.steering.plan import Block, build
from esr.steering.reads import Reads
from esr.steering.row_cache import RowCache, load
from esr.steering.sae import Dictionary
from esr.steering.slots import Phase, phases
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
    """A request with interventions, and the rows it holds."""

    task: Task
    serial: int
    rows: tuple[Row, ...]
    phases: dict[int, list[Phase]]


@dataclass(frozen=True)
class _Span:
    """Rows of one request in one phase."""

    steered: _Steered
    phase: Phase
    first: int
    n: int

    @property
    def signature(self) -> tuple[int, int, int, int]:
        return self.steered.serial, self.phase.start, self.first, self.n


@dataclass
class _Layer:
    """One steered layer: its plan, the spans it was built from, and how many rows wait for it."""

    layer: int
    signature: list[tuple[int, int, int, int]] = field(default_factory=list)
    spans: list[_Span] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    due: int = 0


class Steering:
    """The state of one worker.

    Args:
        dictionary: rows are read from its file on demand.
        device: of the model.
        layers: where interventions may act.
        feature_layer: where latents are read, after the interventions if it is one of them.
        scheduler_order: pair the i-th request in scheduling order with the i-th run of rows,
            as the authors' fork does. False pairs by request id.
        reads: whether this rank keeps readings; one rank of a tensor-parallel group does.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        device: torch.device,
        *,
        layers: Sequence[int] = (0,),
        feature_layer: int = 0,
        scheduler_order: bool = False,
        reads: bool = True,
    ) -> None:
        self._dictionary = dictionary
        self._device = device
        self._layers = {layer: _Layer(layer) for layer in sorted(set(layers))}
        self._feature_layer = feature_layer
        self._forms: dict[int, str] = {}
        self.probe: StreamProbe | None = None
        self.pairing = PairingCounts() if scheduler_order else None
        """Under the faulty pairing alone."""
        self._keeps_reads = reads
        self._cache = RowCache(dictionary, device)
        self.reads = Reads(dictionary, device, feature_layer)
        self._steered: dict[str, _Steered] = {}
        self._serial = 0
        self.steered_rows = 0
        self.plans_built = 0
        self.deviation: float | None = None
        """While it is a number: how far the stream after steering lies off what was to be added,
        relative to the row's largest entry; the worst of all rows since it was set to 0."""

    @property
    def hooked(self) -> tuple[int, ...]:
        """Layers whose output must be brought to :meth:`touch`, ascending."""
        return tuple(sorted({*self._layers, self._feature_layer}))

    def start_probe(self) -> None:
        """Begin to measure where the stream is in the layers' outputs."""
        self.probe = StreamProbe(self._dictionary.d_model, self.hooked)

    def end_probe(self) -> Streams:
        """What was measured; from now on it decides where the stream is read and written."""
        assert self.probe is not None
        results, self.probe = self.probe.results(), None
        self._forms = results[0]
        return results

    def admit(self, request_id: str, task: Task) -> None:
        """Remember a request that is about to be scheduled for the first time, or again."""
        self.forget(request_id)
        if task.effects:
            rows = task.rows
            places = self._cache.acquire(rows)
            self._serial += 1
            steered = _Steered(task, self._serial, rows, phases(task.effects, places))
            self._steered[request_id] = steered
            if self.pairing is not None:
                self.pairing.admit(request_id, task)
        if task.read is not None and self._keeps_reads:
            self.reads.admit(request_id, task.key, task.read)

    def forget(self, request_id: str) -> None:
        """Forget a finished request."""
        steered = self._steered.pop(request_id, None)
        if steered is not None:
            self._cache.release(steered.rows)
            if self.pairing is not None:
                self.pairing.forget(request_id)
        self.reads.forget(request_id)

    def begin_step(self, layout: Layout) -> None:
        """Lay out the rows of the coming step. A plan is rebuilt only when it changes."""
        spans: dict[int, list[_Span]] = {layer: [] for layer in self._layers}
        self.reads.begin_step()
        partners = layout.request_ids if self.pairing is None else layout.scheduled_ids
        row = 0
        for request_id, partner, count, position in zip(
            layout.request_ids, partners, layout.counts, layout.positions, strict=True
        ):
            steered = self._steered.get(partner)
            if steered is not None:
                for layer, parts in steered.phases.items():
                    spans[layer] += _spans(steered, parts, row, count, position)
            self.reads.lay_out(request_id, row, count, position)
            if self.pairing is not None:
                self.pairing.add(request_id, partner, count)
            row += count
        for layer, state in self._layers.items():
            self._plan(state, spans[layer])

    def _plan(self, state: _Layer, spans: list[_Span]) -> None:
        signature = [span.signature for span in spans]
        if signature != state.signature:
            wanted = [(span.phase.slots, span.first, span.n) for span in spans]
            state.blocks = build(wanted, self._device)
            self.plans_built += bool(spans)
            state.signature = signature
        state.spans = spans
        state.due = sum(span.n for span in spans)

    def end_step(self) -> None:
        """Stop rather than go on with tokens that were silently not steered or not read.

        Raises:
            RuntimeError: a hook did not run, e.g. because a compiled graph lacks it.
        """
        rows, texts = sum(state.due for state in self._layers.values()), self.reads.due
        if not rows and not texts:
            return
        for state in self._layers.values():
            state.due = 0
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
        state = self._layers.get(layer)
        if state is not None and state.due:
            self._steer(state, rows, added)
        self.reads.touch(layer, rows, added)

    def _steer(self, state: _Layer, hidden: Tensor, residual: Tensor | None) -> None:
        before = None
        if self.deviation is not None:
            before = hidden.clone() if residual is None else hidden + residual
        for block in state.blocks:
            rows = block.rows
            stream = hidden[rows] if residual is None else hidden[rows] + residual[rows]
            steered = block.steer(stream, self._cache.bank)
            if residual is None:
                hidden[rows] = steered
            else:
                residual[rows] = steered
                hidden[rows] = 0
            self.steered_rows += stream.shape[0]
            state.due -= stream.shape[0]
        if before is not None:
            self._compare(state, before, hidden if residual is None else hidden + residual)

    def _compare(self, state: _Layer, before: Tensor, after: Tensor) -> None:
        """Take into :attr:`deviation` how far this step is off its boosts, on all rows: those of
        unsteered requests are to stay as they were."""
        expected = before.float()
        for span in state.spans:
            for item in span.steered.task.effects:
                if item.layer == state.layer:
                    decoder = load(self._dictionary, [item.slot.write]).decoder[0]
                    change = item.slot.boost * decoder.to(expected.device)
                    expected[span.first : span.first + span.n] += change
        n_rows = state.spans[-1].first + state.spans[-1].n
        off = (after.float() - expected)[:n_rows].abs().amax(1)
        worst = float((off / expected[:n_rows].abs().amax(1).clamp(min=1e-30)).max())
        self.deviation = max(self.deviation or 0.0, worst)


def _spans(
    steered: _Steered, parts: Sequence[Phase], row: int, count: int, position: int
) -> Iterator[_Span]:
    """The pieces of ``count`` rows from ``row`` on, the first at ``position``, phase by phase."""
    for phase in parts:
        first, last = max(phase.start, position), min(phase.end, position + count)
        if first < last:
            yield _Span(steered, phase, row + first - position, last - first)
