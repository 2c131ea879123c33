"""Names that several rooms know about, checked before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cnnviz_cli.config.errors import combine_errors
from cnnviz_cli.config.load import LoadedSettings
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.classes import IMAGENET, Labels
from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.file_reading import check_regular
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.inputs.folder_walk import suggest_path
from cnnviz_cli.files.tables.ground_truth import FOLDER
from cnnviz_cli.files.tables.labels import read_labels
from cnnviz_cli.models.spec.catalog import imagenet_labels
from cnnviz_cli.models.spec.network import check_network
from cnnviz_cli.models.spec.weights import check_weights, has_known_classes, known_labels, task_of
from cnnviz_cli.tasks.spec import TaskSpec, check_settings, default_task, find_task, parse_objective


def check_request(loaded: LoadedSettings) -> None:
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
        raise combine_errors(problems)
    if missing:
        raise missing


def _checks(loaded: LoadedSettings) -> Iterator[tuple[str, Callable[[], None]]]:
    settings = loaded.settings
    sound: list[str] = []
    yield "model", partial(_check_network, settings, sound)
    if sound:
        yield "weights", partial(_check_weights, settings, sound)
    for name in ("palette", "signed_palette"):
        if (name,) in loaded.origins:  # a default needs no check, and the renderer is slower to import
            yield name, partial(_check_palette, name, getattr(settings, name))
    yield "format", partial(_check_format, settings.format)
    tasks: list[TaskSpec] = []
    yield "objective", partial(_check_objective, settings, sound, tasks)
    if tasks and (path := parse_objective(settings.objective).file) is not None:
        yield "objective", partial(_check_reference_image, path)
    if settings.region is not None:
        yield "region", partial(_check_region, settings.region)
    labels = Labels(_known_labels(settings, sound))
    listing = f"See: cnnviz classes --model {settings.model}" if len(labels.names) != IMAGENET else ""
    if settings.labels is not None:
        found: list[Labels] = []
        yield "labels", partial(_read_labels, settings.labels, found)
        # One name alone is that of a question of yes or no, and a second will be made of it.
        labels, listing = (found[0] if found and len(found[0].names) > 1 else Labels(())), ""
    for task in tasks:
        for name, work in task.checks(settings, parse_objective(settings.objective).what, labels):
            yield name, partial(_point_to_listing, listing, work)
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


def _check_objective(settings: Settings, sound: list[str], tasks: list[TaskSpec]) -> None:
    """Add to `tasks` what is explained, if that can be told without the network."""
    request = parse_objective(settings.objective)
    known = task_of(settings.model, settings.arch) if "model" in sound else None
    task = request.task(settings.task)
    if known is not None:
        task = request.task_for(find_task(known).returns, settings.model, settings.task)
    if task is not None:
        tasks.append(task)
        check_settings(settings, task)
    elif not sound:
        tasks.append(default_task(name=settings.task))  # of a name with a slip most likely


def _check_reference_image(path: Path) -> None:
    """Raise UsageError unless it is a picture that others can be compared with."""
    from cnnviz_cli.files.images.decode import read_reference_image

    read_reference_image(path)


def _check_region(path: Path) -> None:
    from cnnviz_cli.files.images.region_masks import open_masks

    open_masks(path)


def _check_format(name: str) -> None:
    if name == "pdf":
        from cnnviz_cli.render.pdf import require_reportlab

        require_reportlab()


def _check_palette(setting: str, name: str) -> None:
    from cnnviz_cli.config.values import check_palettes, unknown_palette_error
    from cnnviz_cli.render.style import PALETTES, SIGNED_PALETTES

    if setting == "palette":
        check_palettes(name, PALETTES)
    elif name not in SIGNED_PALETTES:
        raise unknown_palette_error(name, SIGNED_PALETTES)


def _read_labels(path: Path, found: list[Labels]) -> None:
    found.append(read_labels(path))


def _point_to_listing(listing: str, work: Callable[[], object]) -> None:
    """Add where classes are listed to the error of one that is not among them."""
    try:
        work()
    except UsageError as error:
        if listing and "has no class" in error.what:
            error.fix = f"{error.fix}\n{listing}".strip()
        raise


def _check_file(path: Path) -> None:
    shown = visible(str(path), 200)
    try:
        check_regular(path.stat(), path)
    except FileNotFoundError:
        fix = suggest_path(path) if path.parent.is_dir() else ""
        raise UsageError(f"there is no file '{shown}'", where="--truth", fix=fix) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        raise UsageError(f"'{shown}' cannot be read: {reason}", where="--truth") from error
