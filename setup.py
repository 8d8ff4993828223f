"""Packages of the wheel; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
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
