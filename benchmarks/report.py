"""What a page of many images costs: its size, and the time to write it and to open it.

The run is synthetic: photographs are crops of the samples, and every two hundredth image has the files of the first. So
what is measured is our work and not the making of two hundred thousand files. Budgets are of ``REPORT.md``'s design:
10,000 images 50 MB, 100,000 with thumbnails of 96 pixels 350 MB, and 5 ms of a core an image.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.journal import HEADER
from benchmarks.report_browser import browse
from cnnviz_cli.core.records import Arrays, ImageRecord, Output, Prediction, Summary, Window
from cnnviz_cli.files.output.journal import to_compact_json
from cnnviz_cli.files.output.manifest import write_manifest
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.small_pictures import write_thumbnail
from cnnviz_cli.report import ReportOptions, write_report
from cnnviz_cli.run.present import encode_arrays

DISTINCT = 200
CLASSES = 1000
METHODS = ("gradcam", "layercam", "eigencam")
SAMPLES = Path(__file__).parents[1] / "sample_images"

BUDGETS = {10_000: (128, 50.0), 100_000: (96, 350.0)}
"""Of so many images the side of thumbnails in pixels, and the megabytes that page and data may have."""

CPU_AN_IMAGE = 5.0
"""Milliseconds of a core that writing may take."""


def make_run(root: Path, count: int, seed: int = 0) -> None:
    """A finished run of `count` images with thumbnails, and maps of three methods for one or two classes."""
    sink, draw = Sink(root), random.Random(seed)
    sink.open()
    photos = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.iterdir()) if path.suffix in (".png", ".jpg")]
    kept = [_files(sink, number, photos[number % len(photos)], draw) for number in range(DISTINCT)]
    records = (_record(number, kept[number % DISTINCT], draw) for number in range(count))
    write_manifest(
        sink,
        (to_compact_json(record.model_dump(mode="json")) for record in records),
        tool=HEADER.tool,
        run=HEADER.run,
        model=HEADER.model,
        summary=Summary(images=count, ok=count, failed=0, outputs=0),
    )


def _files(sink: Sink, number: int, photo: Image.Image, draw: random.Random) -> ImageRecord:
    """The thumbnail and the maps of one image, written; its record has no figures yet."""
    side = draw.uniform(0.4, 0.9)
    width, height = (int(one * side) for one in photo.size)
    left, top = (draw.randrange(one - part) for one, part in zip(photo.size, (width, height), strict=True))
    crop = photo.crop((left, top, left + width, top + height))
    noise = np.random.default_rng(number)
    maps = {f"{m}.{k}.map": noise.gamma(0.5, 1.0, (1, 7, 7)).astype(np.float32) for m in METHODS for k in range(2)}
    path = f"kept/{number:03}.npz"
    return ImageRecord(
        source="",
        sha256=f"{number:064x}",
        width=width,
        height=height,
        status="ok",
        error=None,
        predictions=[],
        seen=Window(size=(224, 224), box=(0, 0, width, height)),
        outputs=[],
        thumbnail=write_thumbnail(sink, f"kept/{number:03}.webp", crop),
        arrays=Arrays(path=path, sha256=sink.write(path, encode_arrays(maps))),
    )


def _record(number: int, like: ImageRecord, draw: random.Random) -> ImageRecord:
    source = f"class-{number % CLASSES:03}/photograph-{number:06}.jpg"
    first = draw.random() ** 0.5
    shares = [first, *sorted((draw.random() * (1 - first) / 4 for _ in range(4)), reverse=True)]
    said = number % CLASSES if draw.random() < 0.7 else draw.randrange(CLASSES)
    numbers = [said, *draw.sample(range(CLASSES), 4)]
    predictions = [
        Prediction(index=one, label=f"class number {one}", probability=round(share, 6))
        for one, share in zip(numbers, shares, strict=True)
    ]
    truth = Prediction(index=number % CLASSES, label=f"class number {number % CLASSES}", probability=0.01)
    asked = [predictions[0]] if said == truth.index else [predictions[0], truth]
    outputs = [
        Output(
            family="gradcam",
            method=method,
            layer="stages.6",
            target=target,
            path=f"{source}/gradcam.{method}.{target.index}.png",
            sha256="0" * 64,
            width=924,
            height=1065,
            range=(0.0, 4.0),
            scale=(0.0, 4.0),
            state="ok",
            array=f"{method}.{place}.map",
        )
        for method in METHODS
        for place, target in enumerate(asked)
    ]
    return like.model_copy(
        update={
            "source": source,
            "sha256": f"{number:064x}",
            "predictions": predictions,
            "truth": truth,
            "outputs": outputs,
        }
    )


def notes(counts: tuple[int, ...] = tuple(BUDGETS)) -> list[str]:
    """Size and time of a page of so many images, as a folder; of the first number also as a single file."""
    return [note for count in counts for note in _measured(count, single=count == counts[0])]


def _measured(count: int, *, single: bool) -> Iterator[str]:
    side, most = BUDGETS[count]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_run(root, count)
        for alone in (False, True) if single else (False,):
            start = time.process_time()
            made = write_report([root], ReportOptions(thumbnails=side, single_file=alone, max_size=1e6))
            spent = 1000 * (time.process_time() - start) / count
            kind = "a single file" if alone else "a folder"
            yield (
                f"a page of {count:,} images as {kind}, thumbnails of {side} pixels: {made.size / 1e6:.1f} MB (at most "
                f"{most:.0f}), {spent:.2f} ms of a core an image (at most {CPU_AN_IMAGE:.0f})"
            )
            if not alone:
                yield from browse(made.path, count)
