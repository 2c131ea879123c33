"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model


@dataclass
class Server:
    """Answers every request with `body`, and remembers the paths that were asked for."""

    body: bytes
    status: int = 200
    length: int | None = None
    redirect: str = ""
    asked: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture(scope="module")
def weights() -> bytes:
    """The smallest state dict that squeezenet1_1 takes."""
    with torch.device("meta"):
        wanted = squeezenet1_1().state_dict()
    file = io.BytesIO()
    torch.save({name: torch.full(tensor.shape, 0.01) for name, tensor in wanted.items()}, file)
    return file.getvalue()


@pytest.fixture
def server(weights: bytes) -> Iterator[Server]:
    state = Server(weights)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            self.send_response(302 if state.redirect else state.status)
            if state.redirect:
                self.send_header("Location", state.redirect)
            self.send_header("Content-Length", str(len(state.body) if state.length is None else state.length))
            self.end_headers()
            with suppress(ConnectionError):  # a client that has seen enough
                self.wfile.write(state.body)

        def log_message(self, *_: object) -> None: ...

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{served.server_address[1]}"
    yield state
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def name(weights: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file's name, with the right hash, published where no test may connect."""
    name = f"squeezenet1_1-{hashlib.sha256(weights).hexdigest()[:8]}.pth"
    monkeypatch.setattr(SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", f"https://published.invalid/models/{name}")
    return name


def fetch(reporter: Any, mirror: str | None = None, offline: bool = False) -> LoadedModel:
    return load_model("squeezenet1_1", offline=offline, mirror=mirror, reporter=reporter)


def test_weights_are_downloaded_once(server: Server, name: str, cache: Path, reporter: Any) -> None:
    loaded = fetch(reporter, f"{server.url}/some/folder/")
    assert loaded.weights == "IMAGENET1K_V1"
    assert loaded.weights_sha256 == hashlib.sha256(server.body).hexdigest()
    assert (loaded.parameter("features.0.bias") == 0.01).all()
    assert server.asked == [f"/some/folder/{name}"]
    assert [path.name for path in cache.iterdir()] == [name]
    assert (cache / name).read_bytes() == server.body

    size = len(server.body)
    assert reporter.transfers[0] == (name, 0, size)
    assert reporter.transfers[-1] == (name, size, size)
    received = [count for _, count, _ in reporter.transfers]
    assert received == sorted(received)
    assert len(received) >= 3

    # From the cache, where torchvision looks for them, too: no request, and none is needed.
    again = fetch(reporter, offline=True)
    assert again.weights_sha256 == loaded.weights_sha256
    assert len(server.asked) == 1
    assert len(reporter.transfers) == len(received)
    state = SqueezeNet1_1_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True, progress=False)
    assert (state["features.0.bias"] == 0.01).all()


def test_a_body_of_unknown_length(server: Server, name: str, cache: Path, reporter: Any) -> None:
    server.length = -1  # no number: the end of the connection is the end of the file
    assert fetch(reporter, server.url).weights == "IMAGENET1K_V1"
    assert reporter.transfers[-1] == (name, len(server.body), None)
    assert (cache / name).exists()


def refused(reporter: Any, mirror: str | None, offline: bool = False) -> ModelError:
    with pytest.raises(ModelError) as caught:
        fetch(reporter, mirror, offline)
    assert caught.value.code == ExitCode.MODEL
    return caught.value


def says_what_to_do(error: ModelError, url: str, place: Path) -> bool:
    parts = (f"Download {url}\n", str(place), "--model efficientnet_lite0", "--weights FILE")
    return all(part in error.fix for part in parts)


def test_offline_says_what_to_do(name: str, cache: Path, reporter: Any) -> None:
    error = refused(reporter, None, offline=True)
    assert "--offline" in error.what
    assert says_what_to_do(error, f"https://published.invalid/models/{name}", cache / name)
    assert not cache.exists()


def test_no_network_says_what_to_do(name: str, cache: Path, reporter: Any) -> None:
    error = refused(reporter, None)  # .invalid never resolves (RFC 6761)
    assert error.what.startswith("No download: ")
    assert says_what_to_do(error, f"https://published.invalid/models/{name}", cache / name)


def test_a_refused_connection(name: str, cache: Path, reporter: Any) -> None:
    error = refused(reporter, "http://127.0.0.1:1")
    assert "refused" in error.what.lower()
    assert says_what_to_do(error, f"http://127.0.0.1:1/{name}", cache / name)


@pytest.mark.usefixtures("name")
def test_nothing_is_kept_of_a_wrong_file(server: Server, cache: Path, reporter: Any) -> None:
    server.body = b"another file"
    error = refused(reporter, server.url)
    assert "Nothing was kept" in error.what
    assert hashlib.sha256(b"another file").hexdigest()[:16] in error.what
    assert list(cache.iterdir()) == []


def test_nothing_is_kept_of_a_torn_download(server: Server, name: str, cache: Path, reporter: Any) -> None:
    server.length = len(server.body) + 1000
    error = refused(reporter, server.url)
    assert "broke off" in error.what
    assert says_what_to_do(error, f"{server.url}/{name}", cache / name)
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("name")
def test_nothing_is_kept_when_interrupted(server: Server, cache: Path, reporter: Any) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    reporter.transfer = interrupt
    with pytest.raises(KeyboardInterrupt):
        fetch(reporter, server.url)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_servers_refusal(server: Server, name: str, cache: Path, reporter: Any, status: int) -> None:
    server.status = status
    error = refused(reporter, server.url)
    assert f"answered {status}" in error.what
    assert says_what_to_do(error, f"{server.url}/{name}", cache / name)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
@pytest.mark.usefixtures("name")
def test_no_redirect_leaves_http(server: Server, cache: Path, reporter: Any, target: str) -> None:
    server.redirect = target
    refused(reporter, server.url)
    assert not cache.exists()


@pytest.mark.parametrize("mirror", ["ftp://mirror.example.org", "/srv/models", "file:///srv/models", "https://"])
@pytest.mark.usefixtures("name", "cache")
def test_a_mirror_is_http_or_https(reporter: Any, mirror: str) -> None:
    with pytest.raises(UsageError, match="not an http or https URL"):
        fetch(reporter, mirror)


def test_a_damaged_cache_is_named_and_left(name: str, cache: Path, reporter: Any) -> None:
    cache.mkdir(parents=True)
    (cache / name).write_bytes(b"damaged")
    error = refused(reporter, None)
    assert "are damaged" in error.what
    assert f"rm '{cache / name}'" in error.fix
    assert (cache / name).read_bytes() == b"damaged"


@pytest.mark.usefixtures("name")
def test_a_cache_that_cannot_be_written(server: Server, cache: Path, reporter: Any) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"a file where the folder should be")
    error = refused(reporter, server.url)
    assert "cannot be kept" in error.what
    assert "TORCH_HOME" in error.fix
