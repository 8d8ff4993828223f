"""Whether a Hugging Face repository can be had: asked once, before a library retries for long."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from esr.errors import UserError

LOGIN = "hf auth login, and accept the licence on the model's page"
"""What opens a gated repository."""

_TIMEOUT = 10.0
"""Seconds for the one question."""


def commit(repository: str, revision: str = "main") -> str | None:
    """The commit that a branch, tag or commit means on this machine; None where it is not here."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    reference = folder(repository) / "refs" / revision
    return reference.read_text(encoding="utf-8").strip() if reference.is_file() else None


def resolve(repository: str, revision: str = "main") -> str:
    """:func:`commit`, asked of the hub where this machine does not know it, and remembered here.

    A branch moves; a run is named by a commit, and every later command works on the same one.

    Raises:
        UserError: as :func:`require`.
    """
    if here := commit(repository, revision):
        return here
    there, reason = _ask(repository, revision)
    if reason:
        raise _unreachable(repository, revision, reason)
    reference = folder(repository) / "refs" / revision
    with contextlib.suppress(OSError):
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(there, encoding="utf-8")
    return there


def cached(repository: str, revision: str = "main") -> Path | None:
    """The snapshot of a revision in this machine's cache, whole or in part; None where none is."""
    snapshot = folder(repository) / "snapshots" / (commit(repository, revision) or revision)
    return snapshot if snapshot.is_dir() else None


def revisions(repository: str) -> list[str]:
    """Branches and commits of a repository in this machine's cache."""
    place = folder(repository)
    return sorted(p.name for part in ("refs", "snapshots") for p in (place / part).glob("*"))


def folder(repository: str) -> Path:
    """Where this machine's cache has a repository, or would have it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def absence(repository: str, revision: str = "main") -> str:
    """Why a repository cannot be asked for at this moment; empty where the hub has it.

    Raises:
        UserError: the name is not one, or the hub knows no such repository or revision.
    """
    return _ask(repository, revision)[1]


def _ask(repository: str, revision: str) -> tuple[str, str]:
    """The commit, and why the hub cannot be asked: one of them is empty."""
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi().model_info(repository, revision=revision, timeout=_TIMEOUT)
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{repository} has no revision {revision!r}",
            "a branch, tag or commit of it",
            'revision = "main"',
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"Hugging Face has no model {repository!r} that you may see",
            "an id such as lab/model, or a local folder (./weights)",
            f"check the name; for a gated model: {LOGIN}",
        ) from error
    # What the network raises is the business of a library below the hub's, which changes.
    except Exception as error:
        return "", " ".join(str(error).split()) or type(error).__name__
    return str(info.sha), ""


def require(repository: str, revision: str = "main") -> None:
    """Refuse at once what is neither on this machine nor on the hub.

    Raises:
        UserError: as :func:`absence`, or the hub cannot be reached.
    """
    if cached(repository, revision) is None and (reason := absence(repository, revision)):
        raise _unreachable(repository, revision, reason)


def _unreachable(repository: str, revision: str, reason: str) -> UserError:
    return UserError(
        f"{repository} (revision {revision}) is not on this machine, and Hugging Face cannot "
        f"be reached: {reason}",
        "a network connection, a downloaded model, or a local folder",
        f"where there is a network: hf download {repository} --revision {revision}",
    )
