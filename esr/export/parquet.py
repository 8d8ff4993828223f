"""Tables as Parquet files, beside a data card that pandas and ``datasets`` readers can go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.errors import cannot_write
from esr.export.card import card
from esr.export.columns import TABLES, Column
from esr.export.source import Source
from esr.export.tables import tables

if TYPE_CHECKING:
    import pyarrow as pa

CARD = "README.md"


def schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of a table, with what each column holds as its metadata."""
    import pyarrow as pa

    return pa.schema(
        [pa.field(c.name, _type(c.kind), metadata={"description": c.about}) for c in columns]
    )


def _type(kind: str) -> Any:
    import pyarrow as pa

    if kind.startswith("list<"):
        return pa.list_(_type(kind.removeprefix("list<").removesuffix(">")))
    return pa.type_for_alias(kind)


def write(sources: Sequence[Source], folder: Path) -> dict[str, int]:
    """Write one file per table, and the card. The same runs give the same bytes.

    Args:
        sources: runs.
        folder: to write to; files of the same names are replaced.

    Returns:
        rows by table.

    Raises:
        UserError: the folder cannot be written to.
    """
    rows = tables(sources)
    counts = {name: len(listed) for name, listed in rows.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, listed in rows.items():
            _write(listed, TABLES[name], folder / f"{name}.parquet")
        (folder / CARD).write_text(card(sources, counts), encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return counts


def _write(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    # Half a character, which JSON can hold and Parquet cannot, is spelled out.
    clean = [{key: _whole(value) for key, value in row.items()} for row in rows]
    parquet.write_table(
        pa.Table.from_pylist(clean, schema(columns)), path, compression="zstd", store_schema=True
    )


def _whole(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
