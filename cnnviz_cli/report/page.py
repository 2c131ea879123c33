"""The page itself: its head, its data as text that nothing can break out of, and our scripts."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnviz_cli.core.file_reading import open_regular

MARK = "<!doctype html>\n<!-- cnnviz report -->\n"
"""The first bytes of every page of ours."""

INDEX_ID = "index"

Plain = dict[str, Any]
"""An object of the page's data."""

_MANIFESTS = "cnnviz-manifests"
_HEAD_BYTES = 1 << 14


def to_json(value: Any) -> str:
    """JSON in ASCII without a ``<``, so that it ends no script, whatever it says. Raises ValueError on NaN."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def to_base64(data: bytes) -> str:
    """Bytes as the page carries them."""
    return base64.b64encode(data).decode("ascii")


def links_from(folder: Path) -> Callable[[Path], str | None]:
    """What makes the address of a file for a page in `folder`.

    None where there is no way: to another drive of Windows.
    """
    here = os.path.realpath(folder)

    def link(target: Path) -> str | None:
        try:
            # A link is named, not followed: what it leads to is no matter of the page.
            way = os.path.relpath(Path(os.path.realpath(target.parent), target.name), here)
        except ValueError:
            return None
        return encode_path(way.replace(os.sep, "/"))

    return link


def encode_path(path: str) -> str:
    """A path with forward slashes as an address: a ``#``, a ``%`` or a ``?`` in a name is no mark of the address."""
    return "/".join(quote(os.fsencode(part), safe="") for part in path.split("/"))


@cache
def app_files() -> tuple[str, str, str]:
    """The libraries, our scripts and our styles, each in one piece; scripts in the order of ``app/ORDER``."""
    room = resources.files(__package__)
    order = room.joinpath("app/ORDER")
    listed = order.read_text(encoding="utf-8").split() if order.is_file() else []

    def joined(suffix: str) -> str:
        return "\n".join(
            room.joinpath("app", name).read_text(encoding="utf-8") for name in listed if name.endswith(suffix)
        )

    vendor = room.joinpath("vendor/vendor.js")
    return vendor.read_text(encoding="utf-8") if vendor.is_file() else "", joined(".js"), joined(".css")


def head(title: str, digests: Sequence[str]) -> str:
    """All that stands before the data; `digests` are those of the manifests that the page is of."""
    vendor, app, css = app_files()
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in (vendor, app))
    policy = (
        f"default-src 'none'; img-src data: blob: file: 'self'; script-src {hashes} file: 'self'; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    return (
        f'{MARK}<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="{_MANIFESTS}" content="{" ".join(digests)}">\n'
        f"<title>{html.escape(title)}</title>\n<style>{css}</style>\n</head>\n<body>\n"
    )


def shown_manifests(page: Path) -> list[str] | None:
    """The SHA-256 of the manifests that a page of ours was made of, by which one tells whether it is stale; None where
    there is no such page. One of an unfinished run is not among them."""
    try:
        with open_regular(page) as file:
            start = file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    found = re.search(rf'<meta name="{_MANIFESTS}" content="([0-9a-f ]*)">', start)
    return found[1].split() if found and start.startswith(MARK) else None


def body(manifests: Sequence[str]) -> str:
    """The place of the app, and what stands there without scripts: the addresses of the manifests."""
    links = ", ".join(f'<a href="{html.escape(one)}">{html.escape(one)}</a>' for one in manifests)
    same = f" The same facts are in {links}." if links else ""
    return f'<noscript><p class="noscript">This report needs JavaScript.{same}</p></noscript>\n<div id="app"></div>\n'


def data_block(name: str, text: str, kind: str) -> str:
    """Data in the page, which no browser runs; `text` comes from `to_json`."""
    return f'<script type="{kind}" id="{name}">{text}</script>\n'


def foot() -> str:
    """Our scripts, which find all data above them."""
    vendor, app, _ = app_files()
    return f"<script>{vendor}</script>\n<script>{app}</script>\n</body>\n</html>\n"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
