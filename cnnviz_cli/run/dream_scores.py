"""The scores in a manifest, found again from the pictures that it lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnnviz_cli.config.dream_fields import DREAM_FILES
from cnnviz_cli.config.settings import Settings, settings_type
from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.core.families import DREAM
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.records import Judgement, Manifest, Output
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.file_names import MANIFEST
from cnnviz_cli.files.output.sink import locate
from cnnviz_cli.files.output.verify import Problem
from cnnviz_cli.run.dream_painter import load_dreamer
from cnnviz_cli.run.dream_pictures import picture_of
from cnnviz_cli.run.dreams import Dreamer, PaintTask, Reception
from cnnviz_cli.run.earlier_records import judges_in

TOLERANCE = 1e-3
"""How far a score may be from the manifest's, beside its size: another processor rounds otherwise."""

_ABOUT_PAINTING = ("region", "against")
"""Files that decide what is painted or what it is compared with, not how it is received."""


def check_scores(root: Path, reporter: Reporter, *, allow_code: bool = False) -> tuple[int, list[Problem]]:
    """Show every listed picture to the network again: how many could be shown, and those received otherwise.

    Files that the manifest names (weights, labels, a direction, another image) are looked for in the working folder.

    Raises:
        UsageError: the folder holds no painted pictures, or the network reads other bands than a picture has.
        ModelError: the network is not the manifest's, or cannot be had.
    """
    manifest = Manifest.model_validate_json(read_regular(root / MANIFEST, GIBIBYTE))
    if manifest.run.command != DREAM.name:
        what = f"the figures of {manifest.run.command} have no scores to be found again"
        raise UsageError(what, where="--scores", fix="Leave it out.")
    outputs = [output for image in manifest.images for output in image.outputs if output.dream]
    if not outputs:
        return 0, []
    told = outputs[0].dream
    assert told is not None
    dreamer = load_dreamer(
        DREAM.name, _settings(manifest, allow_code=allow_code), reporter, images=manifest.images[0].subject is None
    )
    model = dreamer.session.model
    if model.weights_sha256 != manifest.model.weights_sha256:
        what = f"the weights of {escape_text(model.name, 60)} are not those of the manifest"
        raise ModelError(what, where="--scores", fix="Name the folder where they lie as the working folder.")
    for judge in dreamer.judges:
        listed = [one.weights_sha256 for one in told.judged if one.model == judge.name]
        if judge.session.model.weights_sha256 not in listed:
            what = f"the weights of {escape_text(judge.name, 60)}, a judge, are not those of the manifest"
            raise ModelError(what, where="--scores", fix="Name the folder where they lie as the working folder.")
    if model.preprocessing.reads_bands:
        what = f"{escape_text(model.name, 60)} reads other bands than a picture has"
        raise UsageError(what, where="--scores", fix="Leave it out.")
    shown = [(output, image) for output in outputs if (image := _read(root, output)) is not None]
    return len(shown), [problem for output, image in shown for problem in _check(dreamer, output, image)]


def _settings(manifest: Manifest, *, allow_code: bool) -> Settings:
    config: dict[str, Any] = {name: value for name, value in manifest.run.config.items() if value is not None}
    section = dict(config[DREAM.name])
    for name in ("region", *DREAM_FILES):
        if section.get(name) is None or name in _ABOUT_PAINTING:
            section.pop(name, None)
    painted = [output for image in manifest.images for output in image.outputs if output.dream]
    if not painted or any(output.target is None for output in painted):  # no class was named
        config.pop("target", None)
    for name in ("frames", "animate", "size", "spectrum"):
        section.pop(name, None)
    return settings_type(DREAM.name).model_validate({**config, DREAM.name: section, "allow_code": allow_code})


def _read(root: Path, output: Output) -> Image.Image | None:
    """The picture in RGB; None if it is gone or broken, which hashing has told of."""
    try:
        with Image.open(locate(root, output.path)) as file:
            return file.convert("RGB")
    except (OSError, ValueError):
        return None


def _check(dreamer: Dreamer, output: Output, image: Image.Image) -> Iterator[Problem]:
    task = _task_of(dreamer, output)
    if task is None:
        yield Problem("score", output.path, "what it was painted for is not known")
        return
    targets = torch.zeros((1, dreamer.session.targets.width), dtype=torch.int64, device="cpu")
    if output.target is not None:
        targets[0, task.wish.rank] = output.target.index
    found = dreamer.receive(task, picture_of(dreamer.session, image), targets)
    yield from _differences(output, found)
    about = task.wish.subject.class_index if task.wish.is_class else None
    judged = dreamer.judge(image, output.target.index if output.target else about)
    yield from _judged_otherwise(output, judged)


def _task_of(dreamer: Dreamer, output: Output) -> PaintTask | None:
    for task in dreamer.tasks:
        same = task.wish.is_class if output.target else task.wish.subject == _unnumbered(output)
        if same and task.method.name == output.method:
            return task
    return None


def _unnumbered(output: Output) -> Any:
    return output.subject and output.subject.model_copy(update={"number": None})


def _differences(output: Output, found: Reception) -> Iterator[Problem]:
    told = output.dream
    assert told is not None
    yield from _compare(output.path, "its score", told.score, found.score)
    yield from _compare(output.path, "its probability", told.probability, found.probability)
    yield from _compare(output.path, "its rank", told.rank, found.rank)


def _judged_otherwise(output: Output, found: Sequence[Judgement]) -> Iterator[Problem]:
    told = output.dream
    assert told is not None
    if judges_in(told.judged) != judges_in(found):
        yield Problem("score", output.path, "other judges are listed than the run had")
        return
    for was, now in zip(told.judged, found, strict=True):
        name = escape_text(now.model, 60)
        yield from _compare(output.path, f"its probability by {name}", was.probability, now.probability)
        yield from _compare(output.path, f"its rank by {name}", was.rank, now.rank)
        before, after = (one.prediction.probability if one.prediction else None for one in (was, now))
        yield from _compare(output.path, f"the highest probability by {name}", before, after)


def _compare(path: str, what: str, was: float | None, now: float | None) -> Iterator[Problem]:
    if was is not None and now is not None and not np.isclose(was, now, rtol=TOLERANCE, atol=TOLERANCE):
        yield Problem("score", path, f"{what} is {now:.6g} and not {was:.6g}")
