"""SAEs: loading through SAELens, and row-wise access from then on.

Steering and clamping need a handful of rows of a dictionary of up to 131,072. So an SAE is
loaded once through SAELens, written as one row-major safetensors file, and memory-mapped
afterwards: a bank of rows costs those rows, a full-dictionary read streams blocks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from esr.errors import UserError, unknown
from esr.runs import hub
from esr.runs.entries import set_aside
from esr.runs.plain import file_digest
from esr.steering.rows import SaeRows
from esr.steering.source import SaeSource

if TYPE_CHECKING:
    from sae_lens import SAE

ROW_ARCHITECTURES = ("standard", "jumprelu")
"""Architectures in which a latent's activation depends on its own encoder row alone."""


CATALOGUE = "see https://decoderesearch.github.io/SAELens/latest/pretrained_saes/"


_verified: dict[Path, int] = {}
"""Row files whose content was hashed in this process, with their sizes."""


@dataclass(frozen=True)
class Dictionary:
    """Row-wise, memory-mapped access to one SAE.

    Attributes:
        path: the row file.
        d_model: width of the residual stream.
        d_sae: number of latents.
        digest: SHA-256 of the row file's content, first 16 hex digits.
    """

    path: Path
    d_model: int
    d_sae: int
    digest: str

    @classmethod
    def open(cls, path: Path) -> Dictionary:
        """Open a row file written by :func:`write_rows`.

        Raises:
            UserError: no such file, or not a row file.
        """
        try:
            with safe_open(path, framework="pt") as rows:
                d_sae, d_model = rows.get_slice("encoder").get_shape()
                return cls(path, d_model, d_sae, rows.metadata()["digest"])
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(
                f"{path} is not an SAE row file ({type(error).__name__})",
                "a file written by esr.steering.sae.write_rows",
                f"delete {path} and repeat the command",
            ) from error

    def bank(self, latents: Sequence[int]) -> SaeRows:
        """The rows of ``latents``, in that order; nothing else is read."""
        with safe_open(self.path, framework="pt") as rows:
            encoder, decoder = rows.get_slice("encoder"), rows.get_slice("decoder")
            chosen = torch.tensor(list(latents), dtype=torch.int64)
            return SaeRows(
                encoder=_stack([encoder[k : k + 1] for k in latents], self.d_model),
                encoder_bias=rows.get_tensor("encoder_bias")[chosen],
                threshold=rows.get_tensor("threshold")[chosen].clamp(min=0),
                decoder=_stack([decoder[k : k + 1] for k in latents], self.d_model),
                input_bias=rows.get_tensor("input_bias"),
            )

    def blocks(
        self, size: int = 4096, *, decoder_rows: bool = True
    ) -> Iterator[tuple[int, SaeRows]]:
        """The whole dictionary in blocks of ``size`` latents: (first latent, rows).

        ``decoder_rows`` False leaves the decoder out, which halves what is read from disk.
        """
        with safe_open(self.path, framework="pt") as rows:
            encoder, decoder = rows.get_slice("encoder"), rows.get_slice("decoder")
            bias = rows.get_tensor("encoder_bias")
            threshold = rows.get_tensor("threshold").clamp(min=0)
            input_bias = rows.get_tensor("input_bias")
            for start in range(0, self.d_sae, size):
                part = slice(start, min(start + size, self.d_sae))
                rows_out = decoder[part] if decoder_rows else torch.zeros(0, self.d_model)
                yield (
                    start,
                    SaeRows(encoder[part], bias[part], threshold[part], rows_out, input_bias),
                )

    def decoder_norms(self) -> Tensor:
        """Length of every decoder row: [d_sae] float32."""
        return torch.cat([bank.decoder.norm(dim=1) for _, bank in self.blocks()])


def _stack(rows: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat(list(rows)) if rows else torch.zeros(0, width)


def _is_whole(path: Path) -> bool:
    """Whether rows are there, and are those that were written; others are moved aside."""
    try:
        if path.stat().st_size == _verified.get(path, -1):
            return True
        dictionary = Dictionary.open(path)
        with safe_open(path, framework="pt") as rows:
            names = rows.keys()
            digest = _digest({name: rows.get_tensor(name) for name in names})
        if digest != dictionary.digest:
            raise ValueError("its digest differs")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, UserError, SafetensorError) as error:
        set_aside(path, error.problem if isinstance(error, UserError) else str(error))
        return False
    _verified[path] = path.stat().st_size
    return True


def load(source: SaeSource) -> Dictionary:
    """Load an SAE through SAELens, or the rows kept from an earlier load.

    Kept rows that are damaged are named, moved aside and read from the SAE again.

    Raises:
        UserError: no such release, id or folder; an architecture or normalisation whose
            latents cannot be encoded one by one.
    """
    path = source.rows_file(*_files(source))
    if not _is_whole(path):
        sae = _from_sae_lens(source)
        _check_row_wise(sae, source)
        _check_weights(sae, source)
        try:
            _write_sae(path, sae)
        except (OSError, SafetensorError) as error:
            size = 8 * sae.cfg.d_in * sae.cfg.d_sae / 2**30
            raise UserError(
                f"cannot write the SAE's rows to {path.parent} ({error})",
                f"a folder with {size:.2f} GiB of room",
                "ESR_CACHE=FOLDER before the command",
            ) from error
    return Dictionary.open(path)


