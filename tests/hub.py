"""A model hub on this machine: what the library `huggingface_hub` asks of one, over folders of files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

COMMIT = hashlib.sha1(b"one").hexdigest()
EARLIER = hashlib.sha1(b"another").hexdigest()


@dataclass
class Hub:
    """Repositories by name; of each, files by revision and name. `asked` are the paths that were asked for."""

    files: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def add(self, name: str, files: dict[str, bytes], commit: str = COMMIT) -> None:
        self.files.setdefault(name, {})[commit] = files

    def add_folder(self, name: str, folder: Path) -> None:
        self.add(name, {path.name: path.read_bytes() for path in folder.iterdir()})

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content, as the hub's API has them."""
        self.asked.append(path)
        owner, name, word, *rest = [*path.strip("/").split("/"), "", "", ""]
        repository = f"{owner}/{name}"
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, b""
        if repository not in self.files:
            return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
        assert word == "resolve", path
        revision, file = rest[0], "/".join(filter(None, rest[1:]))
        commit = COMMIT if revision == "main" else revision
        if commit not in self.files[repository]:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Revision not found"}, b""
        found = self.files[repository][commit].get(file)
        headers = {"X-Repo-Commit": commit}
        if found is None:
            return 404, headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b""
        return 200, headers | {"ETag": f'"{hashlib.sha1(found).hexdigest()}"'}, found


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self, *, body: bool) -> None:
            status, headers, content = hub.answer(unquote(self.path.partition("?")[0]))
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                with suppress(ConnectionError):
                    self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.respond(body=False)

        def do_GET(self) -> None:
            self.respond(body=True)

        def log_message(self, *_: object) -> None: ...

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{served.server_address[1]}"
    try:
        yield hub
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


def point_at(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `huggingface_hub`, which reads its variables on import, ask this hub and use a cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "*")
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():
        monkeypatch.setattr(constants, name, value)


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode()
