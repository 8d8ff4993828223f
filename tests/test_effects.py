"""Where effects begin and end, how they travel, and the lines of the table they become."""

from __future__ import annotations

import numpy as np
import torch

from esr.steering.effects import Effects
from esr.steering.interventions import Boost, Clamp, Row, Slot
from esr.steering.lines import Lines
from esr.steering.scope import END, overlap, positions
from tests.steering_rows import (
    CPU,
    ROWS,
    SECOND,
    VECTOR,
    N,
    clip,
    phases_of,
    rotation,
)


def test_scopes_are_positions() -> None:
    """A prompt of 10 tokens, a given prefix of 3."""
    expected = {
        "all": (0, END),
        "prompt": (0, 10),
        "prefix": (0, 13),
        "generated": (10, END),
        "after prefix": (13, END),
        "until 0": (0, 10),
        "until 16": (0, 26),
    }
    for scope, span in expected.items():
        assert positions(scope, 10, 3) == span
    assert positions("prefix", 10) == positions("prompt", 10)
    assert not overlap("generated", "prompt")
    assert overlap("until 4", "generated")


def spans(effects: Effects) -> list[tuple[float, ...]]:
    return [tuple(line) for line in effects.table[:, :3].tolist()]


def test_effects_are_where_the_scopes_of_request_and_intervention_agree() -> None:
    items = (Boost(1, 1.0, scope="until 4"), Boost(2, 1.0, layer=3), Boost(3, 1.0, scope="prompt"))
    placed = Effects.of(items, 1, n_prompt=10, scope="generated")
    assert spans(placed) == [(1, 10, 14), (3, 10, END)]
    assert placed.content != Effects.of(items, 1, n_prompt=11, scope="generated").content
    everywhere = (Boost(1, 1.0),)
    content = Effects.of(everywhere, 1, 10).content
    assert content == Effects.of(everywhere, 1, 11, 2).content
    assert content != Effects.of(everywhere, 2, 10).content
    direction = Slot(VECTOR, boost=1.0)
    other = Slot(Row(0, "e" * 16), boost=1.0)
    assert Effects.of([direction], 1, 0).content != Effects.of([other], 1, 0).content


def test_effects_name_their_rows_and_survive_the_journey() -> None:
    items = (Clamp(4), Slot(SECOND, Row(2), boost=1.0, low=0.5), Slot(VECTOR, boost=2.0))
    effects = Effects.of(items, 1, 10)
    rows, write, read = effects.rows
    assert [rows[i] for i in write] == [Row(4), SECOND, VECTOR]
    assert [rows[i] for i in read] == [Row(4), Row(2), VECTOR]
    again = Effects.from_wire(*effects.to_wire())
    assert again.content == effects.content
    assert again.rows[0] == rows
    assert not len(Effects.of((), 1, 10))


def test_phases_are_cut_where_an_effect_begins_or_ends() -> None:
    items = (
        Boost(0, 1.0, layer=2),
        Boost(1, 1.0, layer=2, scope="after prefix"),
        Boost(3, 1.0, layer=4, scope="until 4"),
    )
    effects = Effects.of(items, 1, n_prompt=5, n_prefix=2, scope="all")
    places = np.array([row.number for row in effects.rows[0]], np.int64)
    lines = Lines(CPU, N)

    def told(layer: int) -> list[tuple[int, int, list[int]]]:
        return [(p.start, p.end, p.places.tolist()) for p in lines.add(effects, layer, places)]

    assert told(2) == [(0, 7, [0]), (7, END, [0, 1])]
    assert told(4) == [(0, 9, [3])]
    assert told(1) == []


def test_lines_are_written_anew_for_the_next_request() -> None:
    """Nothing of a former request is left, gates included; the table grows when it must."""
    lines = Lines(CPU, len(ROWS), lines=1)
    first = phases_of(lines, clip(-0.2, 0.3))
    lines.remove(first)
    (second,) = phases_of(lines, (Boost(2, 5.0),))
    assert second.line == first[0].line
    others = [phases_of(lines, rotation(float(i)))[0].line for i in range(5)]
    assert len({second.line, *others}) == 6
    constant, gain, gates = lines.of_rows(
        torch.tensor([second.line, 0]), len(ROWS), reads=True, gated=True
    )
    assert constant.tolist() == [[0, 0, 5, 0, 0, 0, 0], [0] * len(ROWS)]
    assert gain is not None
    assert not gain.any()
    assert gates is not None
    assert torch.isposinf(gates.numbers[:, 2]).all()


def test_what_reads_or_has_gates_is_counted_while_it_is_in_flight() -> None:
    """Where nobody reads, the product over the encoder is left out."""
    lines = Lines(CPU, len(ROWS))
    counts = []
    held = [phases_of(lines, items) for items in ((Boost(1, 2.0),), (Clamp(2),), clip(-0.2, 0.3))]
    for phases in [[], *held]:
        lines.remove(phases)
        counts.append((lines.n_reading, lines.n_with_gates))
    assert counts == [(1, 1), (1, 1), (0, 1), (0, 0)]
