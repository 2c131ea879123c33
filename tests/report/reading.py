"""A page that was written, read back without a browser."""

from __future__ import annotations

import base64
import json
import os
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray


class Elements(HTMLParser):
    """The elements of a page, as a browser's parser finds them: name, attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._script: dict[str, str | None] | None = None
        self.title = ""
        self._in_title = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in_title = tag == "title"
        if tag == "script":
            self._script = dict(attrs)
            self.scripts.append((self._script, ""))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  (as the base class has it)
        self._script, self._in_title = None, False

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        if self._in_title:
            self.title += data


class Read:
    """What a page says: its index, its entries, and what the manifests say of each."""

    def __init__(self, page: Path) -> None:
        self.page, self.text = page, page.read_text(encoding="utf-8")
        self.elements = Elements(self.text)
        self.blocks = {attributes["id"]: text for attributes, text in self.elements.scripts if attributes.get("id")}
        self.index: dict[str, Any] = json.loads(self.blocks["index"])
        self.entries: list[dict[str, Any]] = []
        self.records: list[list[dict[str, Any] | None]] = []
        for number in range(-(-self.index["n"] // self.index["chunk"])):
            entries, packed = self._chunk(number)
            self.entries += entries
            self.records += json.loads(zlib.decompress(base64.b64decode(packed)))

    def _chunk(self, number: int) -> tuple[list[dict[str, Any]], str]:
        if self.index["mode"] == "single":
            return json.loads(self.blocks[f"chunk-{number}"]), self.blocks[f"packed-{number}"]
        folder = self.page.parent / unquote(self.index["folder"])
        text = (folder / f"chunk-{number:05d}.js").read_text(encoding="ascii")
        start = f"R.chunk({number},"
        assert text.startswith(start)
        assert text.endswith('")\n')
        entries, end = json.JSONDecoder().raw_decode(text[len(start) :])
        return entries, text[len(start) + end + 2 : -3]

    def column(self, name: str) -> NDArray[Any]:
        """A column; of whole numbers none is -1, of others NaN."""
        found = self.index["columns"][name]
        values = np.frombuffer(base64.b64decode(found["data"]), f"<{found['kind']}")
        if found["kind"] in ("f4", "f8"):
            return values
        return np.where(values == np.iinfo(values.dtype).max, -1, values.astype(np.int64))

    def entry(self, source: str) -> dict[str, Any]:
        """The entry of an image."""
        return self.entries[self.index["sources"].index(source)]

    def label(self, place: int) -> str | None:
        """The name of a class; None for none."""
        return None if place < 0 else self.index["labels"][place]

    def file(self, address: str) -> Path:
        """The file that an address leads to."""
        return Path(os.path.normpath(Path(self.page.parent, *map(unquote, address.split("/")))))

    def figure(self, one: dict[str, Any], entry: dict[str, Any]) -> str | None:
        """The address of a map's figure."""
        folder = entry["runs"][self.index["views"][one["view"]]["run"]]["folder"]
        return f"{folder}/{one['file']}" if "file" in one else one.get("figure")


def levels(one: dict[str, Any]) -> NDArray[np.uint8]:
    """The shares (h, w) of a map that travels as numbers."""
    return np.frombuffer(base64.b64decode(one["data"]), np.uint8).reshape(one["shape"])
