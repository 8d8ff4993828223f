"""Boost and clamp: the formulas of the paper, row by row."""

from __future__ import annotations

import math

import pytest
import torch

from esr.errors import UserError
from esr.steering import interventions as iv
from esr.steering.interventions import Boost, Clamp, Scale
from esr.steering.rows import SaeRows, apply, plan_rows

D_MODEL, N = 12, 5


@pytest.fixture
def bank() -> SaeRows:
    g = torch.Generator().manual_seed(0)
    return SaeRows(
        encoder=torch.randn(N, D_MODEL, generator=g),
        encoder_bias=torch.randn(N, generator=g),
        threshold=torch.rand(N, generator=g),
        decoder=torch.randn(N, D_MODEL, generator=g),
        input_bias=torch.randn(D_MODEL, generator=g),
    )


def residual(rows: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, D_MODEL, generator=torch.Generator().manual_seed(seed))


IDENTITY = {k: k for k in range(N)}


def test_boost_adds_the_decoder_row_as_it_is(bank: SaeRows) -> None:
    h = residual(3)
    steered = apply(h, plan_rows([[Boost(2, -4.5)]] * 3, IDENTITY), bank)
    torch.testing.assert_close(steered, h - 4.5 * bank.decoder[2])


def test_clamp_moves_by_the_difference_to_the_unsteered_activation(bank: SaeRows) -> None:
    h = residual(6)
    f = bank.encode(h)
    assert (f[:, 3] > 0).any()
    assert (f[:, 3] == 0).any()
    # The boost does not change what the clamp reads: both work from one encode of h.
    plan = plan_rows([[Clamp(3, 1.5), Boost(1, 10.0)]] * 6, IDENTITY)
    expected = h + 10.0 * bank.decoder[1] + (1.5 - f[:, 3:4]) * bank.decoder[3]
    torch.testing.assert_close(apply(h, plan, bank), expected)


def test_boost_and_clamp_of_one_latent_add_up_and_boosts_sum(bank: SaeRows) -> None:
    h = residual(4)
    f = bank.encode(h)[:, 0:1]
    plan = plan_rows([[Boost(0, 1.0), Clamp(0, 0.0), Boost(0, 2.0)]] * 4, IDENTITY)
    torch.testing.assert_close(apply(h, plan, bank), h + (3.0 - f) * bank.decoder[0])


def test_a_row_is_the_same_to_the_bit_whatever_shares_its_batch(bank: SaeRows) -> None:
    h = residual(8)
    rows: list[list[iv.Intervention]] = [
        [],
        [Boost(0, 3.0)],
        [Clamp(4)],
        [Clamp(1, 2.0), Boost(3, -1.0), Boost(2, 0.5)],
        [Boost(k, float(k)) for k in range(N)],
        [],
        [Clamp(k) for k in range(N)],
        [Boost(2, 7.0), Clamp(2, 1.0)],
    ]
    together = apply(h, plan_rows(rows, IDENTITY), bank)
    for i, row in enumerate(rows):
        alone = apply(h[i : i + 1], plan_rows([row], IDENTITY), bank)
        assert torch.equal(alone[0], together[i]), row
    assert torch.equal(together[0], h[0])


def test_order_of_interventions_does_not_matter(bank: SaeRows) -> None:
    h = residual(3)
    row: list[iv.Intervention] = [Boost(4, 1.0), Clamp(0, 0.3), Boost(2, -2.0)]
    one = apply(h, plan_rows([row] * 3, IDENTITY), bank)
    assert torch.equal(one, apply(h, plan_rows([row[::-1]] * 3, IDENTITY), bank))


def test_half_precision_is_computed_in_float32(bank: SaeRows) -> None:
    h = residual(3).to(torch.bfloat16)
    steered = apply(h, plan_rows([[Boost(1, 0.37), Clamp(2)]] * 3, IDENTITY), bank)
    assert steered.dtype == torch.bfloat16
    exact = apply(h.float(), plan_rows([[Boost(1, 0.37), Clamp(2)]] * 3, IDENTITY), bank)
    assert torch.equal(steered, exact.to(torch.bfloat16))


def test_repeated_rows_and_bank_positions(bank: SaeRows) -> None:
    h = residual(5)
    plan = plan_rows([[Boost(700, 2.0)], [Boost(9, 1.0)]], {9: 0, 700: 3})
    steered = apply(h, plan.select(torch.tensor([0, 0, 1, 1, 1])), bank)
    torch.testing.assert_close(steered[:2], h[:2] + 2.0 * bank.decoder[3])
    torch.testing.assert_close(steered[2:], h[2:] + bank.decoder[0])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([Boost(5, 1.0)], "latent 5 is not in the dictionary; allowed: 0 to 4"),
        ([Clamp(-1)], "latent -1 is not in the dictionary"),
        ([Boost(0, math.nan)], "Boost of latent 0 has value nan"),
        ([Clamp(0, math.inf)], "Clamp of latent 0 has value inf"),
        ([Clamp(2), Clamp(2, 1.0)], "latent 2 is clamped twice"),
        ([Clamp(2), Scale(2, 1.0)], "latent 2 is clamped twice"),
    ],
)
def test_what_a_worker_could_not_do_is_refused(bad: list[iv.Intervention], message: str) -> None:
    with pytest.raises(UserError, match=message):
        iv.check(bad, N)


def test_json_round_trip() -> None:
    row = (Boost(3, 1.25), Clamp(0), Clamp(4, -2.0), Scale(6, 0.5))
    assert iv.from_json(iv.to_json(row)) == row
    assert iv.latents_of(row) == (0, 3, 4, 6)


def test_scale_multiplies_the_unsteered_activation(bank: SaeRows) -> None:
    h = residual(6)
    f = bank.encode(h)[:, 3:4]
    assert (f > 0).any()
    assert (f == 0).any()
    plan = plan_rows([[Scale(3, 2.0), Boost(3, 0.25)]] * 6, IDENTITY)
    torch.testing.assert_close(apply(h, plan, bank), h + (f + 0.25) * bank.decoder[3])
    ablated = apply(h, plan_rows([[Scale(3, 0.0)]] * 6, IDENTITY), bank)
    assert torch.equal(ablated, apply(h, plan_rows([[Clamp(3)]] * 6, IDENTITY), bank))
    untouched = plan_rows([[Scale(3, 1.0)]] * 6, IDENTITY)
    assert torch.equal(apply(h, untouched, bank), h)
    assert not untouched.any_gain


def test_scales_and_clamps_of_different_rows_share_a_batch(bank: SaeRows) -> None:
    h = residual(3)
    rows: list[list[iv.Intervention]] = [[Scale(1, 0.5)], [Boost(2, 1.0)], [Clamp(1, 4.0)]]
    together = apply(h, plan_rows(rows, IDENTITY), bank)
    for i, row in enumerate(rows):
        assert torch.equal(apply(h[i : i + 1], plan_rows([row], IDENTITY), bank)[0], together[i])
