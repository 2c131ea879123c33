"""The manifest, streamed from the journal's lines, with a digest of its own; its schema, and how it is read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from cnnviz_cli.core.accuracy import AccuracyCounter
from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.evaluation_fold import EvaluationTally
from cnnviz_cli.core.evaluation_records import EvaluationHead, MosaicsFound
from cnnviz_cli.core.file_reading import GIBIBYTE, NotRegularFileError, open_regular, read_regular
from cnnviz_cli.core.findings import Findings
from cnnviz_cli.core.records import SCHEMA_VERSION, Json, Manifest, ModelRecord, Output, Run, Summary, Table, Tool
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST
from cnnviz_cli.files.output.journal import MAX_LINE_BYTES, has_duplicate_keys, parse_json, to_compact_json
from cnnviz_cli.files.output.sink import Sink, explain_write_errors, foreign_file_error, reach_write_point

DIGEST_KEY = "sha256"  # the key of the digest
_MOST_REST = 1 << 26  # bytes of what stands behind the images, at the most


@dataclass(frozen=True)
class Conclusion:
    """What is made of all records together: figures, tables, and what a study has found."""

    sheets: Sequence[Output] = ()
    tables: Sequence[Table] = ()
    findings: Findings | None = None

    @property
    def lacks_images(self) -> bool:
        """Whether a named image could not be seen: of units no record says so."""
        return self.findings is not None and self.findings.unseen is not None

    @property
    def files(self) -> list[tuple[str, str]]:
        """Path and digest of each of its files."""
        listed: list[Output | Table] = [*self.sheets, *self.tables]
        return [(one.path, one.sha256) for one in listed]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.files]


NOTHING_CONCLUDED = Conclusion()


class ManifestDigest:
    """The SHA-256 of a manifest as `to_compact_json` spells it, without the digest itself; images are added one by one.

    So blanks say nothing, and two manifests with the same content have the same digest however they came about.
    """

    def __init__(self) -> None:
        self._hash = sha256(b'{"images":[')
        self._between = b""

    def add(self, record: bytes) -> None:
        """The next image's record, as `to_compact_json` spells it."""
        self._hash.update(self._between)
        self._hash.update(record)
        self._between = b","

    def digest(self, rest: Mapping[str, Any]) -> str:
        """In hexadecimal, with everything but the images; what `rest` has under `DIGEST_KEY` does not count."""
        others = {key: value for key, value in rest.items() if key not in (DIGEST_KEY, "images")}
        self._hash.update(b"]" + b",".join([b"", to_compact_json(others)[1:-1]]) + b"}")
        return self._hash.hexdigest()


def iterate_manifest(file: BinaryIO) -> Iterator[bytes | Json]:
    """Each image's record of a manifest in our own form, one at a time, then all else; ValueError for another form."""
    if file.readline(100) != b"{\n":
        raise ValueError("no manifest of ours")
    line = file.readline(100)
    if line == b' "images": [\n':
        while (line := file.readline(MAX_LINE_BYTES)) != b" ],\n":
            if not line.startswith(b"  {"):
                raise ValueError("no manifest of ours")
            yield line.strip().removesuffix(b",")
    elif line != b' "images": [],\n':
        raise ValueError("no manifest of ours")
    data = b"{" + file.read(_MOST_REST)
    rest: Any = parse_json(data)
    if not isinstance(rest, dict) or "images" in rest or has_duplicate_keys(data):
        raise ValueError("no manifest of ours")
    yield rest


def invalid_manifest(error: ValueError, place: Path) -> UsageError:
    """What to tell the user of a file that is no manifest, by what was raised when it was read."""
    why = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        at = ".".join(str(step) for step in first["loc"])
        why = f"{at}: {first['msg']}" if at else first["msg"]
    return UsageError(
        f"this is no valid manifest: {escape_text(why, 400)}",
        where=escape_text(str(place)),
        fix="Run the same command again; it writes a new one.",
    )


