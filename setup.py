"""Packages of the wheel; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# Metadata beside the code would be found before the installed one wherever a command starts in the
# checkout, and Inspect then takes the package for one that is not installed.
EGG_BASE = Path("build")
EGG_BASE.mkdir(exist_ok=True)

setup(
    options={"egg_info": {"egg_base": str(EGG_BASE)}},
    packages=[
        *find_packages(include=["esr*", "experiment_*", "plotting*", "benchmarks*"]),
        # The folder data/ of a checkout (esr/runs/paths.py).
        "esr_data",
    ],
    package_dir={"esr_data": "data"},
    package_data={
        "esr_data": [
            *("*.json", "prompts/*", "rubrics/*"),
            *(
                "organism/*.json",
                "organism/*.csv",
                "organism/*.safetensors",
                "organism/README.md",
                "organism/*/*",
            ),
        ],
        "plotting.report": ["*.html", "*.css", "*.js"],
    },
)
