"""evaluate: every map judged, beside maps that know nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.evaluate_runs import finished_runs, judge_finished_runs
from cnnviz_cli.cli.explain import run_command
from cnnviz_cli.cli.flags import Config, Flags, Force, Quiet, ShardOption, with_settings
from cnnviz_cli.cli.running import HowToRun
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.evaluate_fields import MAPS, QUICK, QUICK_METHODS
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ALL, EVALUATE, FAMILIES, SELECTOR
from cnnviz_cli.core.method import Method, find_method, methods
from cnnviz_cli.core.text import escape_text


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


def _run(
    flags: Flags,
    *,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders, zip and tar archives of images, patterns in quotes ('in/**/*.jpg'), "
            "and URLs (s3://bucket/folder/). With the folder of a finished run that has arrays (--save-arrays) "
            "its maps of these images are judged, and no method runs; with those of several, all in one table.",
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
            help="Methods of any family, whose maps are judged; quick is eight of them, all means every one. Of a "
            "finished run some of its own. Repeatable, or with commas. (default quick)",
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
    lying: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Where the images of finished runs lie. Repeatable; the same as naming them behind the runs.",
            rich_help_panel="Judging",
        ),
    ] = None,
) -> int:
    named, runs = images or [], finished_runs(images or [])
    if (maps := flags.get((EVALUATE, MAPS))) is not None:
        runs = [*runs, str(maps)]
    layers = [part.strip() for word in layer or [] for part in word.split(",")]
    how = HowToRun(quiet=quiet, as_json=as_json, dry_run=dry_run, force=force, shard=shard)
    if not runs:
        if lying:
            raise UsageError(
                "no finished run is named whose images these could be",
                where="--images",
                fix="Name the run, too: cnnviz evaluate RUN --images DIR",
            )
        return run_command(EVALUATE, with_choice(flags, method or [], layers), named, config, **how)
    if layers:
        raise UsageError(
            f"the maps of '{escape_text(runs[0], 200)}' are those of its own layers",
            where="--layer",
            fix="Leave it out, or judge maps as they are made: cnnviz evaluate IMAGES --layer LAYER",
        )
    named = [*(name for name in named if name not in runs), *(lying or [])]
    names = [part.strip() for word in method or [] for part in word.split(",")]
    return judge_finished_runs(flags, runs, named, names, config, **how)
