"""Names that several rooms know about, checked before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cnnviz_cli.config.aiming import boxes_asked, kind_of, refuse_strangers, regions_asked
from cnnviz_cli.config.load import Loaded
from cnnviz_cli.config.problems import combined
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.aims import BOX, CLASS, SEGMENT, SIMILARITY, Kind, parse_aim
from cnnviz_cli.core.classes import IMAGENET, TRUE, contrast_of, missing_truth, ranks_of
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.opening import check_regular
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.labels import Labels, read_labels
from cnnviz_cli.files.listing import nearest
from cnnviz_cli.files.truths import FOLDER
from cnnviz_cli.models.catalog import imagenet_labels
from cnnviz_cli.models.network import check_network
from cnnviz_cli.models.spec import check_weights, has_known_classes, known_labels, task_of

_RETURNED_FOR = {"classification": "scores", "segmentation": "maps", "detection": "boxes"}


def check(loaded: Loaded) -> None:
    """Refuse a model, weights, a palette or a class that does not exist.

    Raises:
        UsageError: with the place the name was written in; all of them at once.
        ModelError: the weights are a file that is not there.
    """
    problems: list[UsageError] = []
    missing: CnnvizError | None = None
    for name, work in _checks(loaded):
        try:
            work()
        except CnnvizError as error:
            # A check of one setting may find fault with another.
            concerned = (error.where.removeprefix("--").replace("-", "_"), name)
            place = next((loaded.origins[(one,)][1] for one in concerned if (one,) in loaded.origins), None)
            if place is not None:
                error.where, error.excerpt = place.where, place.excerpt
            if isinstance(error, UsageError):
                problems.append(error)
            else:
                missing = error
    if problems:
        raise combined(problems)
    if missing:
        raise missing


def _checks(loaded: Loaded) -> Iterator[tuple[str, Callable[[], None]]]:
    settings = loaded.settings
    sound: list[str] = []
    yield "model", partial(_check_network, settings, sound)
    if sound:
        yield "weights", partial(_check_weights, settings, sound)
    for name in ("palette", "signed_palette"):
        if (name,) in loaded.origins:  # a default needs no check, and the renderer is slower to import
            yield name, partial(_check_palette, name, getattr(settings, name))
    yield "format", partial(_check_format, settings.format)
    kinds: list[Kind] = []
    yield "objective", partial(_check_objective, settings, sound, kinds)
    kind = kinds[0] if kinds else None
    if kind == SIMILARITY:
        yield "objective", partial(_check_other, Path(parse_aim(settings.objective).what))
    if settings.region is not None:
        yield "region", partial(_check_region, settings.region)
    labels = Labels(_known_labels(settings, sound))
    listing = f"See: cnnviz classes --model {settings.model}" if len(labels.names) != IMAGENET else ""
    if settings.labels is not None:
        found: list[Labels] = []
        yield "labels", partial(_read_labels, settings.labels, found)
        # One name alone is that of a question of yes or no, and a second will be made of it.
        labels, listing = (found[0] if found and len(found[0].names) > 1 else Labels(())), ""
    if kind == BOX:
        yield "target", partial(_check_boxes, settings)
    elif kind == SEGMENT and labels.names:
        yield "target", partial(_check_regions, settings, labels, listing)
    elif kind == CLASS and labels.names:
        known = settings.truth is not None
        for target in settings.target:
            yield "target", partial(_check_target, target, labels, listing, truth=known)
        if settings.contrast is not None:
            yield "contrast", partial(_check_contrast, settings.contrast, labels, listing, truth=known)
    if settings.truth not in (None, FOLDER):
        yield "truth", partial(_check_file, Path(str(settings.truth)))


def _check_network(settings: Settings, sound: list[str]) -> None:
    check_network(settings.model, settings.arch, allow_code=settings.allow_code)
    sound.append("model")


def _check_weights(settings: Settings, sound: list[str]) -> None:
    check_weights(settings.model, settings.weights, settings.arch)
    sound.append("weights")


def _known_labels(settings: Settings, sound: list[str]) -> tuple[str, ...]:
    """A weights file may have any classes; those of every other kind of weights are known."""
    if "weights" in sound:
        return known_labels(settings.model, settings.weights)
    # Of a name with a slip most likely ImageNet's.
    return imagenet_labels() if has_known_classes(settings.model, settings.weights) else ()


def _check_objective(settings: Settings, sound: list[str], kinds: list[Kind]) -> None:
    """Add to `kinds` what is explained, if that can be told without the network."""
    aim = parse_aim(settings.objective)
    task = task_of(settings.model, settings.arch) if "model" in sound else None
    if task is not None:
        kinds.append(kind_of(aim, _RETURNED_FOR[task], settings.model))
    elif aim.kind is not None:
        kinds.append(aim.kind)
    if kinds:
        refuse_strangers(settings, kinds[0])
    elif not sound:
        kinds.append(CLASS)  # of a name with a slip most likely


def _check_other(path: Path) -> None:
    """Raise UsageError unless it is a picture that others can be compared with."""
    from cnnviz_cli.files.other import read_other

    read_other(path)


def _check_region(path: Path) -> None:
    from cnnviz_cli.files.masks import masks_at

    masks_at(path)


def _check_boxes(settings: Settings) -> None:
    boxes_asked(settings, parse_aim(settings.objective))


def _check_regions(settings: Settings, labels: Labels, listing: str) -> None:
    with _pointing_to(listing):
        regions_asked(settings, parse_aim(settings.objective), labels.names, labels.also)


def _check_format(name: str) -> None:
    if name == "pdf":
        from cnnviz_cli.render.pdf import require_reportlab

        require_reportlab()


def _check_palette(setting: str, name: str) -> None:
    from cnnviz_cli.config.palettes import check_palettes, unknown_palette
    from cnnviz_cli.render.look import PALETTES, SIGNED_PALETTES

    if setting == "palette":
        check_palettes(name, PALETTES)
    elif name not in SIGNED_PALETTES:
        raise unknown_palette(name, SIGNED_PALETTES)


def _read_labels(path: Path, found: list[Labels]) -> None:
    found.append(read_labels(path))


def _check_target(target: str | int, labels: Labels, listing: str, *, truth: bool) -> None:
    with _pointing_to(listing):
        if TRUE in ranks_of([target], labels.names, labels.also) and not truth:
            raise missing_truth("--target")


def _check_contrast(contrast: str | int, labels: Labels, listing: str, *, truth: bool) -> None:
    with _pointing_to(listing):
        if contrast_of(contrast, labels.names, labels.also) == TRUE and not truth:
            raise missing_truth("--contrast")


@contextmanager
def _pointing_to(listing: str) -> Iterator[None]:
    """Add where classes are listed to the error of one that is not among them."""
    try:
        yield
    except UsageError as error:
        if listing and "has no class" in error.what:
            error.fix = f"{error.fix}\n{listing}".strip()
        raise


def _check_file(path: Path) -> None:
    shown = visible(str(path), 200)
    try:
        check_regular(path.stat(), path)
    except FileNotFoundError:
        fix = nearest(path) if path.parent.is_dir() else ""
        raise UsageError(f"there is no file '{shown}'", where="--truth", fix=fix) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        raise UsageError(f"'{shown}' cannot be read: {reason}", where="--truth") from error
