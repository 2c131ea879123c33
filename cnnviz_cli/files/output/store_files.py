"""Which files below an output folder are parts of stores, see `feature_store`. No numpy here: every run asks."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from cnnviz_cli.core.file_reading import open_regular
from cnnviz_cli.files.output.file_names import FOLD_STATE_PREFIX
from cnnviz_cli.files.output.sink import Sink, explain_write_errors

STORE_PART = re.compile(r"run\.(?P<name>[a-z0-9-]+)\.(?P<part>whole|[0-9]+-of-[0-9]+)\.jsonl")


def remove_stores(sink: Sink) -> None:
    """Remove every store from the output folder; only where no process needs one any more."""
    for path in sorted(sink.root.glob("run.*.jsonl")):
        if not STORE_PART.fullmatch(path.name) or not is_store_file(path):
            continue
        stem = path.name.removesuffix(".jsonl")
        # The index last: without it nobody knows whose they are.
        for one in (*sink.root.glob(f"{stem}.*.f32"), sink.root / f"{stem}.json", path):
            with explain_write_errors(one):
                one.unlink(missing_ok=True)


def is_store_file(path: Path) -> bool:
    """Whether the index of a store is ours."""
    with suppress(OSError), open_regular(path, follow=False) as file:
        return file.read(len(FOLD_STATE_PREFIX)) == FOLD_STATE_PREFIX
    return False
