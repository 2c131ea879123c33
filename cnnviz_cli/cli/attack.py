"""attack: the smallest change that flips an image's label, and the explanation before and after."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnnviz_cli.cli.explain import run_command
from cnnviz_cli.cli.flags import Config, Flags, Force, Quiet, ShardOption, with_settings
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.fields import ComputingFields, DrawingFields, NetworkFields, OutputFields, PlaceFields
from cnnviz_cli.core.families import ATTACK

_SETTINGS = {
    *NetworkFields.model_fields, *(OutputFields.model_fields.keys() - {"unit"}), *PlaceFields.model_fields,
    *(DrawingFields.model_fields.keys() - {"scale"}), *(ComputingFields.model_fields.keys() - {"compile"}),
    "target", "multilabel", "objective", "labels", "truth",
}  # fmt: skip
"""The common settings that mean something here; the others ask another question than for the label."""


def build(command: str, summary: str) -> Any:
    return build_command(command, with_settings(command, _run, only=_SETTINGS), summary)


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
    quiet: Quiet = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be read, computed and written; write nothing.")
    ] = False,
    force: Force = False,
    shard: ShardOption = "auto",
    _debug: Debug = False,
) -> int:
    return run_command(
        ATTACK.name,
        flags,
        images or [],
        config,
        quiet=quiet,
        as_json=as_json,
        dry_run=dry_run,
        force=force,
        shard=shard,
    )
