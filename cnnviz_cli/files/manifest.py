"""The manifest, streamed from the journal's lines."""

import json
from collections.abc import Iterable
from typing import Any

from cnnviz_cli.core.records import SCHEMA_VERSION, ModelRecord, Run, Summary, Tool
from cnnviz_cli.files.marks import MANIFEST
from cnnviz_cli.files.sink import Sink
from cnnviz_cli.files.writepoints import passing


def write_manifest(
    sink: Sink,
    records: Iterable[bytes],
    *,
    tool: Tool,
    run: Run,
    model: ModelRecord,
    summary: Summary,
    name: str = MANIFEST,
) -> None:
    """Write ``manifest.json``, one image in memory at a time.

    Keys are sorted, and each image stands on a line of its own, as in the journal; all else is indented by one.

    Args:
        records: the JSON of each image's record on one line, keys sorted, in the order of the sources.

    Raises:
        OutputError: the disk refuses; an earlier manifest is then still in place.
    """
    after: dict[str, Any] = {
        "model": model.model_dump(mode="json"),
        "run": run.model_dump(mode="json"),
        "schema_version": SCHEMA_VERSION,
        "summary": summary.model_dump(mode="json"),
        "tool": tool.model_dump(mode="json"),
    }
    passing("manifest: before")
    with sink.replacing(name) as file:
        file.write(b'{\n "images": [')
        separator = b"\n  "
        for record in records:
            file.write(separator + record)
            separator = b",\n  "
        file.write(b"]" if separator == b"\n  " else b"\n ]")
        for key, value in after.items():
            text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
            file.write(f',\n "{key}": {text.replace(chr(10), chr(10) + " ")}'.encode())
        file.write(b"\n}\n")
