"""Studies from Python: the same run as of the command, in a temporary folder that is gone when it is over."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from warnings import warn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.api.arguments import INPUT, NETWORK, OUTPUT, PIXELS, rephrase_for_python
from cnnviz_cli.api.explain import Networks, WarningCollector, open_session
from cnnviz_cli.api.images import ImageLike, as_image_list
from cnnviz_cli.api.network import network_device
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.names import setting_paths
from cnnviz_cli.config.settings import Settings, settings_type
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.file_reading import GIBIBYTE, read_regular
from cnnviz_cli.core.findings import Findings
from cnnviz_cli.core.records import ImageRecord, Manifest
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.output.file_names import MANIFEST
from cnnviz_cli.files.output.manifest import Conclusion
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.run.study import execute_study

SETTINGS = (*NETWORK, *INPUT, *PIXELS, *OUTPUT, "score", "min_score", "width", "dpi", "fold", "batch_size", "workers")
"""Common settings that a study takes by their names; each study's function adds those it reads."""

_MOST_NAMED = 10


@dataclass(frozen=True, eq=False, repr=False)
class StudyResult:
    """What a study has found. A study's own class adds what it is about.

    Attributes:
        findings: over all images, as the manifest has them.
        records: of each image, or of each unit of the network; those that failed say why.
        files: every file that was written, by its path: figures of an image lie in its folder, those of all images at
            the top.
    """

    findings: Findings
    records: tuple[ImageRecord, ...]
    files: Mapping[str, bytes]
    sheets: tuple[str, ...]

    @cached_property
    def figures(self) -> Mapping[str, Image.Image]:
        """The figures about all images, by their paths; decoded on first use."""
        return {path: Image.open(BytesIO(self.files[path])).convert("RGB") for path in self.sheets}

    @property
    def figure(self) -> Image.Image | None:
        """The first of them; None where nothing was drawn."""
        return next(iter(self.figures.values()), None)

    def figures_of(self, record: ImageRecord) -> list[Image.Image]:
        """The figures of one image or unit."""
        return [Image.open(BytesIO(self.files[output.path])).convert("RGB") for output in record.outputs]

    def arrays(self, path: str) -> dict[str, NDArray[Any]]:
        """The arrays of an .npz file that was written."""
        with np.load(BytesIO(self.files[path]), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write every file below a folder, as the command would have. Returns the folder."""
        root = Path(folder)
        for path, data in self.files.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return root

    def _repr_png_(self) -> bytes | None:
        first = next(iter(self.sheets), None)
        return None if first is None else self.files[first]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.findings.study} of {len(self.records)} records>"


def carry_out_study(
    study: str,
    command: str,
    model: Networks,
    images: ImageLike | Sequence[ImageLike],
    section: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    readable: Sequence[str] = (),
    preprocessing: Preprocessing | Any | None = None,
    labels: Sequence[str] | Literal["imagenet"] | None = None,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    seed: int = 0,
    renamed: Mapping[str, str] | None = None,
) -> StudyResult:
    """A study, for the function that is named after it.

    Args:
        study: its name, and `command` that of the command that carries it out.
        images: files, folders with all below them, archives, images of Pillow's, arrays; one or several.
        section: settings of the study's own section; those that are None keep their default.
        options: common settings by name, of `SETTINGS` and `readable`.
        renamed: arguments of the function that settings have another name than.

    Raises:
        UsageError, ModelError, DeviceError: as of `explain`. An image that cannot be read is left out with a warning;
            UsageError where none is left.
    """
    collector = WarningCollector()
    try:
        with TemporaryDirectory(prefix="cnnviz-") as folder:
            place = Path(folder)
            settings = _settings(
                command, model, section, options, [*SETTINGS, *readable],
                output=place / "out", device=device, precision=precision, seed=seed,
            )  # fmt: skip
            sources = _sources(images, place / "images", settings)
            with open_session(command, model, settings, preprocessing, labels, collector) as session:
                execute_study(study, command, session.settings, sources, collector, load=lambda: session)
            found = _result(settings.output)
    except CnnvizError as error:
        rephrase_for_python(error, renamed or {})
        raise
    for text in [*collector.warnings, *_left_out(found)]:
        warn(text, stacklevel=3)
    return found


def _left_out(found: StudyResult) -> list[str]:
    """The images that could not be read, shown or drawn, the first ten by name."""
    why = {record.source: record.error for record in found.records if record.status == "failed"}
    why |= {one.source: one.why for seen in found.findings.seen for one in seen.examples or ()}
    count = max(len(why), sum(seen.unseen for seen in found.findings.seen))
    named = [f"{escape_text(name, 200)} is left out: {error}" for name, error in list(why.items())[:_MOST_NAMED]]
    return named if count <= len(named) else [*named, f"{count - len(named)} more are left out, as `records` say"]


def _settings(
    command: str,
    model: Networks,
    section: Mapping[str, Any],
    options: Mapping[str, Any],
    readable: Sequence[str],
    *,
    device: str | None,
    **plain: Any,
) -> Settings:
    own = {path[1] for path in setting_paths(settings_type(command)) if len(path) == 2 and path[0] == command}
    flags: dict[tuple[str, ...], Any] = {(command, name): one for name, one in section.items() if one is not None}
    flags |= {(name,): one for name, one in plain.items() if one is not None}
    flags[("device",)] = device or ("auto" if isinstance(model, str) else network_device(model))
    if isinstance(model, str):
        flags[("model",)] = model
    for name, given in options.items():
        if name not in readable and name not in own:
            shown = escape_text(name, 60)
            fix = did_you_mean(name, [*readable, *sorted(own)]) or f"See: help(cnnviz_cli.{command})"
            raise UsageError(f"there is no option '{shown}'", where=shown, fix=fix)
        path = (command, name) if name in own else (name,)
        flags[path] = tuple(given) if isinstance(given, list) else given
    return load_settings(command, flags, None, {})


def _sources(images: Any, folder: Path, settings: Settings) -> list[Source]:
    """The images, those in memory as files of a folder, by their number."""
    listed = as_image_list(images)
    if not isinstance(listed, list):
        what = "a study reads images, and a tensor is a network's input"
        raise UsageError(what, where="images", fix="Pass paths, images or arrays.")
    places: list[Path] = []
    for number, one in enumerate(listed):
        if isinstance(one, str | PathLike):
            places.append(Path(one))
            continue
        folder.mkdir(parents=True, exist_ok=True)
        places.append(folder / f"image-{number:06d}.png")
        _picture(one, number).save(places[-1])
    return find_images(places, recursive=True, output=settings.output)


def _picture(image: Any, number: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image if image.mode in ("L", "RGB", "I;16") else image.convert("RGB")
    array = np.asarray(image)
    flat = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
    if not flat:
        what = f"image {number} is an array {array.shape} of {array.dtype}"
        raise UsageError(what, where="images", fix="Pass uint8 arrays (H, W, 3) or (H, W), or files.")
    return Image.fromarray(array)


def _result(root: Path) -> StudyResult:
    manifest = Manifest.model_validate(json.loads(read_regular(root / MANIFEST, GIBIBYTE)))
    if manifest.findings is None:
        raise UsageError("no image could be shown to the network", where="images", fix="Pass other images.")
    about = Conclusion(manifest.sheets or (), manifest.tables or ()).paths
    paths = [*about, *(path for record in manifest.images for path in record.paths), MANIFEST]
    sheets = tuple(one.path for one in manifest.sheets or [])
    files = {path: read_regular(root / path, GIBIBYTE) for path in paths}
    return StudyResult(manifest.findings, tuple(manifest.images), files, sheets)
