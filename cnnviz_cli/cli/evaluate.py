"""evaluate: every map judged, beside maps that know nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.explain import run_command
from cnnviz_cli.cli.flags import Config, Flags, with_settings
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.evaluate_fields import QUICK, QUICK_METHODS
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


def refuse_finished_runs(images: Sequence[str]) -> None:
    """Raise UsageError for the folder of a finished run: its figures are no images to be explained."""
    from cnnviz_cli.files.output.file_names import MANIFEST, is_manifest

    for name in images:
        path = Path(name) / MANIFEST
        if path.is_file() and is_manifest(path):
            raise UsageError(
                f"'{escape_text(name, 200)}' holds the figures of a finished run, and maps are judged as they are made",
                where="IMAGE",
                fix="Name the images that it explained: cnnviz evaluate IMAGES --method METHOD",
            )


def _run(
    flags: Flags,
    *,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders, zip and tar archives of images, patterns in quotes ('in/**/*.jpg'), "
            "and URLs (s3://bucket/folder/).",
        ),
    ] = None,
    config: Config = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings only.")] = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be read, computed and judged, and for how many passes; write nothing."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Do all images again, even those that are done.", rich_help_panel="Output")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            metavar="I/N|auto|none",
            help="Do every N-th batch of the list, from number I (counted from 0) on; auto reads the variables of "
            "torchrun, Slurm and Kubernetes. (default auto)",
            rich_help_panel="Input",
        ),
    ] = "auto",
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
    refuse_finished_runs(images or [])
    layers = [part.strip() for word in layer or [] for part in word.split(",")]
    return run_command(
        EVALUATE,
        with_choice(flags, method or [], layers),
        images or [],
        config,
        quiet=quiet,
        as_json=as_json,
        dry_run=dry_run,
        force=force,
        shard=shard,
    )
