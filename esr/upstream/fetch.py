"""Downloads with progress, resume and a mirror."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import requests

from esr.errors import UserError
from esr.runs import progress
from esr.runs.folder import write_json
from esr.runs.plain import file_digest
from esr.upstream.manifest import Manifest

TIMEOUT = 60.0
LARGEST = 1 << 28
"""Bytes of the largest file that is taken; the largest of the release has a few millions."""

_CHUNK = 1 << 16


class MissingError(Exception):
    """The server has no such file (404)."""


def fetch(manifest: Manifest, folder: Path, mirror: str = "") -> list[Path]:
    """Bring every file of the manifest into a folder; what is there and right stays.

    Args:
        manifest: what to fetch.
        folder: where it goes, under the same paths.
        mirror: base address instead of GitHub's.

    Returns:
        The files that were downloaded now.

    Raises:
        UserError: a download failed or its SHA-256 differs; nothing wrong is kept.
    """
    fresh = []
    files = progress.bar(len(manifest.files), "files", "file")
    with requests.Session() as session, files as bar:
        for file in manifest.files:
            bar.update()
            target = inside(folder, file.path)
            if target.is_file() and file_digest(target) == file.sha256:
                continue
            url = manifest.url(file, mirror)
            try:
                part = download(session, url, target.with_name(target.name + ".part"))
            except MissingError as error:
                raise UserError(
                    f"{url} does not exist", "a server that has the files", "try --mirror URL"
                ) from error
            if (digest := file_digest(part)) != file.sha256:
                part.unlink()
                raise UserError(
                    f"{url} has SHA-256 {digest}, not {file.sha256}",
                    "that digest",
                    "try --mirror URL",
                )
            part.replace(target)
            fresh.append(target)
    source = {"repository": manifest.repository, "commit": manifest.commit, "mirror": mirror}
    write_json(folder / "source.json", source)
    return fresh


def download(session: requests.Session, url: str, part: Path) -> Path:
    """Download into ``part``, going on where an earlier try ended.

    Raises:
        MissingError: 404.
        UserError: anything else that went wrong; what has arrived is kept for the next try, unless
            it is more than :data:`LARGEST` bytes.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.is_symlink():
        raise UserError(f"{part} is a link", "an ordinary file", f"rm {part}")
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 404:
                raise MissingError(url)
            if response.status_code == 416:  # all of it is there already
                return part
            response.raise_for_status()
            goes_on = response.status_code == 206
            with open(part, "ab" if goes_on else "wb", opener=_no_link) as file:
                for chunk in _chunks(response):
                    file.write(chunk)
                    if file.tell() > LARGEST:
                        part.unlink()
                        raise UserError(
                            f"{url} is too large", f"{LARGEST:,} bytes", "try --mirror URL"
                        )
    except OSError as error:  # Those of requests are of this kind, too.
        raise UserError(
            f"download of {url} failed ({error})",
            "a server that answers",
            "repeat the command, or --mirror URL",
        ) from error
    return part


def inside(folder: Path, path: str) -> Path:
    """A path below a folder.

    Raises:
        UserError: it leads out of the folder.
    """
    target = folder / path
    if not target.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{path!r} leads out of {folder}", "paths below it", "git checkout data/upstream.json"
        )
    return target


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    expected = response.headers.get("Content-Length")
    received = 0
    for chunk in response.iter_content(_CHUNK):
        received += len(chunk)
        yield chunk
    if expected is not None and received != int(expected):
        raise requests.ConnectionError(f"{received} of {expected} bytes arrived")
