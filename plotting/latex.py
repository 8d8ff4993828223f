"""Numbers as LaTeX macros for a manuscript, such as ``\\esrRateLlamaSeventy``.

A macro exists only where there is something to print: a number that was not measured is undefined,
and LaTeX says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from plotting import style
from plotting.measured import PERCENT
from plotting.published import Row

_MODELS = {
    "70b": "LlamaSeventy",
    "8b": "LlamaEight",
    "gemma-27b": "GemmaTwentySeven",
    "gemma-9b": "GemmaNine",
    "gemma-2b": "GemmaTwo",
    "all": "AllModels",
}
_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_SIGNS = {"+": "Plus", ".": "Point", "%": "Percent"}
_EXPERIMENTS = (*("Later", *_DIGITS[1:]), "Ten")


def macros(rows: Iterable[Row]) -> str:
    """One block per number: published, and where measured the value, its interval and n.

    Where several runs measured the same number, the first row given is printed.
    """
    made: dict[str, str] = {}
    organisms = False
    for row in rows:
        ours = row.measured
        organisms = organisms or bool(ours and ours.organism)
        known = {"Paper": row.published.printed} if not (ours and ours.organism) else {}
        if ours is not None:
            places = {PERCENT: 2, "score": 1}.get(ours.unit, 4)
            numbers = {"": ours.value, "Low": ours.low, "High": ours.high}
            known |= {k: f"{v:.{places}f}" for k, v in numbers.items() if v is not None}
            known |= {"N": f"{ours.n}", "Verdict": row.verdict}
        for suffix, text in known.items():
            made.setdefault(macro_name(row) + suffix, text)
    lines = ["% Published (Paper) and measured numbers; per cent where the paper has per cent."]
    if organisms:
        lines.append(f"% Organism: {style.ORGANISM_NOTE}.")
    lines += [f"\\newcommand{{\\{name}}}{{{text}}}" for name, text in made.items()]
    return "\n".join(lines) + "\n"


def macro_name(row: Row) -> str:
    """Quantity, model, and for all but experiment 1 the experiment and the arm; letters only."""
    paper, ours = row.published, row.measured
    model = _MODELS.get(paper.model) or letters(paper.model)
    if ours and ours.organism:
        model = letters(ours.title)
    quantity = letters(paper.quantity)
    name = quantity[0].lower() + quantity[1:] + model
    if paper.experiment == 1:
        return name
    return f"{name}Exp{_EXPERIMENTS[paper.experiment]}{letters(paper.arm)}"


def letters(text: str) -> str:
    """Words in camel case, digits and signs spelled out: "10 % off" -> "OneZeroPercentOff"."""
    spelled = re.sub(r"-(?=\d)", " Minus ", text)
    spelled = re.sub(r"\d", lambda found: f" {_DIGITS[int(found.group())]} ", spelled)
    for sign, word in _SIGNS.items():
        spelled = spelled.replace(sign, f" {word} ")
    words = re.findall(r"[A-Za-z]+", spelled)
    return "".join(word[0].upper() + word[1:] for word in words)
