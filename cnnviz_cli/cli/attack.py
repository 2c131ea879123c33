"""attack: the smallest change that flips an image's label, and the explanation before and after."""

from __future__ import annotations

from typing import Any

from cnnviz_cli.cli.explain import run_command
from cnnviz_cli.cli.flags import Config, DryRunFlag, Flags, Force, Images, Quiet, ShardOption, with_settings
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
    images: Images = None,
    config: Config = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    dry_run: DryRunFlag = False,
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
