"""A steered layer inside a CUDA graph: nothing is decided in Python, and no address changes.

A graph replays the kernels that were recorded once per batch size. So all that differs from step
to step lies in buffers of fixed size, which are filled before the step: the line of each row
(0: nobody's, also in padding), the table of lines, the rows in play. Every step multiplies all of
them, whoever is steered; their number is kept small for that (:data:`ROWS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from esr.steering.in_play import RowsInPlay
from esr.steering.kernel import steer
from esr.steering.limits import GATED
from esr.steering.lines import Lines
from esr.steering.plan import Span
from esr.steering.staging import pinned


@dataclass(frozen=True)
class GraphSizes:
    """What a graph is recorded for.

    Attributes:
        tokens: most rows of a step, padding included.
        lines: phases of requests in flight, the most.
        rows: rows in play, the most.
        dtype: of the residual stream.
    """

    tokens: int
    lines: int
    rows: int
    dtype: torch.dtype


class GraphLayer:
    """One steered layer; what :class:`esr.steering.plan.Layer` is outside of graphs.

    Args:
        number: which.
        in_play: shared by all layers.
        sizes: of the buffers.
    """

    due = 0
    """Nothing is known to wait on the host: :meth:`verify` asks the device."""

    def __init__(self, number: int, in_play: RowsInPlay, sizes: GraphSizes) -> None:
        self.number = number
        self.spans: Sequence[Span] = ()
        self.n_rows = 0
        self._in_play, self._device = in_play, in_play.packed.device
        self.lines = Lines(self._device, sizes.rows, sizes.lines, GATED, fixed=True)
        self.owner = torch.zeros(sizes.tokens, dtype=torch.int64, device=self._device)
        # What the layer's output was after steering: read when the step is done.
        size = sizes.tokens, in_play.front(0).decoder.shape[1]
        self.stream = torch.zeros(size, dtype=sizes.dtype, device=self._device)
        self.is_sum = torch.ones(1, dtype=torch.bool, device=self._device)
        self.count = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._expected = 0
        self._asked: tuple[Tensor, torch.cuda.Event | None, int] | None = None
        self._filled = 0

    @property
    def steered(self) -> int:
        """Rows steered so far; waits for the device."""
        return int(self.count)

    def plan(self, spans: Sequence[Span]) -> bool:
        """Fill the buffers for these spans, in order of rows; whether they had to be changed."""
        if spans == self.spans:
            return False
        self.spans = spans
        self.n_rows = sum(span.n for span in spans)
        end = spans[-1].first + spans[-1].n if spans else 0
        owner = np.zeros(max(end, self._filled), np.int64)
        for span in spans:
            owner[span.first : span.first + span.n] = span.phase.line
        self.owner[: len(owner)].copy_(pinned(owner, self._device), non_blocking=True)
        self._filled = end
        return bool(spans)

    def touch(self, hidden: Tensor, residual: Tensor | None) -> None:
        """What a graph records; the stream is the sum of the two, each [n_rows, d_model], or the
        first alone where :attr:`is_sum` is off."""
        owner = self.owner[: hidden.shape[0]]
        mine = (owner > 0)[:, None]
        stream = self._sum(hidden, residual)
        coefficients = self.lines.of_rows(owner, self._in_play.capacity, reads=True, gated=True)
        steered = steer(stream, self._in_play.front(self._in_play.capacity), *coefficients)
        if residual is None:
            hidden.copy_(torch.where(mine, steered, hidden))
        else:
            residual.copy_(torch.where(mine & self.is_sum, steered, residual))
            alone = torch.where(self.is_sum, 0, steered)
            hidden.copy_(torch.where(mine, alone, hidden))
        self.count += mine.sum()
        self.stream[: hidden.shape[0]].copy_(self._sum(hidden, residual))

    def _sum(self, hidden: Tensor, residual: Tensor | None) -> Tensor:
        """The residual stream: [n_rows, d_model]."""
        return hidden if residual is None else hidden + torch.where(self.is_sum, residual, 0)

    def verify(self) -> None:
        """After a step: see, without waiting, whether earlier steps steered what they had to.

        Raises:
            RuntimeError: the hook did not run, or ran on other rows.
        """
        self._expected += self.n_rows
        if self._asked is None:
            event = None
            if self._device.type != "cpu":
                answer = torch.empty(1, dtype=torch.int64, pin_memory=True)
                answer.copy_(self.count, non_blocking=True)
                event = torch.cuda.Event()
                event.record()
            else:
                answer = self.count.clone()
            self._asked = answer, event, self._expected
        answer, event, expected = self._asked
        if event is None or event.query():
            self._asked = None
            if int(answer) != expected:
                raise RuntimeError(
                    f"the hook in the model did not run as it should: {int(answer)} rows are "
                    f"steered at layer {self.number}, not {expected}"
                )
