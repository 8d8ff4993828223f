"""LaTeX tables of experiment 9 (paper Table 2)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from esr.analysis.tables import ORGANISM_NOTE

if TYPE_CHECKING:
    import pandas as pd

LABEL_LENGTH = 48

HEADINGS = {
    "off_topic_mean": "off-topic",
    "correction_mean": "correction",
    "on_topic_mean": "on-topic",
    "baseline_mean": "baseline",
    "cohens_d": "$d$",
    "cliffs_delta": r"$\delta$",
    "wilcoxon_p": "$p$",
    "holm_p": "Holm $p$",
}
"""Key of a row -> heading of its column, in order."""

_SPECIAL = str.maketrans(
    {
        **{character: "\\" + character for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def all_tables(results: Mapping[str, Any]) -> dict[str, str]:
    """File name without ending -> text."""
    import pandas as pd

    about = _about(results)
    groups = pd.DataFrame([{"group": name, **row} for name, row in results["groups"].items()])
    caption = f"Mean activation of each group of latents. {about}"
    tables = {"groups": _table(groups, ["group"], caption, "tab:exp9-groups")}
    latents = pd.DataFrame(results["latents"])
    latents["label"] = [_short(label) for label in latents["label"]]
    for name in results["groups"]:
        rows = latents[latents["group"] == name]
        rows = rows.sort_values("cohens_d", ascending=False, kind="stable")
        caption = f"Activations of the {name} latents, one row each. {about}"
        tables[name] = _table(rows, ["latent", "label"], caption, f"tab:exp9-{name}")
    return tables


def _table(rows: pd.DataFrame, names: list[str], caption: str, label: str) -> str:
    """A table of those columns that the rows have; a baseline is always one of them.

    Args:
        rows: keys of ``results.json`` as columns.
        names: columns that stand first, under their own names.
        caption: escaped.
        label: to refer to it.
    """
    numbers = [key for key in HEADINGS if key in rows or key == "baseline_mean"]
    printed = rows.reindex(columns=[*names, *numbers]).rename(columns=HEADINGS)
    digits = {HEADINGS[key]: 3 if key.endswith("_mean") else 2 for key in numbers}
    formats: dict[Any, Any] = {head: partial(number, digits=n) for head, n in digits.items()}
    rules = [{"selector": rule, "props": ":hline"} for rule in ("toprule", "midrule", "bottomrule")]
    style = printed.style.hide(axis="index").format(formats, na_rep="--", escape="latex")
    columns = "".join("r" if name == "latent" else "l" for name in names) + "r" * len(numbers)
    tabular = style.set_table_styles(rules).to_latex(column_format=columns)  # type: ignore[arg-type]
    return (
        f"\\begin{{table}}\n\\centering\\small\n{tabular}"
        f"\\caption{{{caption}}}\n\\label{{{label}}}\n\\end{{table}}\n"
    )


def _about(results: Mapping[str, Any]) -> str:
    counts, info = results["counts"], results["experiment_config"]
    organism = f" {ORGANISM_NOTE}" if info["organism"] else ""
    return escaped(
        f"{info['model_title']}: {counts['episodes_analysed']} self-correcting episodes under "
        f"{counts['boosted_latents']} boosted latents, {counts['baseline']} baseline responses, "
        f"re-fed without steering; detectors chosen by {results['detectors']['method']}, "
        f"boundaries by {', '.join(results['boundaries'])}. One-sided Wilcoxon test that off-topic "
        f"exceeds on-topic; Holm over the latents of the table.{organism}"
    )


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return text.translate(_SPECIAL)


def _short(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else label[: LABEL_LENGTH - 3] + "..."


def number(value: float, digits: int) -> str:
    """So many significant digits, in LaTeX."""
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return rf"${mantissa}\cdot 10^{{{int(exponent)}}}$"
    return f"${text}$" if value < 0 else text
