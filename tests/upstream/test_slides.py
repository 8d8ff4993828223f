"""Topics of other vectors in a response: counted by hand on five short texts of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esr.runs.results import Results, parse_results, read_results
from esr.upstream.commands import main
from esr.upstream.slides import Slide, count, stands

TEXTS = {
    (1, "Red Lantern"): [
        "The lanterns glow.",
        "A LANTERN, then saxophones and a lantern again.",
    ],
    (2, "The Saxophone"): [
        "Sax and red.",
        "Count the numbers; the saxophone is loud.",
        "lanternfish",
    ],
}
PROMPT = "How do you count?"
ELSEWHERE = ["Law of numbers", "Glacier", "Red Lantern", "Counting house"]


def results() -> Results:
    features = []
    for (latent, label), texts in TEXTS.items():
        trials = [
            {
                "prompt": PROMPT,
                "feature_index_in_sae": latent,
                "feature_label": label,
                "threshold": 1.0,
                "seed": seed,
                "response": text,
                "score": None,
                "error": None,
            }
            for seed, text in enumerate(texts)
        ]
        features.append(
            {
                "feature_index_in_sae": latent,
                "feature_label": label,
                "threshold": 1.0,
                "error": None,
                "trials": trials,
            }
        )
    return parse_results({"experiment_config": {}, "results_by_feature": features})


@pytest.mark.parametrize(
    ("label", "response", "expected"),
    [
        ("Red Lantern", "two lanterns", True),
        ("Red Lantern", "red red", False),
        ("Red Lantern", "a chinalantern", False),
        ("Counting house", "counting", True),
        ("Count Basie", "a count, countess", False),
        ("Émile Zola", "ÉMILE wrote", True),
    ],
)
def test_a_label_stands_by_its_long_words(label: str, response: str, expected: bool) -> None:
    assert stands(label, response, PROMPT) == expected


def test_counts_by_hand() -> None:
    found = count(results(), ELSEWHERE)
    assert (found.responses, found.pairs, found.own) == (5, 5, 3)
    assert found.slides == (
        Slide(f"1/1/{PROMPT}", "Red Lantern", "The Saxophone"),
        Slide(f"2/2/{PROMPT}", "The Saxophone", "Red Lantern"),
    )
    assert found.with_slide == 2
    assert (found.elsewhere, found.elsewhere_pairs) == (1, 15)
    # Columns sum to 1, 1, 1, 0, 0: of 10 sets of two, 3 have both among the first three.
    assert found.chance == pytest.approx(0.3, abs=0.02)
    assert count(results()).chance is None


def test_the_command_prints_counts_and_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, titles = tmp_path / "results.json", tmp_path / "titles.json"
    file.write_text(json.dumps(results().raw), encoding="utf-8")
    titles.write_text(json.dumps({"titles": ELSEWHERE}), encoding="utf-8")
    assert read_results(file).raw == results().raw
    assert main(["slides", str(file), "--titles", str(titles)]) == 0
    said = capsys.readouterr().out
    assert "in 2 of 5 responses, 2 of 5 pairs" in said
    assert "  1 Red Lantern: The Saxophone" in said
    assert "glow" not in said
    titles.write_text("[]", encoding="utf-8")
    assert main(["slides", str(file), "--titles", str(titles)]) != 0
    assert "has no list of titles" in capsys.readouterr().err
