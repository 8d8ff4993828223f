"""LaTeX tables of experiment 9 (paper Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
LABEL_LENGTH = 48


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def all_tables(found: Mapping[str, Any]) -> dict[str, str]:
    """File name without ending -> text."""
    made = {"groups": _groups(found)}
    for name in found["groups"]:
        rows = [row for row in found["latents"] if row["group"] == name]
        made[name] = _latents(found, name, rows)
    return made


def _latents(found: Mapping[str, Any], group: str, rows: Sequence[Mapping[str, Any]]) -> str:
    ordered = sorted(rows, key=lambda r: -(r["cohens_d"] if r["cohens_d"] is not None else -9e9))
    header = (
        r"latent & label & off-topic & on-topic & baseline & $d$ & $\delta$ & $p$ & Holm $p$ \\"
    )
    lines = [
        " & ".join(
            [
                str(row["latent"]),
                escaped(_short(row["label"])),
                *(number(row[f"{k}_mean"], 3) for k in ("off_topic", "on_topic", "baseline")),
                *(number(row[k], 2) for k in ("cohens_d", "cliffs_delta")),
                *(number(row[k], 2) for k in ("wilcoxon_p", "holm_p")),
            ]
        )
        + r" \\"
        for row in ordered
    ]
    caption = f"Activations of the {group} latents, one row each. {_about(found)}"
    return _table("rlrrrrrrr", header, lines, caption, f"tab:exp9-{group}")


def _groups(found: Mapping[str, Any]) -> str:
    header = r"group & off-topic & correction & on-topic & baseline & $d$ & $\delta$ & $p$ \\"
    lines = []
    for name, row in found["groups"].items():
        cells = [
            number(row.get(f"{key}_mean"), 3)
            for key in ("off_topic", "correction", "on_topic", "baseline")
        ]
        cells += [number(row["cohens_d"], 2), number(row["cliffs_delta"], 2)]
        lines.append(" & ".join([name, *cells, number(row["wilcoxon_p"], 2)]) + r" \\")
    caption = f"Mean activation of each group of latents. {_about(found)}"
    return _table("lrrrrrrr", header, lines, caption, "tab:exp9-groups")


def _about(found: Mapping[str, Any]) -> str:
    counts, facts = found["counts"], found["experiment_config"]
    organism = (
        " A trained demonstration organism: no evidence about large models."
        if facts["organism"]
        else ""
    )
    return escaped(
        f"{facts['model_title']}: {counts['episodes_analysed']} self-correcting episodes under "
        f"{counts['boosted_latents']} boosted latents, {counts['baseline']} baseline responses, "
        f"re-fed without steering; detectors chosen by {found['detectors']['method']}, "
        f"boundaries by {', '.join(found['boundaries'])}. One-sided Wilcoxon test that off-topic "
        f"exceeds on-topic; Holm over the latents of the table.{organism}"
    )


def _short(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else label[: LABEL_LENGTH - 3] + "..."


def number(value: float | None, digits: int) -> str:
    """So many significant digits, in LaTeX; a dash for what is not defined."""
    if value is None:
        return "--"
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return rf"${mantissa}\cdot 10^{{{int(exponent)}}}$"
    return f"${text}$" if value < 0 else text


def _table(columns: str, header: str, lines: Sequence[str], caption: str, label: str) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\hline",
            header,
            r"\hline",
            *lines,
            r"\hline",
            r"\end{tabular}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            r"\end{table}",
            "",
        ]
    )
