"""What a worker does to the residual stream of a mixed batch. Knows torch, not vLLM.

A step of the engine feeds one matrix through the model: a row of the *stream* per token. Each
request owns a *span*, consecutive rows for consecutive positions of its text: a piece of its
prompt, or one row while it decodes. What a request asks for is, at every hooked layer, a list of
*slots* from position to position (:mod:`esr.steering.lines`); what slots read and write are the
*rows in play*, lines of one matrix on the device (:class:`esr.steering.in_play.RowsInPlay`):

    request  asks for                    rows of this step          slots at layer 33
    -------  --------------------------  -------------------------  ------------------------------
    a        Boost(7, 2.0)               0  ] span (0, 1)           [write 7: 2]
    b        nothing                     1    not touched
    c        Clamp(3), Boost(9, -1),     2    prompt: not touched
             scope "generated"           3  ] span (3, 2)           [write 3: 0 - p(3)]
             (the prompt has 40 tokens)  4  ]                       [write 9: -1]

    in play   line 0: latent 7    line 1: latent 3    line 2: latent 9

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from torch import Tensor, device

from esr.steering.deviation import deviation
from esr.steering.effects import COLUMNS
from esr.steering.graph import GraphLayer, GraphSizes
from esr.steering.in_play import KEEP, RowsInPlay
from esr.steering.interventions import Row
from esr.steering.layout import Layout, Steady, until_change
from esr.steering.lines import Phase, pieces
from esr.steering.pairing import PairingCounts
from esr.steering.plan import Layer
from esr.steering.reads import Reads
from esr.steering.sae import Dictionary
from esr.steering.scope import END
from esr.steering.stream import SUM, StreamProbe, Streams, as_rows
from esr.steering.task import Task


@dataclass(frozen=True, eq=False)
class _Steered:
    """A request with interventions, the rows it holds, and its phases at every layer it names.

    Attributes:
        everywhere: whether it has the same slots at every position of its text.
    """

    task: Task
    rows: Sequence[Row]
    phases: dict[int, list[Phase]]
    everywhere: bool


class _Span(NamedTuple):
    """Rows of one request in one phase: ``n`` from ``first`` on."""

    steered: _Steered
    phase: Phase
    first: int
    n: int


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
        graph: sizes of all buffers, where the hooks are inside CUDA graphs.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        device: device,
        *,
        layers: Sequence[int] = (0,),
        feature_layer: int = 0,
        scheduler_order: bool = False,
        reads: bool = True,
        graph: GraphSizes | None = None,
    ) -> None:
        self._dictionary = dictionary
        self.graph = graph
        self._in_play = RowsInPlay(dictionary, device, graph.rows if graph else KEEP)
        self._layers: dict[int, Layer | GraphLayer] = {
            layer: GraphLayer(layer, self._in_play, graph) if graph else Layer(layer, self._in_play)
            for layer in sorted({*layers, *([feature_layer] if graph else [])})
        }
        self._feature_layer = feature_layer
        self._forms: dict[int, str] = {}
        self.probe: StreamProbe | None = None
        self.pairing = PairingCounts() if scheduler_order else None
        """Under the faulty pairing alone."""
        self._keeps_reads = reads
        self.reads = Reads(dictionary, device, feature_layer)
        self._steered: dict[str, _Steered] = {}
        self._steady: Steady | None = None
        self._begun = False
        self.plans_built = 0
        self.deviation: float | None = None
        """While it is a number: how far the stream after steering lies off what was to be added,
        relative to the row's largest entry; the worst of all rows since it was set to 0."""

    @property
    def hooked(self) -> tuple[int, ...]:
        """Layers whose output must be brought to :meth:`touch`, ascending."""
        return tuple(sorted({*self._layers, self._feature_layer}))

    @property
    def steered_rows(self) -> int:
        """Rows steered so far, every layer counted."""
        return sum(layer.steered for layer in self._layers.values())

    def start_probe(self) -> None:
        """Begin to measure where the stream is in the layers' outputs."""
        self.probe = StreamProbe(self._dictionary.d_model, self.hooked)

    def end_probe(self) -> Streams:
        """What was measured; from now on it decides where the stream is read and written."""
        assert self.probe is not None
        results, self.probe = self.probe.results(), None
        self._forms = results[0]
        for number, state in self._layers.items():
            if isinstance(state, GraphLayer):
                state.is_sum.fill_(self._forms.get(number, SUM) == SUM)
        return results

    def admit(self, request_id: str, task: Task) -> None:
        """Remember a request that is about to be scheduled for the first time, or again."""
        self.forget(request_id)
        if len(task.effects):
            rows = task.effects.rows[0]
            lines = self._in_play.acquire(rows)
            phases = {
                layer: self._layers[layer].lines.add(task.effects, layer, lines)
                for layer in sorted(set(map(int, task.effects.column("layer").tolist())))
            }
            everywhere = all(
                len(some) == 1 and some[0].start == 0 and some[0].end == END
                for some in phases.values()
            )
            self._steered[request_id] = _Steered(task, rows, phases, everywhere)
            if self.pairing is not None:
                self.pairing.admit(request_id, task)
        if task.read is not None and self._keeps_reads:
            self.reads.admit(request_id, task.key, task.read)
        self._steady = None

    def forget(self, request_id: str) -> None:
        """Forget a finished request."""
        self._steady = None
        steered = self._steered.pop(request_id, None)
        if steered is not None:
            self._in_play.release(steered.rows)
            for layer, phases in steered.phases.items():
                self._layers[layer].lines.remove(phases)
            if self.pairing is not None:
                self.pairing.forget(request_id)
        self.reads.forget(request_id)

    def begin_step(self, layout: Layout) -> None:
        """Lay out the rows of the coming step. A plan is rebuilt only when it changes."""
        self._begun = True
        if self._steady is not None and self._steady.goes_on(layout):
            for state in self._layers.values():
                state.due = state.n_rows
            return
        spans: dict[int, list[_Span]] = {layer: [] for layer in self._layers}
        self.reads.begin_step()
        partners = layout.request_ids if self.pairing is None else layout.scheduled_ids
        row, steps, reading = 0, END, self.reads.in_progress
        for request_id, partner, count, position in zip(
            layout.request_ids, partners, layout.counts, layout.positions, strict=True
        ):
            steered = self._steered.get(partner)
            if steered is not None:
                for layer, phases in steered.phases.items():
                    if steered.everywhere:
                        spans[layer].append(_Span(steered, phases[0], row, count))
                        continue
                    for phase, first, n in pieces(phases, row, count, position):
                        spans[layer].append(_Span(steered, phase, first, n))
                    steps = min(steps, until_change(phases, position + count))
            if reading:
                self.reads.lay_out(request_id, row, count, position)
            if self.pairing is not None:
                self.pairing.add(request_id, partner, count)
            row += count
        for layer, state in self._layers.items():
            self.plans_built += state.plan(spans[layer])
        decoding = row == len(layout.counts)
        if decoding and not reading and self.pairing is None:
            self._steady = Steady(layout, steps)

    def end_step(self) -> None:
        """Stop rather than go on with tokens that were silently not steered or not read.

        Raises:
            RuntimeError: a hook did not run, e.g. because a compiled graph lacks it.
        """
        begun, self._begun = self._begun, False
        if self.graph is not None:
            if begun:  # vLLM has steps without tokens.
                self._end_recorded_step()
            return
        rows, texts = sum(state.due for state in self._layers.values()), self.reads.due
        if not rows and not texts:
            return
        for state in self._layers.values():
            state.due = 0
        raise RuntimeError(
            f"the hook in the model did not run in this step: {rows} rows are not steered, "
            f"{texts} texts not read"
        )

    def _end_recorded_step(self) -> None:
        for layer, state in self._layers.items():
            if isinstance(state, GraphLayer):
                state.verify()
                self.reads.touch(layer, state.stream, None)

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
        if self.graph is not None:
            self._recorded(layer, rows, None if residual is None else as_rows(residual))
            return
        is_sum = residual is not None and self._forms.get(layer, SUM) == SUM
        added = as_rows(residual) if residual is not None and is_sum else None
        state = self._layers.get(layer)
        if state is not None and state.due:
            if self.deviation is None:
                state.touch(rows, added)
            else:
                self._watched(state, rows, added)
        self.reads.touch(layer, rows, added)

    def _recorded(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """What a graph records: no decision here may hang on the step."""
        state = self._layers[layer]
        assert isinstance(state, GraphLayer)
        if self.deviation is not None and state.spans:  # Not while a graph is recorded.
            self._watched(state, hidden, residual)
        else:
            state.touch(hidden, residual)

    def _watched(self, state: Layer | GraphLayer, hidden: Tensor, residual: Tensor | None) -> None:
        """Steer, and take into :attr:`deviation` how far this step is off its boosts, on all rows:
        those of unsteered requests are to stay as they were."""
        added = residual
        if isinstance(state, GraphLayer) and not bool(state.is_sum):
            added = None
        before = hidden.clone() if added is None else hidden + added
        spans = state.spans
        state.touch(hidden, residual)
        after = hidden if added is None else hidden + added
        pushes = [
            (span.first, span.n, Row(int(line[3])), float(line[COLUMNS.index("boost")]))
            for span in cast("Sequence[_Span]", spans)
            for line in span.steered.task.effects.table
            if line[0] == state.number
        ]
        n_rows = spans[-1].first + spans[-1].n
        worst = deviation(before[:n_rows], after[:n_rows], pushes, self._dictionary)
        self.deviation = max(self.deviation or 0.0, worst)
