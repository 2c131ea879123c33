"""A request, loaded and checked: names that several rooms know about, before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.flags import Flags
from cnnviz_cli.config.attack_fields import check_attack, wanted_class
from cnnviz_cli.config.errors import combine_errors
from cnnviz_cli.config.evaluate_fields import annotations_of
from cnnviz_cli.config.load import LoadedSettings, load_with_origins
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.classes import IMAGENET, Labels, wanted_of
from cnnviz_cli.core.errors import CnnvizError, UsageError, system_reason
from cnnviz_cli.core.families import ATTACK
from cnnviz_cli.core.file_reading import check_regular
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.folder_walk import suggest_path
from cnnviz_cli.files.tables.ground_truth import FOLDER
from cnnviz_cli.files.tables.labels import read_labels
from cnnviz_cli.models.spec.catalog import imagenet_labels
from cnnviz_cli.models.spec.network import check_network
from cnnviz_cli.models.spec.weights import check_weights, has_known_classes, known_labels, task_of
from cnnviz_cli.tasks.spec import TaskSpec, check_settings, default_task, find_task, parse_objective

if TYPE_CHECKING:
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.files.output.shards import Shard


def load_request(
    command: str,
    flags: Flags,
    config: Path | None,
    *,
    model: str | None = None,
    defaults: Mapping[tuple[str, str], Any] = MappingProxyType({}),
) -> LoadedSettings:
    """The settings of a command line, checked as `check_request` does; `model` is a network named without a flag, and
    `defaults` are as of `load_with_origins`."""
    asked = flags if model is None else {**flags, ("model",): model}
    loaded = load_with_origins(command, asked, config, os.environ, defaults)
    check_request(loaded)
    return loaded


def find_sources(images: Sequence[str], settings: Settings) -> list[Source]:
    """The sources that a command line names; raises what `find_images` does, with what may have been meant."""
    from cnnviz_cli.files.inputs.search import find_images

    try:
        return find_images(
            images,
            recursive=settings.recursive,
            output=settings.output,
            files_from=settings.files_from,
            include=settings.include,
            exclude=settings.exclude,
        )
    except UsageError as error:
        from cnnviz_cli.cli.hints import suggest_for_missing_image

        error.fix = suggest_for_missing_image(error.where, images, settings) or error.fix
        raise


def with_output_folder(command: str, settings: Settings, sources: Sequence[Source], shard: Shard) -> Settings:
    """The settings of a run without ``--output``, with the folder of its own in the base folder."""
    first = settings.output / command
    if not os.path.lexists(first):
        return settings.model_copy(update={"output": first})
    from cnnviz_cli.files.output.previous_runs import choose_output_folder
    from cnnviz_cli.run.identity import request_digest

    names = [source.name for source in sources] or None
    folder = choose_output_folder(settings.output, command, request_digest(command, settings), names, shard)
    return settings.model_copy(update={"output": folder})


def with_joined_folder(command: str, runs: Mapping[str, Settings], sources: Sequence[Source], shard: Shard) -> Path:
    """The folder of several runs that are put together, where none is named: each has one of its own below it, by its
    name."""
    from cnnviz_cli.files.output.previous_runs import choose_joined_folder
    from cnnviz_cli.run.identity import request_digest

    asked = {name: request_digest(command, settings) for name, settings in runs.items()}
    base = next(iter(runs.values())).output
    return choose_joined_folder(base, command, asked, [source.name for source in sources], shard)


def check_request(loaded: LoadedSettings) -> None:
    """Refuse a model, weights, a palette or a class that does not exist.

    Raises:
        UsageError: with the place the name was written in; all of them at once.
        ModelError: the weights are a file that is not there.
    """
    settings = loaded.settings
    problems: list[CnnvizError] = []
    passes = partial(_passes, loaded, problems)
    model_known = passes("model", lambda: check_network(settings.model, settings.arch, allow_code=settings.allow_code))
    weights_known = model_known and passes(
        "weights", lambda: check_weights(settings.model, settings.weights, settings.arch)
    )
    for name in ("palette", "signed_palette"):
        if (name,) in loaded.origins:  # a default needs no check, and the renderer is slower to import
            passes(name, partial(_check_palette, name, getattr(settings, name)))
    if settings.format == "pdf":
        from cnnviz_cli.render.pdf import require_reportlab

        passes("format", require_reportlab)
    tasks: list[TaskSpec] = []
    passes("objective", lambda: _find_task(settings, tasks, model_known=model_known))
    if tasks and (path := parse_objective(settings.objective).file) is not None:
        from cnnviz_cli.files.images.decode import read_reference_image

        passes("objective", partial(read_reference_image, path))
    if settings.region is not None:
        from cnnviz_cli.files.images.region_masks import open_masks

        passes("region", partial(open_masks, settings.region))
    if (marked := annotations_of(settings)) is not None:
        from cnnviz_cli.files.annotations.folders import open_annotations

        passes("annotations", partial(open_annotations, marked))
    labels, listing = _check_labels(settings, passes, weights_known=weights_known)
    passes("attack", partial(_check_attack, settings, labels, listing))
    for task in tasks:
        for name, check in task.checks(settings, parse_objective(settings.objective).what, labels):
            passes(name, partial(_point_to_listing, listing, check))
    if settings.truth not in (None, FOLDER):
        passes("truth", lambda: _check_file(Path(str(settings.truth))))
    mistakes = [error for error in problems if isinstance(error, UsageError)]
    if mistakes:
        raise combine_errors(mistakes)
    if problems:
        raise problems[-1]


def _passes(loaded: LoadedSettings, problems: list[CnnvizError], name: str, check: Callable[[], object]) -> bool:
    """Whether `check` of the setting `name` raises nothing; what it raises is added to `problems`, with its place."""
    try:
        check()
    except CnnvizError as error:
        # A check of one setting may find fault with another.
        concerned = (error.where.removeprefix("--").replace("-", "_"), name)
        place = next((loaded.origins[(one,)][1] for one in concerned if (one,) in loaded.origins), None)
        if place is not None:
            error.where, error.excerpt = place.where, place.excerpt
        problems.append(error)
        return False
    return True


def _check_labels(
    settings: Settings, passes: Callable[[str, Callable[[], object]], bool], *, weights_known: bool
) -> tuple[Labels, str]:
    """The classes that a target may name, as far as they are known without the network, and what lists them."""
    labels = Labels(_known_labels(settings, weights_known=weights_known))
    listing = f"See: cnnviz classes --model {settings.model}" if len(labels.names) != IMAGENET else ""
    found: list[Labels] = []
    if settings.prompts is not None:
        from cnnviz_cli.files.tables.prompts import read_prompts

        path = settings.prompts
        passes("prompts", lambda: found.append(Labels(read_prompts(path).names)))
        labels, listing = (found[0] if found else Labels(())), ""
    if settings.labels is not None:
        found.clear()
        passes("labels", lambda: found.append(read_labels(Path(str(settings.labels)))))
        # One name alone is that of a question of yes or no, and a second will be made of it.
        labels, listing = (found[0] if found and len(found[0].names) > 1 else Labels(())), ""
    return labels, listing


def _known_labels(settings: Settings, *, weights_known: bool) -> tuple[str, ...]:
    """A weights file may have any classes; those of every other kind of weights are known."""
    if weights_known:
        return known_labels(settings.model, settings.weights)
    # A misspelt name most likely means a network with ImageNet's classes.
    return imagenet_labels() if has_known_classes(settings.model, settings.weights) else ()


def _find_task(settings: Settings, tasks: list[TaskSpec], *, model_known: bool) -> None:
    request = parse_objective(settings.objective)
    known = task_of(settings.model, settings.arch) if model_known else None
    task = request.task(settings.task)
    if known is not None:
        task = request.task_for(find_task(known).returns, settings.model, settings.task)
    if task is not None:
        tasks.append(task)
        check_settings(settings, task)
    elif not model_known or settings.prompts is not None:
        # A misspelt name most likely means a classifier, and sentences describe classes.
        tasks.append(default_task(name=settings.task))


def _check_palette(setting: str, name: str) -> None:
    from cnnviz_cli.config.values import check_palettes, unknown_palette_error
    from cnnviz_cli.render.style import PALETTES, SIGNED_PALETTES

    if setting == "palette":
        check_palettes(name, PALETTES)
    elif name not in SIGNED_PALETTES:
        raise unknown_palette_error(name, SIGNED_PALETTES)


def _check_attack(settings: Settings, labels: Labels, listing: str) -> None:
    if settings.command == ATTACK.name:
        check_attack(settings)
        wanted = wanted_class(settings)
        if wanted is not None and labels.names:
            _point_to_listing(listing, partial(wanted_of, wanted, labels))


def _point_to_listing(listing: str, check: Callable[[], object]) -> None:
    try:
        check()
    except UsageError as error:
        if listing and "has no class" in error.what:
            error.fix = f"{error.fix}\n{listing}".strip()
        raise


def _check_file(path: Path) -> None:
    shown = escape_text(str(path), 200)
    try:
        check_regular(path.stat(), path)
    except FileNotFoundError:
        fix = suggest_path(path) if path.parent.is_dir() else ""
        raise UsageError(f"there is no file '{shown}'", where="--truth", fix=fix) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = system_reason(error)
        raise UsageError(f"'{shown}' cannot be read: {reason}", where="--truth") from error
