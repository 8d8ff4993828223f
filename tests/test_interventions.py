"""Interventions as data and as slots: the formulas of the paper and of every operator, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from esr.engine.transformers import Placed, SteeringHook
from esr.errors import UserError
from esr.steering import interventions as iv
from esr.steering.interventions import Boost, Clamp, Row, Scale, Slot, slot_of
from esr.steering.kernel import steer
from esr.steering.lines import Lines, alone
from esr.steering.rows import SaeRows, of_vectors
from esr.steering.scope import END
from tests.steering_rows import (
    CPU,
    D_MODEL,
    ROWS,
    SECOND,
    VECTOR,
    N,
    clip,
    phases_of,
    residual,
    rotation,
)


@pytest.fixture(scope="module")
def sae() -> SaeRows:
    g = torch.Generator().manual_seed(0)
    return SaeRows(
        encoder=torch.randn(N, D_MODEL, generator=g),
        encoder_bias=torch.randn(N, generator=g),
        threshold=torch.rand(N, generator=g),
        decoder=torch.randn(N, D_MODEL, generator=g),
        input_bias=torch.randn(D_MODEL, generator=g),
    )


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    """Two directions at a right angle, of length 1."""
    g = torch.Generator().manual_seed(5)
    q: torch.Tensor = torch.linalg.qr(torch.randn(D_MODEL, 2, generator=g))[0]
    return q.T.contiguous()


@pytest.fixture(scope="module")
def bank(sae: SaeRows, vectors: torch.Tensor) -> SaeRows:
    """Latents at 0 to 4, directions at 5 and 6, as the row cache has them."""
    latents, directions = sae.centred(), of_vectors(vectors)
    names = ("encoder", "encoder_bias", "threshold", "decoder")
    joined = [torch.cat([getattr(latents, n), getattr(directions, n)]) for n in names]
    encoder, bias, threshold, decoder = joined
    return SaeRows(encoder, bias, threshold, decoder, torch.zeros(D_MODEL))


def one_by_one(h: torch.Tensor, items: tuple[iv.Intervention, ...], bank: SaeRows) -> torch.Tensor:
    """The reference engine's way."""
    everywhere = (0, END)
    placed = [Placed(slot_of(item), everywhere) for item in items]
    hook = SteeringHook(placed, everywhere, ROWS, bank)
    steered: torch.Tensor = hook(torch.nn.Identity(), (), h[None])
    return steered[0]


def together(
    h: torch.Tensor, requests: list[tuple[iv.Intervention, ...]], bank: SaeRows, each: int = 1
) -> torch.Tensor:
    """The batch's way: ``each`` rows per request, each with its request's line of the table."""
    lines = Lines(CPU, len(ROWS), lines=2)
    phases = [phases_of(lines, items) for items in requests]
    owner = torch.tensor([p[0].line if p else 0 for p in phases]).repeat_interleave(each)
    gated = any(phase.gated for p in phases for phase in p)
    coefficients = lines.of_rows(owner, len(ROWS), reads=True, gated=gated)
    return steer(h, bank, *coefficients)


def in_one_piece(
    h: torch.Tensor, items: tuple[iv.Intervention, ...], bank: SaeRows
) -> torch.Tensor:
    """The way of a long piece of one text."""
    (phase,) = phases_of(Lines(CPU, len(ROWS)), items)
    places, coefficients = alone(phase, CPU)
    names = ("encoder", "encoder_bias", "threshold", "decoder")
    encoder, bias, threshold, decoder = (getattr(bank, name)[places] for name in names)
    chosen = SaeRows(encoder, bias, threshold, decoder, bank.input_bias)
    return steer(h, chosen, *coefficients)


def test_boost_adds_the_decoder_row_as_it_is(sae: SaeRows, bank: SaeRows) -> None:
    h = residual(3)
    expected = h - 4.5 * sae.decoder[2]
    torch.testing.assert_close(one_by_one(h, (Boost(2, -4.5),), bank), expected)
    torch.testing.assert_close(together(h, [(Boost(2, -4.5),)] * 3, bank), expected)


def test_clamp_moves_by_the_difference_to_the_unsteered_activation(
    sae: SaeRows, bank: SaeRows
) -> None:
    h = residual(6)
    f = sae.encode(h)
    assert (f[:, 3] > 0).any()
    assert (f[:, 3] == 0).any()
    # The boost does not change what the clamp reads: both work from one encode of h.
    items = (Clamp(3, 1.5), Boost(1, 10.0))
    expected = h + 10.0 * sae.decoder[1] + (1.5 - f[:, 3:4]) * sae.decoder[3]
    torch.testing.assert_close(one_by_one(h, items, bank), expected)
    torch.testing.assert_close(in_one_piece(h, items, bank), expected)


