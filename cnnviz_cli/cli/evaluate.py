"""evaluate: every map judged, beside maps that know nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.explain import run_command
from cnnviz_cli.cli.flags import Config, Flags, Force, Quiet, ShardOption, with_settings
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.evaluate_fields import MAPS, QUICK, QUICK_METHODS
from cnnviz_cli.config.fields import NetworkFields, OutputFields, QuestionFields
from cnnviz_cli.config.names import flag_name
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ALL, EVALUATE, FAMILIES, SELECTOR
from cnnviz_cli.core.method import Method, find_method, methods
from cnnviz_cli.core.text import escape_text

_FREE = {"weights_mirror", "offline", "allow_code"}
FIXED = ({*NetworkFields.model_fields, *OutputFields.model_fields} - _FREE) | {"seed", "precision", "fold"}
"""Settings beside the question that decide what a map is."""


def build(command: str, summary: str) -> Any:
    return build_command(command, with_settings(command, _run), summary)


def chosen_methods(given: Sequence[str]) -> list[Method]:
    """The methods that are named, each once; `quick` and `all` stand for several. Raises UsageError for an unknown."""
    found: dict[str, Method] = {}
    for name in (part.strip() for word in given for part in word.split(",")):
        several = {QUICK: QUICK_METHODS, ALL: tuple(method.name for method in methods())}
        try:
            found |= {one: find_method(one) for one in several.get(name, (name,))}
        except UsageError as error:
            error.where = "--method"
            raise
    return list(found.values())


def with_choice(flags: Flags, given: Sequence[str], layers: Sequence[str]) -> Flags:
    """The flags, with the methods that are named and no others, and layers for those of them that read one."""
    made: Flags = dict(flags)
    words = {part.strip() for word in given for part in word.split(",")}
    chosen = chosen_methods(given or [QUICK])
    if given and words != {QUICK}:
        for family in FAMILIES:
            names = [method.name for method in chosen if method.family == family]
            # As one word, so that a method that does not apply is left out, and not a mistake.
            made[family, SELECTOR] = [ALL] if words == {ALL} else names
    if layers:
        reading = dict.fromkeys(
            method.family for method in chosen if "layer" in {item.name for item in fields(method.options)}
        )
        if not reading:
            listed = ", ".join(method.name for method in chosen)
            raise UsageError(f"none of these methods reads a layer: {listed}", where="--layer", fix="Leave it out.")
        made |= {(family, "layer"): list(layers) for family in reading}
    return made


def finished_runs(images: Sequence[str]) -> list[str]:
    """Those of some names that are folders of finished runs, whose figures are no images to be explained."""
    from cnnviz_cli.files.output.file_names import MANIFEST, is_manifest

    return [name for name in images if (path := Path(name) / MANIFEST).is_file() and is_manifest(path)]


def with_finished_run(flags: Flags, runs: Sequence[str], images: Sequence[str]) -> Flags:
    """The flags of a command that judges the maps of a finished run: what was explained, and how, says its manifest.

    Args:
        images: those that the run explained.

    Raises:
        UsageError: there are several runs, no images, or a flag asks for something else than the run did.
    """
    from cnnviz_cli.run.finished_run import FinishedRun

    shown = escape_text(runs[0], 200)
    if len(runs) > 1:
        listed = ", ".join(escape_text(name, 100) for name in runs)
        raise UsageError(
            f"the maps of one finished run are judged at a time, and {len(runs)} are named: {listed}",
            where="IMAGE",
            fix=f"Judge each by itself: cnnviz evaluate {shown} IMAGES",
        )
    run = FinishedRun.read(Path(runs[0]))
    if not images and not flags.get(("files_from",)):
        raise UsageError(
            f"'{shown}' holds maps, and the images that it explained are needed to judge them",
            where="IMAGE",
            fix=f"Name them: cnnviz evaluate {shown} IMAGES",
        )
    asked = run.flags
    for path in flags:
        # What says where, how fast and how it looks is free, and so is what judges.
        given = flags[path]
        same = path in asked and isinstance(given, str) and Path(given).name == asked[path]  # of a file its name
        if not same and (path[0] in FAMILIES or path[0] in (*QuestionFields.model_fields, *FIXED)):
            raise UsageError(
                f"what is explained is what '{shown}' explained, and this asks for something else",
                where=flag_name(path, EVALUATE),
                fix="Leave it out, or judge maps as they are made: cnnviz evaluate IMAGES --method METHOD",
            )
    output = flags.get(("output",))
    if output and Path(output).resolve() == run.root.resolve():
        raise UsageError(
            f"'{shown}' is the run whose maps are judged, and its figures would be replaced",
            where="--output",
            fix="Name another folder.",
        )
    return {**asked, **flags, (EVALUATE, MAPS): runs[0]}


def _run(
    flags: Flags,
    *,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders, zip and tar archives of images, patterns in quotes ('in/**/*.jpg'), "
            "and URLs (s3://bucket/folder/). With the folder of a finished run that has arrays (--save-arrays) "
            "its maps of these images are judged, and no method runs.",
        ),
    ] = None,
    config: Config = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be read, computed and judged, and for how many passes; write nothing."
        ),
    ] = False,
    force: Force = False,
    shard: ShardOption = "auto",
    _debug: Debug = False,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="Methods of any family, whose maps are judged; quick is eight of them, all means every one. "
            "Repeatable, or with commas. (default quick)",
            rich_help_panel="Judging",
            autocompletion=completion.complete_methods,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="LAYER",
            help="Layers for all methods that read one; of several each has a row of its own. Repeatable, or with "
            "commas.",
            rich_help_panel="Judging",
        ),
    ] = None,
) -> int:
    named, runs = images or [], finished_runs(images or [])
    if (maps := flags.get((EVALUATE, MAPS))) is not None:
        runs = [*runs, str(maps)]
    layers = [part.strip() for word in layer or [] for part in word.split(",")]
    if runs:
        if method or layers:
            raise UsageError(
                f"the maps of '{escape_text(runs[0], 200)}' are those of its own methods and layers",
                where="--method" if method else "--layer",
                fix="Leave it out, or judge maps as they are made: cnnviz evaluate IMAGES --method METHOD",
            )
        named = [name for name in named if name not in runs]
        chosen = with_finished_run(flags, runs, named)
    else:
        chosen = with_choice(flags, method or [], layers)
    return run_command(
        EVALUATE,
        chosen,
        named,
        config,
        quiet=quiet,
        as_json=as_json,
        dry_run=dry_run,
        force=force,
        shard=shard,
    )
