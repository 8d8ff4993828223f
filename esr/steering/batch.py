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
                 (:class:`esr.steering.rows.RowPlan`). While requests only decode, layout and
                 plan stay the same from step to step, and are reused.
    steer        at the steering layer, one call of :func:`esr.steering.rows.apply` on the rows
                 of all spans; row i reads and writes latents of its own request only.
    read         at the feature layer, the rows of reads in progress.
    end_step     fails if a layer that had work to do was not called.

Requests are kept by id, never by place in a list. Before its first step a request is admitted: its
latents' SAE rows are put on the device (:class:`esr.steering.row_cache.RowCache`), its slots into
the table (:class:`esr.steering.row_cache.PlanTable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from esr.steering import interventions
from esr.steering.pooling import Pool, add_rows
from esr.steering.row_cache import PlanTable, RowCache
from esr.steering.rows import RowPlan, SaeRows, apply, plan_rows
from esr.steering.sae import Dictionary
from esr.steering.task import ReadTask, Task


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


@dataclass
class _Steered:
    """A request with interventions: its place in the plan table and the latents it holds."""

    task: Task
    place: int
    serial: int
    latents: tuple[int, ...]
    n_slots: int
    any_clamp: bool


@dataclass
class _Read:
    """A read in progress. ``seen``: positions before it were fed, so a recomputation after
    preemption counts none twice; ``gap`` if some were never fed."""

    task: ReadTask
    bank: SaeRows | None
    pool: Pool | None
    values: list[Tensor] = field(default_factory=list)
    seen: int = 0
    gap: bool = False


class Steering:
    """The state of one worker.

    Args:
        dictionary: rows are read from its file on demand.
        device: of the model.
        scheduler_order: pair the i-th request in scheduling order with the i-th run of rows,
            as the authors' fork does. False pairs by request id.
        reads: whether this rank keeps readings; one rank of a tensor-parallel group does.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        device: torch.device,
        *,
        scheduler_order: bool = False,
        reads: bool = True,
    ) -> None:
        self._dictionary = dictionary
        self._device = device
        self._scheduler_order = scheduler_order
        self._keeps_reads = reads
        self._bank = RowCache(dictionary, device)
        self._table = PlanTable(device)
        self._steered: dict[str, _Steered] = {}
        self._read_of: dict[str, str] = {}
        self._reads: dict[str, _Read] = {}
        self._serial = 0
        self._signature: tuple[tuple[int, int, int], ...] = ()
        self._rows: slice | Tensor = slice(0, 0)
        self._plan: RowPlan | None = None
        self._step_reads: list[tuple[_Read, slice]] = []
        self._due = {"steer": 0, "read": 0}
        self.steered_rows = 0
        self.plans_built = 0

    def admit(self, request_id: str, task: Task) -> None:
        """Remember a request that is about to be scheduled for the first time, or again."""
        self.forget(request_id)
        if task.interventions:
            latents = interventions.latents_of(task.interventions)
            row = plan_rows([task.interventions], self._bank.acquire(latents))
            place = self._table.put(row)
            self._serial += 1
            self._steered[request_id] = _Steered(
                task, place, self._serial, latents, row.n_slots, row.any_clamp
            )
        if task.read is not None and self._keeps_reads:
            self._read_of[request_id] = task.key
            if task.key not in self._reads:
                self._reads[task.key] = self._open(task.read)

    def forget(self, request_id: str) -> None:
        """Forget a finished request. Its reading stays until it is taken."""
        steered = self._steered.pop(request_id, None)
        if steered is not None:
            self._table.drop(steered.place)
            self._bank.release(steered.latents)
        self._read_of.pop(request_id, None)

    def begin_step(self, layout: Layout) -> None:
        """Lay out the rows of the coming step. The plan is rebuilt only when it changes."""
        partners = layout.scheduled_ids if self._scheduler_order else layout.request_ids
        spans: list[tuple[_Steered, int, int]] = []
        self._step_reads = []
        row = 0
        for request_id, partner, count, position in zip(
            layout.request_ids, partners, layout.counts, layout.positions, strict=True
        ):
            steered = self._steered.get(partner)
            if steered is not None:
                skip = max(0, steered.task.first - position)
                if skip < count:
                    spans.append((steered, row + skip, count - skip))
            if request_id in self._read_of:
                self._lay_out_read(self._reads[self._read_of[request_id]], row, count, position)
            row += count
        signature = tuple((steered.serial, first, n) for steered, first, n in spans)
        if signature != self._signature:
            self._build_plan(spans)
            self._signature = signature
        self._due = {"steer": sum(n for _, _, n in spans), "read": len(self._step_reads)}

    def end_step(self) -> None:
        """Stop rather than go on with tokens that were silently not steered or not read.

        Raises:
            RuntimeError: a hook did not run, e.g. because a compiled graph lacks it.
        """
        due, self._due = self._due, {"steer": 0, "read": 0}
        if any(due.values()):
            raise RuntimeError(f"the hook in the model did not run in this step: {due} left")

    def steer(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Add the interventions to their rows, in place.

        Args:
            hidden: [n_rows, d_model], output of the layer's last block.
            residual: [n_rows, d_model], which the next layer adds to ``hidden``; None where the
                layer has added it already. The residual stream is the sum of the two.
        """
        if self._plan is None or not self._due["steer"]:
            return
        rows = self._rows
        if residual is None:
            hidden[rows] = apply(hidden[rows], self._plan, self._bank.bank)
        else:
            stream = hidden[rows] + residual[rows]
            residual[rows] = apply(stream, self._plan, self._bank.bank)
            hidden[rows] = 0
        self.steered_rows += self._plan.index.shape[0]
        self._due["steer"] -= self._plan.index.shape[0]

    def read(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Take this step's rows of the reads in progress. Arguments as for :meth:`steer`."""
        pooled: list[tuple[Pool, Tensor]] = []
        for read, part in self._step_reads:
            stream = hidden[part] if residual is None else hidden[part] + residual[part]
            if read.bank is not None:
                read.values.append(read.bank.encode(stream).cpu())
            elif read.pool is not None:
                pooled.append((read.pool, stream))
        if pooled:
            add_rows(self._dictionary, pooled)
        self._due["read"] = 0

    def take(self, key: str) -> dict[str, Any] | None:
        """A finished reading, once, as plain data; None for an unknown key."""
        read = self._reads.pop(key, None)
        if read is None:
            return None
        problem = "" if read.seen >= read.task.n_tokens and not read.gap else "incomplete"
        if read.pool is not None:
            pooled = read.pool.result()
            tensors = [pooled.maximum, pooled.mean, pooled.frequency]
            return {"problem": problem, "tensors": [_plain(t) for t in tensors]}
        values = torch.cat(read.values) if read.values else torch.zeros(0, 1)
        return {"problem": problem, "tensors": [_plain(values)]}

    def _open(self, task: ReadTask) -> _Read:
        if task.latents is None:
            return _Read(task, None, Pool(self._dictionary.d_sae, self._device))
        return _Read(task, self._dictionary.bank(task.latents).to(self._device), None)

    def _lay_out_read(self, read: _Read, row: int, count: int, position: int) -> None:
        read.gap = read.gap or position > read.seen
        start = max(read.seen, read.task.first)
        end = min(position + count, read.task.n_tokens)
        if start < end:
            self._step_reads.append((read, slice(row + start - position, row + end - position)))
        read.seen = max(read.seen, end)

    def _build_plan(self, spans: list[tuple[_Steered, int, int]]) -> None:
        self._plan = None
        if not spans:
            return
        self.plans_built += 1
        counts = torch.tensor([n for _, _, n in spans])
        places = torch.tensor([steered.place for steered, _, _ in spans])
        owners = places.repeat_interleave(counts).to(self._device)
        self._plan = self._table.rows(
            owners,
            max(steered.n_slots for steered, _, _ in spans),
            any(steered.any_clamp for steered, _, _ in spans),
        )
        first, last = spans[0][1], spans[-1][1] + spans[-1][2]
        if last - first == owners.shape[0]:
            self._rows = slice(first, last)
        else:
            runs = [torch.arange(start, start + n) for _, start, n in spans]
            self._rows = torch.cat(runs).to(self._device)


def _plain(tensor: Tensor) -> dict[str, Any]:
    array = tensor.float().contiguous().numpy()
    return {"shape": list(array.shape), "data": array.tobytes()}