def test_boost_and_clamp_of_one_latent_add_up_and_boosts_sum(sae: SaeRows, bank: SaeRows) -> None:
    h = residual(4)
    f = sae.encode(h)[:, 0:1]
    items = (Boost(0, 1.0), Clamp(0, 0.0), Boost(0, 2.0))
    expected = h + (3.0 - f) * sae.decoder[0]
    torch.testing.assert_close(one_by_one(h, items, bank), expected)
    torch.testing.assert_close(in_one_piece(h, items, bank), expected)
    (phase,) = phases_of(Lines(CPU, len(ROWS)), items)
    assert phase.places.tolist() == [0], "open slots of one row are one"


def test_scale_multiplies_the_unsteered_activation(sae: SaeRows, bank: SaeRows) -> None:
    h = residual(6)
    f = sae.encode(h)[:, 3:4]
    assert (f > 0).any()
    assert (f == 0).any()
    items = (Scale(3, 2.0), Boost(3, 0.25))
    torch.testing.assert_close(in_one_piece(h, items, bank), h + (f + 0.25) * sae.decoder[3])
    ablated = together(h, [(Scale(3, 0.0),)], bank, 6)
    assert torch.equal(ablated, together(h, [(Clamp(3),)], bank, 6))
    assert torch.equal(together(h, [(Scale(3, 1.0),)], bank, 6), h)
    assert not phases_of(Lines(CPU, len(ROWS)), (Scale(3, 1.0),))[0].reads


def test_every_operator_is_a_few_slots(vectors: torch.Tensor, bank: SaeRows) -> None:
    """The table of operators; m, mean, a: a boundary, a class mean and a strength."""
    v, w = vectors
    h = residual(40)
    p, q = h @ v, h @ w
    m, mean, a = 0.1, 0.8, 1.5
    turned = math.cos(1.0) * p - math.sin(1.0) * q, math.sin(1.0) * p + math.cos(1.0) * q
    flat = h - p[:, None] * v - q[:, None] * w
    operators: dict[str, tuple[tuple[Slot, ...], torch.Tensor]] = {
        "difference of means": ((Slot(VECTOR, boost=a),), h + a * v),
        "to a target below a boundary": (
            (Slot(VECTOR, VECTOR, target=mean, gain=-1.0, high=m),),
            h + torch.where(p < m, mean - p, 0.0)[:, None] * v,
        ),
        "reflection below a boundary": (
            (Slot(VECTOR, VECTOR, target=2 * a * m, gain=-2 * a, high=m),),
            h + torch.where(p < m, 2 * a * (m - p), 0.0)[:, None] * v,
        ),
        "pin": (clip(-0.2, 0.3), h + (p.clamp(-0.2, 0.3) - p)[:, None] * v),
        "floor": (clip(-0.2, 9e9)[:1], h + (p.clamp(min=-0.2) - p)[:, None] * v),
        "cap": (clip(-9e9, 0.3)[1:], h - (p - 0.3).clamp(min=0)[:, None] * v),
        "ablate": ((Slot(VECTOR, VECTOR, gain=-1.0),), h - p[:, None] * v),
        "rotate": (rotation(1.0), flat + turned[0][:, None] * v + turned[1][:, None] * w),
        "least step to a probability": (
            (Slot(VECTOR, VECTOR, target=a, gain=-1.0),),
            h + (a - p)[:, None] * v,
        ),
    }
    assert (p < m).any()
    assert (p >= m).any()
    for name, (slots, expected) in operators.items():
        message = name
        torch.testing.assert_close(one_by_one(h, slots, bank), expected, msg=message)
        torch.testing.assert_close(in_one_piece(h, slots, bank), expected, msg=message)
        torch.testing.assert_close(together(h, [slots] * 40, bank), expected, msg=message)


def test_a_gate_is_closed_below_and_open_above(vectors: torch.Tensor, bank: SaeRows) -> None:
    """low <= p < high, at the borders themselves."""
    h = torch.stack([0.5 * vectors[0], 0.25 * vectors[0]])
    p = (h @ vectors[0]).tolist()
    inside = (Slot(SECOND, VECTOR, boost=1.0, low=p[0]),)
    outside = (Slot(SECOND, VECTOR, boost=1.0, high=p[0]),)
    for items, moved in ((inside, [True, False]), (outside, [False, True])):
        for changed in (one_by_one(h, items, bank), together(h, [items] * 2, bank)):
            assert [not torch.equal(a, b) for a, b in zip(changed, h, strict=True)] == moved


def test_latents_and_directions_gate_and_write_each_other(
    sae: SaeRows, vectors: torch.Tensor, bank: SaeRows
) -> None:
    """A latent that fires boosts a direction; a projection boosts a latent."""
    h = residual(30)
    f, p = sae.encode(h)[:, 3], h @ vectors[0]
    items = (
        Slot(VECTOR, Row(3), boost=2.0, low=1e-6),
        Slot(Row(1), VECTOR, gain=0.5, high=0.0),
        Boost(2, 1.0),
        Clamp(3, 0.5),
    )
    expected = (
        h
        + torch.where(f > 0, 2.0, 0.0)[:, None] * vectors[0]
        + torch.where(p < 0, 0.5 * p, 0.0)[:, None] * sae.decoder[1]
        + sae.decoder[2]
        + (0.5 - f)[:, None] * sae.decoder[3]
    )
    torch.testing.assert_close(one_by_one(h, items, bank), expected)
    torch.testing.assert_close(in_one_piece(h, items, bank), expected)