def write_manifest(
    sink: Sink,
    records: Iterable[bytes],
    *,
    tool: Tool,
    run: Run,
    model: ModelRecord,
    summary: Summary,
    concluded: Conclusion = NOTHING_CONCLUDED,
    evaluation: EvaluationHead | None = None,
    mosaics: MosaicsFound | None = None,
    name: str = MANIFEST,
) -> AccuracyCounter | None:
    """Write ``manifest.json``, one image in memory at a time; returns the network's accuracy, if that is known.

    Keys are sorted, and each image stands on a line of its own, as in the journal; all else is indented by one. The
    records are in the order of the sources. Raises OutputError if the disk refuses; an earlier manifest then stays.
    """
    after: dict[str, Any] = {
        "model": model.model_dump(mode="json"),
        "run": run.model_dump(mode="json"),
        "schema_version": SCHEMA_VERSION,
        "tool": tool.model_dump(mode="json"),
    }
    if concluded.sheets:
        after["sheets"] = [sheet.model_dump(mode="json") for sheet in concluded.sheets]
    if concluded.tables:
        after["tables"] = [table.model_dump(mode="json") for table in concluded.tables]
    if concluded.findings:
        after["findings"] = concluded.findings.model_dump(mode="json")
    judged = EvaluationTally(evaluation) if evaluation else None
    known = run.config.get("truth") is not None
    tally = AccuracyCounter(model.num_classes, multilabel=run.config.get("multilabel") is True) if known else None
    reach_write_point("manifest: before")
    with sink.open_replacement(name) as file:
        file.write(b'{\n "images": [')
        separator, seal = b"\n  ", ManifestDigest()
        for record in records:
            file.write(separator + record)
            seal.add(record)
            if tally is not None or judged is not None:
                plain = json.loads(record)
                if tally is not None:
                    tally.add(plain)
                if judged is not None:
                    judged.add(plain)
            separator = b",\n  "
        file.write(b"]" if separator == b"\n  " else b"\n ]")
        after["summary"] = add_accuracy(summary, tally).model_dump(mode="json")
        if judged is not None:
            judged.add_mosaics(mosaics)
            after["evaluation"] = judged.evaluation.model_dump(mode="json")
        after = dict(sorted({**after, DIGEST_KEY: seal.digest(after)}.items()))
        for key, value in after.items():
            text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
            file.write(f',\n "{key}": {text.replace(chr(10), chr(10) + " ")}'.encode())
        file.write(b"\n}\n")
    return tally


def remove_sheets(sink: Sink, headers: Iterable[Json]) -> None:
    """Remove the figures and tables about all records that the manifest lists: what is made anew may have other names.

    A file that is not as it was written stays. Of a million images a manifest is not read for nothing: `headers` are
    those of the earlier runs' journals, which say whether there are any. Raises OutputError if the disk refuses.
    """
    if not any(header.keys() & {"study", "beside", "evaluation"} for header in headers):
        return
    for relative, digest in _files_about_all(sink):
        with suppress(OutputError):  # a path that leads out of the folder, or is none
            place = sink.place(relative)
            with suppress(FileNotFoundError, NotADirectoryError, ValueError), explain_write_errors(place):
                if sha256(read_regular(place, GIBIBYTE, follow=False)).hexdigest() == digest:
                    place.unlink(missing_ok=True)


def _files_about_all(sink: Sink) -> list[tuple[str, str]]:
    """Path and digest of each figure and table about all records that the manifest lists."""
    try:
        with open_regular(sink.place(MANIFEST), follow=False) as file:
            rest: Any = next(part for part in iterate_manifest(file) if isinstance(part, dict))
        listed = [*rest.get("sheets", []), *rest.get("tables", [])]
        return [(str(one["path"]), str(one["sha256"])) for one in listed]
    except (OSError, ValueError, LookupError, TypeError, OutputError):
        return []


def write_table_file(sink: Sink, relative: str, data: bytes) -> str:
    """Write a table about all records, and return its SHA-256 in hexadecimal.

    A table carries no mark of ours: one that is there is replaced if the manifest lists it as it is, or if it is the
    same. Raises OutputError for any other, and if the disk refuses.
    """
    place, digest = sink.place(relative), sha256(data).hexdigest()
    with explain_write_errors(place):
        try:
            found = sha256(read_regular(place, GIBIBYTE, follow=False)).hexdigest()
        except FileNotFoundError:
            found = digest
        except NotRegularFileError:
            found = ""
    if found != digest and (relative, found) not in _files_about_all(sink):
        raise foreign_file_error(sink.root, relative)
    return sink.write(relative, data)


def add_accuracy(summary: Summary, tally: AccuracyCounter | None) -> Summary:
    """The summary, with the accuracy."""
    return summary if tally is None else summary.model_copy(update={"accuracy": tally.accuracy})


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``manifest.json``, from the records themselves."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(mode="serialization"),
    }
