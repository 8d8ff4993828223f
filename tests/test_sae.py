"""SAE rows equal what SAELens computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esr.engine.transformers import Placed, SteeringHook
from esr.errors import UserError
from esr.models import SaeSource
from esr.steering import sae as sae_module
from esr.steering.in_play import load
from esr.steering.interventions import Boost, Clamp, rows_of, slot_of

D_MODEL, D_SAE = 16, 40


def make_sae(folder: Path, architecture: str, apply_b_dec: bool = True):  # type: ignore[no-untyped-def]
    """A random SAE saved by SAELens."""
    from sae_lens import SAE

    extra = {"k": 4} if architecture == "topk" else {}
    sae = SAE.from_dict(
        {
            "architecture": architecture,
            "d_in": D_MODEL,
            "d_sae": D_SAE,
            "apply_b_dec_to_input": apply_b_dec,
            **extra,
        }
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if name == "threshold":
                parameter.abs_()
    sae.save_model(folder)
    return sae


@pytest.mark.parametrize("architecture", ["standard", "jumprelu"])
@pytest.mark.parametrize("apply_b_dec", [True, False])
def test_rows_encode_like_sae_lens(tmp_path: Path, architecture: str, apply_b_dec: bool) -> None:
    original = make_sae(tmp_path / "sae", architecture, apply_b_dec)
    dictionary = sae_module.load(SaeSource(folder=tmp_path / "sae"))
    assert (dictionary.d_model, dictionary.d_sae) == (D_MODEL, D_SAE)
    residual = torch.randn(9, D_MODEL, generator=torch.Generator().manual_seed(2))
    expected = original.encode(residual).detach()
    assert (expected > 0).any()
    chosen = [7, 0, 39, 12]
    torch.testing.assert_close(dictionary.bank(chosen).encode(residual), expected[:, chosen])
    streamed = torch.cat([bank.encode(residual) for _, bank in dictionary.blocks(16)], dim=1)
    torch.testing.assert_close(streamed, expected)


def test_clamp_replaces_the_activation_and_keeps_the_error(tmp_path: Path) -> None:
    original = make_sae(tmp_path / "sae", "jumprelu")
    dictionary = sae_module.load(SaeSource(folder=tmp_path / "sae"))
    residual = torch.randn(5, D_MODEL, generator=torch.Generator().manual_seed(3))
    activations = original.encode(residual).detach()
    error = residual - original.decode(activations).detach()
    wanted = activations.clone()
    wanted[:, 3] = 0.5
    wanted[:, 8] = 0.0
    wanted[:, 8] += 2.0
    items = (Clamp(3, 0.5), Clamp(8), Boost(8, 2.0))
    rows = rows_of(items)
    slots = [Placed(slot_of(item), (0, 5)) for item in items]
    hook = SteeringHook(slots, (0, 5), rows, load(dictionary, rows))
    steered = hook(torch.nn.Identity(), (), residual[None])[0]
    torch.testing.assert_close(steered, original.decode(wanted).detach() + error)


def test_second_load_does_not_touch_sae_lens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sae(tmp_path / "sae", "standard")
    first = sae_module.load(SaeSource(folder=tmp_path / "sae"))
    monkeypatch.setattr(sae_module, "_from_sae_lens", pytest.fail)
    assert sae_module.load(SaeSource(folder=tmp_path / "sae")) == first


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "text"])
def test_damaged_rows_are_named_and_read_from_the_sae_again(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sae(tmp_path / "sae", "standard")
    first = sae_module.load(SaeSource(folder=tmp_path / "sae"))
    whole = first.path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    first.path.write_bytes(
        {"bit": bytes(flipped), "cut": whole[:-64], "empty": b"", "text": b"x" * 99}[damage]
    )
    monkeypatch.setattr(sae_module, "_verified", {})
    again = sae_module.load(SaeSource(folder=tmp_path / "sae"))
    assert again == first
    assert first.path.read_bytes() == whole
    assert f"warning: {first.path} is damaged" in capsys.readouterr().err


def test_topk_is_refused_with_the_reason(tmp_path: Path) -> None:
    make_sae(tmp_path / "sae", "topk")
    with pytest.raises(UserError, match=r"topk.*allowed: standard, jumprelu"):
        sae_module.load(SaeSource(folder=tmp_path / "sae"))


def test_missing_folder_and_broken_rows_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no SAE in .*nowhere"):
        sae_module.load(SaeSource(folder=tmp_path / "nowhere"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not safetensors at all")
    with pytest.raises(UserError, match="not an SAE row file"):
        sae_module.Dictionary.open(broken)


def test_rows_that_cannot_be_written_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("ESR_CACHE", str(tmp_path / "file" / "cache"))
    make_sae(tmp_path / "sae", "standard")
    with pytest.raises(UserError, match=r"cannot write the SAE's rows to .*next: ESR_CACHE=FOLDER"):
        sae_module.load(SaeSource(folder=tmp_path / "sae"))
