"""What one photograph costs beside the network, part by part, and the least that Pillow and the disk take for it."""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from isal import isal_zlib
from PIL import Image

from benchmarks.throughput import HEIGHT, WIDTH, photographs
from cnnviz_cli.core.panels import Heatmap
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.render import Caption, Style
from cnnviz_cli.render.canvas import canvas_at, draw_map
from cnnviz_cli.render.figures import Scene, compose_figure, fit_width
from cnnviz_cli.run.present import encode_with_facts

COUNT = 120
PREPROCESSING = Preprocessing(256, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic")  # the bundled network's
FACTS = {"Method": "gradcam", "Layer": "head", "Target": "tripod", "Model": "bundled", "Settings": "0" * 64}

_T = TypeVar("_T")


class Stopwatch:
    """Milliseconds of this thread by part, an entry an image."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}

    def measure(self, part: str, work: Callable[[], _T]) -> _T:
        start = time.thread_time()
        result = work()
        self._taken.setdefault(part, []).append(1000 * (time.thread_time() - start))
        return result

    def medians(self) -> dict[str, float]:
        return {part: statistics.median(taken) for part, taken in self._taken.items()}


def notes() -> list[str]:
    """Core milliseconds an image for a heat map over a photograph: ours, and each library's own calls alone."""
    watch, least = Stopwatch(), Stopwatch()
    values = np.random.default_rng(0).random((1, 7, 7), np.float32)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as out:
        photographs(Path(folder), COUNT)
        for path in sorted(Path(folder).iterdir()):
            _measure_ours(path, Heatmap(values, np.array(1, np.float32)), Sink(Path(out)), watch)
            _measure_least(path, Path(out), least)
    ours, bare = watch.medians(), least.medians()
    # `compose` draws the map, too, which is measured by itself before.
    ours["compose"] -= ours["map"]
    head = f"reading and drawing: core ms an image, gradcam over photographs of {WIDTH}x{HEIGHT}"
    return [f"{head}: {_listed(ours)}", f"{head}, the libraries' calls alone: {_listed(bare)}"]


def _measure_ours(path: Path, panel: Heatmap, sink: Sink, watch: Stopwatch) -> None:
    decoded = watch.measure("decode", lambda: read_image(path))
    (crop, view), _ = watch.measure("input", lambda: _crop(decoded.image))
    caption = Caption("Grad-CAM", "last convolution", "tripod", "90.7 %", "efficientnet_lite0 (bundled)", path.name)
    scene = Scene(decoded.image, view, crop, caption, Style())
    watch.measure("map", lambda: draw_map(panel, canvas_at(scene.image, view, scene.style.size, 1, 1), scene.style))
    figure = watch.measure("compose", lambda: fit_width(lambda wanted: compose_figure(panel, wanted), scene))
    file, _ = watch.measure("encode", lambda: encode_with_facts(figure, "png", FACTS, 0))
    watch.measure("write", lambda: sink.write_figure(f"{path.name}/gradcam.png", file.data))


def _crop(image: Image.Image) -> Any:
    seen = PREPROCESSING.crop_image(image)
    return seen, np.asarray(seen[0])


def _measure_least(path: Path, out: Path, watch: Stopwatch) -> None:
    """What is not ours to make faster: one decoding, one resize, two mixtures by a mask, one deflate, one file."""
    data = path.read_bytes()
    photo = watch.measure("decode", lambda: Image.open(BytesIO(data)).convert("RGB"))
    watch.measure("input", lambda: photo.resize((341, 256), Image.Resampling.BICUBIC))
    part, over = photo.crop((0, 0, 328, 328)), photo.crop((0, 0, 328, 328))
    mask = part.convert("L")
    watch.measure("map", lambda: Image.composite(over, Image.composite(over, part, mask), mask))
    rows = np.diff(np.asarray(photo).reshape(HEIGHT, -1), axis=0)
    packed = watch.measure("encode", lambda: isal_zlib.compress(rows.data, 1))
    watch.measure("write", lambda: _write(out / "least", packed))


def _write(path: Path, data: bytes) -> str:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def _listed(parts: dict[str, float]) -> str:
    pieces = ", ".join(f"{part} {taken:.1f}" for part, taken in parts.items())
    return f"{sum(parts.values()):.1f} ({pieces})"
