"""What one pass over a folder takes beside decoding the images and the network's forward alone, in processor time of
one thread: rows of positions and scores, kept in files as every study keeps them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.fx.experimental.optimization import fuse

from benchmarks.dream import processor_seconds
from benchmarks.measure import Line, line
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.engine.device import keep_freed_memory
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.output.shards import SINGLE_SHARD
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.feature_pass import FeaturePass, SeenBatch
from cnnviz_cli.run.looking import Looking
from cnnviz_cli.run.session import Session

IMAGES = 48
CHUNKS = (1, 2, 4, 8, 16)
"""Images that pass the bare network together: the fastest of these counts."""

SAMPLES = Path(__file__).parents[1] / "sample_images"


def write_images(folder: Path, count: int = IMAGES) -> list[Path]:
    """JPEGs of 500 x 375 pixels, cut from the sample images."""
    draws, made = np.random.default_rng(0), []
    samples = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.[jp][pn]g"))]
    for number in range(count):
        image = samples[number % len(samples)]
        image = image.resize((max(640, image.width), max(480, image.height)))
        left, top = (int(draws.integers(0, side - part + 1)) for side, part in zip(image.size, (500, 375), strict=True))
        made.append(folder / f"{number:04d}.jpg")
        image.crop((left, top, left + 500, top + 375)).save(made[-1], quality=90)
    return made


def looked_at(session: Session, images: Sequence[Path], layer: str, *, scores: bool) -> Callable[[], object]:
    """The pass of a study, into a folder that is new each time."""
    info = next(info for info in session.context.layers if info.name == layer)
    columns = {"positions": info.shape[0], **({"scores": len(session.model.labels)} if scores else {})}
    sources = find_images(list(images), recursive=False)

    def take(seen: SeenBatch) -> list[dict[str, Any]]:
        maps = seen.maps[layer].flatten(2).transpose(1, 2).numpy()
        found = [{"positions": one} for one in maps]
        return (
            found
            if seen.scores is None
            else [{**one, "scores": values} for one, values in zip(found, seen.scores.numpy(), strict=True)]
        )

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sink = Sink(Path(folder))
            with Looking(sink, SINGLE_SHARD, Reporter(), {}, sources) as looking:
                looking.gather("rows", FeaturePass(session, [layer], scores=scores), sources, columns, take)

    return work


def bare(session: Session, images: Sequence[Path], chunk: int) -> Callable[[], object]:
    """Pillow's decoding and resizing, and the network without its batch normalisations; nothing is kept."""
    net = fuse(deepcopy(session.net)).requires_grad_(False).to(memory_format=torch.channels_last)
    preprocessing = session.model.preprocessing

    def read(path: Path) -> Any:
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            image = file.convert("RGB")
        placing = preprocessing.resize_crop(image.size)
        return np.asarray(image.resize(placing.resized, Image.Resampling.BICUBIC).crop(placing.within))

    @torch.inference_mode()
    def work() -> None:
        for start in range(0, len(images), chunk):
            pixels = preprocessing.normalize([read(path) for path in images[start : start + chunk]])
            net(pixels.contiguous(memory_format=torch.channels_last))

    return work


def everything(rounds: int) -> list[Line]:
    """Of one thread, and of reading in the same process."""
    threads = torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _lines(write_images(Path(folder)), rounds)
    finally:
        torch.set_num_threads(threads)


def _lines(images: Sequence[Path], rounds: int) -> list[Line]:
    flags = {("device",): "cpu", ("workers",): "0", ("threads",): "1"}
    session = Session.load("gradcam", load_settings("gradcam", flags, None, {}), Reporter())
    last = session.context.layers.resolve(("last-conv",))[0]
    floors = processor_seconds({f"forward, {chunk} together": bare(session, images, chunk) for chunk in CHUNKS}, 1)
    best = min(floors, key=lambda name: floors[name])
    alone = f"decoding and {best}"
    ours = {
        "pass with scores": looked_at(session, images, last, scores=True),
        "pass to the layer": looked_at(session, images, last, scores=False),
    }
    chunk = next(chunk for chunk in CHUNKS if best == f"forward, {chunk} together")
    times = processor_seconds({alone: bare(session, images, chunk), **ours}, rounds)
    return [
        line("rows and scores of a folder over its floor", times, "pass with scores", alone, "<= 1.15"),
        line("rows of a folder over the same floor", times, "pass to the layer", alone, "<= 1.15"),
    ]