def test_requests_of_all_kinds_in_one_batch_equal_each_alone(bank: SaeRows) -> None:
    requests: list[tuple[iv.Intervention, ...]] = [
        (),
        (Boost(0, 3.0),),
        (Clamp(4),),
        (Clamp(1, 2.0), Boost(3, -1.0), Boost(2, 0.5)),
        tuple(Boost(k, float(k)) for k in range(N)),
        clip(-0.1, 0.1),
        (),
        tuple(Clamp(k) for k in range(N)),
        rotation(0.5),
        (Boost(2, 7.0), Clamp(2, 1.0)),
        (*clip(0.0, 0.2), Boost(1, 1.0)),
    ]
    for each in (1, 3):
        h = residual(each * len(requests))
        steered = together(h, requests, bank, each)
        for i, items in enumerate(requests):
            part = slice(i * each, (i + 1) * each)
            expected = one_by_one(h[part], items, bank) if items else h[part]
            torch.testing.assert_close(steered[part], expected, rtol=1e-5, atol=1e-5)
            if not items:
                assert torch.equal(steered[part], h[part])


def test_order_of_interventions_does_not_matter(bank: SaeRows) -> None:
    h = residual(3)
    row: tuple[iv.Intervention, ...] = (Boost(4, 1.0), Clamp(0, 0.3), Boost(2, -2.0))
    one = together(h, [row] * 3, bank)
    assert torch.equal(one, together(h, [row[::-1]] * 3, bank))


def test_half_precision_is_computed_in_float32(bank: SaeRows) -> None:
    h = residual(3).to(torch.bfloat16)
    for items in ((Boost(1, 0.37), Clamp(2)), (Clamp(2, 0.4),), clip(-0.1, 0.1)):
        exact = together(h.float(), [items] * 3, bank).to(torch.bfloat16)
        assert torch.equal(together(h, [items] * 3, bank), exact)
        assert one_by_one(h, items, bank).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([Boost(5, 1.0)], "latent 5 is not in the dictionary; allowed: 0 to 4"),
        ([Clamp(-1)], "latent -1 is not in the dictionary"),
        ([Boost(0, math.nan)], "Boost of latent 0 has value nan"),
        ([Clamp(0, math.inf)], "Clamp of latent 0 has value inf"),
        ([Clamp(2), Clamp(2, 1.0)], "latent 2 is clamped twice"),
        ([Clamp(2), Scale(2, 1.0)], "latent 2 is clamped twice"),
        ([Clamp(2), Clamp(2, scope="prompt")], "latent 2 is clamped twice"),
        ([Boost(2, 1.0, layer=7)], "layer 7 is not hooked; allowed: 1, 2"),
        ([Boost(2, 1.0, scope="until")], "unknown scope 'until'; allowed: all, prompt"),
        ([Slot(Row(0), Row(7), gain=1.0)], "latent 7 is not in the dictionary"),
        ([Slot(Row(0), Row(1), gain=math.nan)], "Slot of latent 0 has value nan"),
        ([Slot(Row(0), gain=1.0)], "latent 0 has a gain or a gate and reads nothing"),
        ([Slot(Row(0), Row(1), low=2.0, high=2.0)], "the gate of latent 0 is from 2.0 to 2.0"),
        ([Slot(Row(0), Row(1), low=math.nan)], "the gate of latent 0"),
    ],
)
def test_what_a_worker_could_not_do_is_refused(bad: list[iv.Intervention], message: str) -> None:
    with pytest.raises(UserError, match=message):
        iv.check(bad, N, (1, 2))


def test_clamps_at_other_layers_or_positions_are_allowed() -> None:
    iv.check([Clamp(2), Clamp(2, layer=2)], N, (1, 2))
    iv.check([Clamp(2, scope="prompt"), Clamp(2, 1.0, scope="generated")], N, (1, 2))


def test_json_round_trip() -> None:
    row = (Boost(3, 1.25), Clamp(0), Clamp(4, -2.0), Scale(6, 0.5))
    assert iv.from_json(iv.to_json(row)) == row
    assert iv.rows_of(row) == (Row(0), Row(3), Row(4), Row(6))
    more = (
        Boost(3, 1.0, layer=4, scope="until 16"),
        Slot(VECTOR, Row(3), boost=1.0, gain=-2.0, high=0.5, layer=2, scope="generated"),
        Slot(Row(1), target=3.0),
    )
    assert iv.from_json(iv.to_json(more)) == more
    assert iv.rows_of(more) == (VECTOR, Row(1), Row(3))


def test_json_of_what_has_no_layer_and_scope_is_as_before() -> None:
    """Keys of trials, and with them journals and run ids, hang on it."""
    assert iv.to_json([Boost(7, 1.5), Clamp(8), Scale(9, 2.0)]) == [
        {"boost": 7, "value": 1.5},
        {"clamp": 8, "value": 0.0},
        {"scale": 9, "value": 2.0},
    ]
