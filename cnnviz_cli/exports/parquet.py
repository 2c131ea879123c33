"""Parquet: the table of outputs with the types of its columns, by pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from cnnviz_cli import __version__
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.exports.api import Format, Told, Wishes, export_format, new_file
from cnnviz_cli.exports.common.columns import OutputTable
from cnnviz_cli.files.output.saved_run import SavedRun

_ROWS = 8192
"""Rows that are in memory together: a row group."""


@export_format
class ParquetTable(Format):
    """The columns of the CSV table as texts, 64-bit whole numbers, doubles and booleans; foreign text as it is."""

    name = "parquet"
    summary = "The same table with types, for pandas, Polars, DuckDB and Spark (extra: parquet)."
    suffix = ".parquet"

    def check(self) -> None:
        if find_spec("pyarrow") is None:
            raise UsageError(
                "Parquet files are written by pyarrow, which is not installed",
                where="--to",
                fix="pip install 'cnnviz-cli[parquet]'\nOr write the same table as text: --to csv",
            )

    def write(self, run: SavedRun, place: Path, wishes: Wishes, told: Told) -> None:  # noqa: ARG002
        import pyarrow as pa
        from pyarrow import parquet

        table = OutputTable(run)
        kinds = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "yes": pa.bool_()}
        about = {"cnnviz": __version__, "manifest_sha256": run.digest}
        schema = pa.schema([(column.name, kinds[column.kind]) for column in table.columns], metadata=about)
        lines = 0
        with new_file(place) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in _in_groups(table.rows()):
                try:
                    columns = [
                        pa.array([_as(row.get(one.name), one.kind) for row in rows], kinds[one.kind])
                        for one in table.columns
                    ]
                except (pa.ArrowInvalid, OverflowError) as error:
                    what = "the manifest has a whole number that does not fit into 64 bits"
                    raise UsageError(
                        what, where=escape_text(str(run.root)), fix="Export it as text: --to csv"
                    ) from error
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                lines += len(rows)
        told.counts = {"image": len(run), "row": lines}


def _as(value: Any, kind: str) -> Any:
    """JSON has whole numbers where Python had fractions without a rest."""
    return float(value) if kind == "number" and value is not None else value


def _in_groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rows = iter(rows)
    while group := list(islice(rows, _ROWS)):
        yield group
