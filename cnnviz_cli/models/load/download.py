"""Published weights, from torchvision's cache or from the network into it."""

from __future__ import annotations

import hashlib
import os
import re
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib import request
from urllib.error import HTTPError
from urllib.parse import urlsplit
from uuid import uuid4

import torch

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.load.checkpoint import sha256_of_file

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20


def fetch_weights(url: str, *, offline: bool, mirror: str | None, reporter: Reporter) -> tuple[Path, str]:
    """The file that `url` publishes and its SHA-256, from ``TORCH_HOME`` if it is there.

    Args:
        url: its last part is the file's name and carries the start of its SHA-256, as torchvision's do.
        mirror: a base URL that holds files of the same names, to be asked instead.

    Raises:
        UsageError: the mirror is not an http or https URL.
        ModelError: the file is unavailable, or is not the one that was published.
    """
    name = url.rpartition("/")[2]
    source = url if mirror is None else f"{_check_mirror(mirror).rstrip('/')}/{name}"
    place = Path(torch.hub.get_dir()) / "checkpoints" / name
    if place.exists():
        digest = sha256_of_file(place)
        if not digest.startswith(_hash_in_name(name)):
            what = f"the cached weights '{escape_text(str(place), 300)}' are damaged: their SHA-256 is {digest[:16]}…"
            raise ModelError(
                what, fix=f"Remove the file, and it is downloaded again:\n  rm '{escape_text(str(place))}'"
            )
        return place, digest
    if offline:
        what = f"the weights {name} are not in the cache, and --offline forbids a download"
        raise _unavailable_error(what, source, place)
    return place, _download(source, place, reporter)


def _check_mirror(mirror: str) -> str:
    parts = urlsplit(mirror)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        what = f"the mirror '{escape_text(mirror, 200)}' is not an http or https URL"
        fix = "For instance: --weights-mirror https://mirror.example.org/models"
        raise UsageError(what, where="--weights-mirror", fix=fix)
    return mirror


def _hash_in_name(name: str) -> str:
    found = re.search(r"-([0-9a-f]{8,64})\.", name)
    return found.group(1) if found else ""


def _download(source: str, place: Path, reporter: Reporter) -> str:
    try:
        response = _open(source)
    except HTTPError as error:
        error.close()
        raise _unavailable_error(
            f"The server answered {error.code} ({escape_text(error.reason, 80)})", source, place
        ) from error
    except (OSError, HTTPException) as error:
        raise _unavailable_error(f"No download: {_error_text(error)}", source, place) from error
    with response:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own, so that two runs that download the same file do not write into each other's.
            partial = place.with_name(f".{place.name}.{uuid4().hex}.part")
            try:
                with partial.open("xb") as file:
                    digest = _receive(response, file, source, place, reporter)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(place)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            what = f"the weights cannot be kept in '{escape_text(str(place.parent), 300)}': {_error_text(error)}"
            raise ModelError(what, fix="Set TORCH_HOME to a folder with room that you may write to.") from error
    return digest


def _receive(response: HTTPResponse, file: BinaryIO, source: str, place: Path, reporter: Reporter) -> str:
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdecimal() else None
    digest = hashlib.sha256()
    received = 0
    reporter.transfer(place.name, received, total)
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, HTTPException) as error:
            raise _unavailable_error(f"The download broke off: {_error_text(error)}", source, place) from error
        if not chunk:
            break
        digest.update(chunk)
        received += len(chunk)
        file.write(chunk)
        reporter.transfer(place.name, received, total)
    if total is not None and received != total:
        raise _unavailable_error(f"The download broke off after {received} of {total} bytes", source, place)
    if not digest.hexdigest().startswith(_hash_in_name(place.name)):
        what = f"what the server sent is not {place.name}: its SHA-256 is {digest.hexdigest()[:16]}…. Nothing was kept"
        raise _unavailable_error(what, source, place)
    return digest.hexdigest()


def _open(source: str) -> HTTPResponse:
    # urllib's usual opener also follows redirects to ftp: this one knows http and https only.
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    asked = request.Request(source, headers={"User-Agent": "cnnviz"})
    response = opener.open(asked, timeout=_TIMEOUT)
    assert isinstance(response, HTTPResponse)
    return response


def _error_text(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    return escape_text(str(text), 200)


def _unavailable_error(what: str, source: str, place: Path) -> ModelError:
    fix = (
        f"Download {escape_text(source, 300)}\n"
        f"  and put it at {escape_text(str(place), 300)}\n"
        "or use the bundled model, which needs no download: --model efficientnet_lite0\n"
        "or weights of your own: --weights FILE.pth"
    )
    return ModelError(what, where="--weights", fix=fix)
