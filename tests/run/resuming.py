"""Runs of a network so small that a run costs milliseconds, for tests that start many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from PIL import Image

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run import Outcome, execute
from cnnviz_cli.run.study import execute_study

BROKEN = "3.png"


def tiny_model(*_arguments: Any, **_named: Any) -> LoadedModel:
    """What the loader is replaced by."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = tiny.Plain().eval().requires_grad_(False)
    size = tiny.SIZE
    preprocessing = Preprocessing(size, size, (0.5,) * 3, (0.5,) * 3)
    layers = probe_layers(net, (3, size, size), "tiny")
    return LoadedModel(net, "tiny", "random:0", "0" * 64, tuple("abcde"), preprocessing, layers)


def photographs(folder: Path, count: int = 7) -> list[Source]:
    """`count` small pictures, the fourth of them broken, changed for the last time long ago."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        pixels = random.integers(0, 255, (14, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / BROKEN).write_bytes(b"no picture")
    return listed(folder)


def listed(folder: Path) -> list[Source]:
    """The pictures of such a folder, in their order."""
    return find_images([folder], recursive=False)


class Listener(Reporter):
    """A reporter that remembers what was said and done."""

    def __init__(self, on_done: Callable[[int], None] = lambda _count: None) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.done_: list[str] = []
        self.begun, self.begun_of = 0, ""
        self._on_done = on_done

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def begin(self, images: int, of: str = "images") -> None:
        self.begun, self.begun_of = images, of

    def done(self, record: Any) -> None:
        self.done_.append(record.source)
        self._on_done(len(self.done_))


def run(
    out: Path,
    sources: Sequence[Source],
    heard: Listener | None = None,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    **settings: Any,
) -> Outcome:
    """One run of the tiny network, in batches of three."""
    flags = {("output",): str(out), ("batch_size",): "3", ("device",): "cpu", ("workers",): "0"}
    flags |= {(name,): value for name, value in settings.items()}
    loaded = load_settings("gradcam", flags, None, {})
    return execute("gradcam", loaded, sources, heard or Listener(), shard=shard, force=force)


def study(
    out: Path,
    sources: Sequence[Source],
    heard: Listener | None = None,
    *,
    study: str,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    **settings: Any,
) -> Outcome:
    """One study by the tiny network, in batches of three."""
    flags = {("output",): str(out), ("batch_size",): "3", ("device",): "cpu", ("workers",): "0"}
    flags |= {(name,): value for name, value in settings.items()}
    loaded = load_settings("gradcam", flags, None, {})
    return execute_study(study, "gradcam", loaded, sources, heard or Listener(), shard=shard, force=force)


def files_of(out: Path) -> dict[str, bytes]:
    """Every file below an output folder but the journals and the run reports."""
    found = (path for path in out.rglob("*") if path.is_file())
    kept = (path for path in found if path.suffix != ".jsonl" and not path.name.startswith("run."))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in kept}
