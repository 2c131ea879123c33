"""What an output folder is known by. Apart from the manifest itself, whose records take long to import."""

import os
import re
from pathlib import Path

MANIFEST = "manifest.json"
JOURNAL = "manifest.jsonl"

_SNIFFED = 4096


def is_output_folder(folder: Path) -> bool:
    """Whether `folder` holds a manifest or a journal of ours, judged by its first and last bytes."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            head = file.read(_SNIFFED)
            file.seek(max(0, file.seek(0, os.SEEK_END) - _SNIFFED))
            if head.startswith(b'{\n "images": [') and b'\n  "cnnviz": "' in file.read():
                return True
    except OSError:
        pass
    try:
        with (folder / JOURNAL).open("rb") as file:
            head = file.read(_SNIFFED)
    except OSError:
        return False
    # A run that was killed over its first image leaves an empty journal.
    return not head or re.search(rb'^\{".*"outputs":\[(\]|\{"family":)', head) is not None
