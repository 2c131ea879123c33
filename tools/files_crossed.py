"""Count the files of the package that one image crosses in `cnnviz gradcam`: ``python tools/files_crossed.py``.

Five images are explained one by one in one process. A file counts if one of its functions is called between the
opening of the third image and that of the fourth, that is while one image is read, explained, drawn and recorded. A hop
is a call in another file than the call before. What runs at import does not count.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch  # noqa: F401  (its import would be followed call by call, which doubles the time)

import cnnviz_cli
from cnnviz_cli.cli.main import main as cnnviz

PACKAGE = Path(cnnviz_cli.__file__).parent
SAMPLES = PACKAGE.parent / "sample_images"
NAMES = ("camera.png", "chelsea.png", "chelsea_coffee.png", "coffee.png", "rocket.jpg")
IMAGES = [str(SAMPLES / name) for name in NAMES]


class Crossing:
    """The package's files in the order in which they are called: all of them, and those of one image."""

    def __init__(self) -> None:
        self.whole: set[str] = set()
        self.path: list[str] = []
        self._within = False
        self._importing = 0

    def called(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """What `sys.settrace` calls at each call, and within a module that is imported until it returns."""
        code = frame.f_code
        if not code.co_filename.startswith(f"{PACKAGE}/"):
            return None
        if code.co_name == "<module>":
            self._importing += {"call": 1, "return": -1}.get(event, 0)
            return self.called
        if not self._importing:
            file = code.co_filename.removeprefix(f"{PACKAGE}/")
            self.whole.add(file)
            if self._within and self.path[-1:] != [file]:
                self.path.append(file)
        return None

    def opened(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What `sys.addaudithook` calls."""
        if event == "open" and arguments[0] in IMAGES:
            self._within = arguments[0] == IMAGES[2]


def crossing() -> Crossing:
    """The way of one image, in this process."""
    found = Crossing()
    sys.addaudithook(found.opened)
    with tempfile.TemporaryDirectory() as folder:
        threading.settrace(found.called)
        sys.settrace(found.called)
        try:
            code = cnnviz(["gradcam", *IMAGES, "--workers", "0", "--batch-size", "1", "-q", "-o", folder])
        finally:
            sys.settrace(None)
            threading.settrace(None)
    if code:
        raise SystemExit(f"cnnviz gradcam ended with {code}")
    return found


def main() -> None:
    """Print how many files and hops, then the files by room."""
    found = crossing()
    rooms: dict[str, list[str]] = defaultdict(list)
    for file in sorted(set(found.path)):
        room, _, name = file.rpartition("/")
        rooms[room].append(name)
    print(f"{len(set(found.path))} files in {len(found.path) - 1} hops for one image;", end=" ")
    print(f"{len(found.whole)} from the start of the command to its end")
    for room, names in rooms.items():
        print(f"{room or '.'} ({len(names)}): {', '.join(names)}")


if __name__ == "__main__":
    main()