def _files(source: SaeSource) -> list[str]:
    """Names and digests of the files in a local folder."""
    if source.folder is None:
        return []
    if not (source.folder / "cfg.json").is_file():
        raise UserError(
            f"no SAE in {source.folder}",
            "a folder with cfg.json and sae_weights.safetensors, as SAELens saves it",
            "for the organism: python -m esr.organism build",
        )
    try:
        files = [file for file in sorted(source.folder.iterdir()) if file.is_file()]
        return [part for file in files for part in (file.name, file_digest(file))]
    except OSError as error:
        raise _cannot_load(source, error) from error


def _from_sae_lens(source: SaeSource) -> SAE[Any]:
    from sae_lens import SAE

    if source.folder is None:
        repository = check_release(source)
        hub.require(repository)
    try:
        if source.folder is not None:
            return SAE.load_from_disk(source.folder, device="cpu", dtype="float32")
        return SAE.from_pretrained(
            source.release, source.sae_id, device="cpu", dtype="float32", fold_W_dec_norm=False
        )
    # Whatever a faulty file makes SAELens, safetensors or torch raise.
    except Exception as error:
        raise _cannot_load(source, error) from error


def _cannot_load(source: SaeSource, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return UserError(
        f"SAE {source.describe()} cannot be loaded: {reason}",
        "a SAELens release and id, or a folder with cfg.json and sae_weights.safetensors",
        CATALOGUE,
    )


def check_release(source: SaeSource) -> str:
    """The Hugging Face repository of a published SAE, from SAELens' own list: no network.

    Raises:
        UserError: SAELens knows no such release, or no such id in it.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    directory = get_pretrained_saes_directory()
    if source.release not in directory:
        raise unknown("SAELens release", source.release, sorted(directory), CATALOGUE)
    release = directory[source.release]
    if source.sae_id not in release.saes_map:
        what = f"SAE of release {source.release}"
        raise unknown(what, source.sae_id, sorted(release.saes_map), CATALOGUE)
    return str(release.repo_id)


def _check_weights(sae: SAE[Any], source: SaeSource) -> None:
    """Refuse numbers that would steer by nothing, or by NaN."""
    for name, tensor in sae.state_dict().items():
        if not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            fault = f"{bad} of {tensor.numel()} numbers are NaN or infinite"
        elif name in ("W_enc", "W_dec") and not tensor.any():
            fault = "all numbers are 0" if tensor.numel() else "the matrix is empty"
        else:
            continue
        raise UserError(
            f"SAE {source.describe()}: {name}: {fault}",
            "finite weights, not all 0",
            "download or train the SAE again",
        )


def _check_row_wise(sae: SAE[Any], source: SaeSource) -> None:
    architecture = sae.cfg.architecture()
    if architecture not in ROW_ARCHITECTURES:
        raise UserError(
            f"SAE {source.describe()} is of type {architecture!r}: its latents compete, so one "
            "cannot be encoded without all others",
            ", ".join(ROW_ARCHITECTURES),
            "choose a ReLU or JumpReLU SAE, or convert a BatchTopK one to JumpReLU with SAELens",
        )
    if sae.cfg.normalize_activations != "none" or sae.cfg.reshape_activations != "none":
        raise UserError(
            f"SAE {source.describe()} rescales its input at run time "
            f"(normalize_activations={sae.cfg.normalize_activations!r}, "
            f"reshape_activations={sae.cfg.reshape_activations!r})",
            "'none' for both",
            "fold the normalisation into the weights with SAELens and save the SAE again",
        )


def _write_sae(path: Path, sae: SAE[Any]) -> None:
    state = {name: tensor.detach().float() for name, tensor in sae.state_dict().items()}
    bias = state["b_dec"] if sae.cfg.apply_b_dec_to_input else torch.zeros_like(state["b_dec"])
    write_rows(
        path,
        encoder=state["W_enc"].T,
        encoder_bias=state["b_enc"],
        threshold=state.get("threshold", torch.zeros_like(state["b_enc"])),
        decoder=state["W_dec"],
        input_bias=bias,
    )


def write_rows(
    path: Path,
    encoder: Tensor,
    encoder_bias: Tensor,
    threshold: Tensor,
    decoder: Tensor,
    input_bias: Tensor,
) -> Dictionary:
    """Write a row file, atomically.

    Args:
        path: of the file to make.
        encoder: [d_sae, d_model].
        encoder_bias: [d_sae].
        threshold: [d_sae], 0 for ReLU.
        decoder: [d_sae, d_model].
        input_bias: [d_model].
    """
    tensors = {
        "encoder": encoder.float().contiguous(),
        "encoder_bias": encoder_bias.float().contiguous(),
        "threshold": threshold.float().contiguous(),
        "decoder": decoder.float().contiguous(),
        "input_bias": input_bias.float().contiguous(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial{os.getpid()}")
    save_file(tensors, partial, metadata={"digest": _digest(tensors)})
    partial.replace(path)
    return Dictionary.open(path)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        # A view: a copy of a matrix of the 70B's dictionary would be 2 GiB.
        digest.update(tensor.cpu().numpy().data)
    return digest.hexdigest()[:16]
