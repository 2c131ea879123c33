"""Two runs over the same photographs, made up without a network: one as if trained, one with random weights.

Photographs, maps and probabilities come from a seed; the records are those that a run with ``--save-arrays`` leaves.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from exports.saved import NET, save
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.core.records import Arrays, ImageRecord, Output, Prediction, Window
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.present import encode_arrays

CLASSES = ("tripod", "espresso", "tiger cat", "Egyptian cat", "missile", "<b onclick=window.BAD=1>moped</b>")
TITLES = {"gradcam": "Grad-CAM", "layercam": "Layer-CAM", "gradient": "Gradient", "lime": "LIME"}
COUNT = 60

HOSTILE = (
    "</script><script>window.BAD=2</script>.png",
    '"><img src=x onerror=window.BAD=3>.png',
    "a#b%41?c&d.png",
    "<!--<script>.png",
    "x" * 200 + ".png",
    "{{constructor}}${window.BAD=4}.png",
    "\u202egnp.exe.png",
)
"""Names of the first photographs, behind the five that documents show."""

NEGATIVE = 9  # the number of the image for which nothing speaks
FAILED = 11
FIRST = 5  # images that have maps of pixels, too


def name_of(number: int) -> str:
    """The source of an image."""
    if FIRST <= number < FIRST + len(HOSTILE):
        return HOSTILE[number - FIRST]
    return f"{CLASSES[truth_of(number) or 0].split()[0].strip('<')}/img-{number:02d}.png"


def truth_of(number: int) -> int | None:
    """The true class of an image; every seventh has none."""
    return None if number % 7 == 6 else number * 5 % len(CLASSES)


def photograph(number: int) -> Image.Image:
    """A photograph of 64 to 120 pixels a side: a soft ground with a bright disc."""
    rng = np.random.default_rng(number)
    width, height = ((96, 72), (72, 96), (80, 80), (120, 64))[number % 4]
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x * 140 / width + 40, y * 120 / height + 60, (x + y) * 80 / (width + height) + 50], -1)
    disc = np.hypot(x - width * rng.uniform(0.3, 0.7), y - height * rng.uniform(0.3, 0.7)) < height * 0.22
    ground[disc] = rng.uniform(120, 250, 3)
    return Image.fromarray((ground + rng.normal(0, 6, ground.shape)).clip(0, 255).astype(np.uint8))


def window_of(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """What the network saw: the square in the middle, 7/8 of the shorter side."""
    side = min(size) * 7 / 8
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return left, top, left + side, top + side


def _prediction(index: int, probability: float | None) -> Prediction:
    return Prediction(index=index, label=CLASSES[index], probability=probability)


def _maps(rng: np.random.Generator, number: int, classes: list[int]) -> dict[tuple[str, int], NDArray[np.float32]]:
    found: dict[tuple[str, int], NDArray[np.float32]] = {}
    for index in classes:
        for method in ("gradcam", "layercam"):
            found[method, index] = (rng.random((7, 7)) ** 3 * rng.uniform(0.5, 2)).astype(np.float32)
        found["lime", index] = rng.normal(0, 0.4, (8, 8)).astype(np.float32)
    if number < FIRST:
        found["gradient", classes[0]] = (rng.random((72, 72)) ** 4).astype(np.float32)
    return found


def _scale(method: str, values: NDArray[np.float32]) -> tuple[float, float]:
    top = float(np.abs(values).max())
    return (-top, top) if method == "lime" else (0.0, top)


def make_run(root: Path, photos: Path, *, weights: str, count: int = COUNT) -> Path:
    """A run's folder over the photographs in `photos`, which are written where they are not there."""
    sink = Sink(root)
    sink.open()
    model = NET.model_copy(update={"name": "tinynet", "weights": weights, "num_classes": len(CLASSES)})
    records = [_record(sink, photos, number, weights) for number in range(count)]
    return save(root, *records, command=f"cnnviz gradcam photos --weights {weights} --save-arrays", model=model)


def _record(sink: Sink, photos: Path, number: int, weights: str) -> ImageRecord:
    source, place = name_of(number), photos / name_of(number)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        photograph(number).save(place)
    data = place.read_bytes()
    truth = truth_of(number)
    about: dict[str, Any] = {"source": source, "sha256": hashlib.sha256(data).hexdigest()}
    if number == FAILED:
        return ImageRecord(
            **about, width=None, height=None, status="failed", error="the file is cut off", predictions=[], outputs=[],
            truth=None if truth is None else _prediction(truth, None),
        )  # fmt: skip
    rng = np.random.default_rng((number, weights == "trained"))
    logits = rng.normal(0, 1.5, len(CLASSES))
    if weights == "trained" and truth is not None and number % 3:
        logits[truth] += 3
    shares = np.exp(logits) / np.exp(logits).sum()
    order = [int(index) for index in np.argsort(-shares)]
    classes = list(dict.fromkeys([order[0], *([] if truth is None else [truth])]))
    size, box = Image.open(BytesIO(data)).size, window_of(Image.open(BytesIO(data)).size)
    outputs, arrays = [], {}
    for (method, index), made in _maps(rng, number, classes).items():
        stem = f"{number:03d}/{method}.{index}"
        dead = number == NEGATIVE and method == "gradcam"
        values = np.zeros_like(made) if dead else made
        arrays[f"{method}.{index}.map"] = values[None]
        sink.write(f"{stem}.png", _DOT)
        outputs.append(
            Output(
                family="saliency" if method == "gradient" else "gradcam", method=method, layer=None,
                target=_prediction(index, round(float(shares[index]), 6)), path=f"{stem}.png", sha256="1" * 64,
                width=1, height=1, range=(float(values.min()), float(values.max())),
                scale=None if dead else _scale(method, values), state="negative" if dead else "ok",
                measures={"removal_gain": round(float(rng.normal()), 6)},
            )
        )  # fmt: skip
    path = f"{number:03d}/arrays.npz"
    return ImageRecord(
        **about, width=size[0], height=size[1], status="ok", error=None,
        predictions=[_prediction(index, round(float(shares[index]), 6)) for index in order[:5]],
        truth=None if truth is None else _prediction(truth, round(float(shares[truth]), 6)),
        seen=Window(size=(224, 224), box=box), outputs=outputs,
        arrays=Arrays(path=path, sha256=sink.write(path, encode_arrays(arrays))),
    )  # fmt: skip


def _dot() -> bytes:
    data = BytesIO()
    Image.new("RGB", (1, 1)).save(data, "PNG")
    return data.getvalue()


_DOT = _dot()
