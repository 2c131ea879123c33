"""dream: pictures of what a network has learnt, from noise, and of what it sees in images, painted into them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnviz_cli.cli.flags import Config, Flags, Quiet, with_settings
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.running import HowToRun, RunKind, carry_out
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.fields import NetworkFields, OutputFields, PlaceFields
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import DREAM, SELECTOR
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.run import Outcome
    from cnnviz_cli.run.dream_run import DreamPlan

_SETTINGS = {
    *NetworkFields.model_fields, *(OutputFields.model_fields.keys() - {"unit"}), *PlaceFields.model_fields,
    "target", "score", "multilabel", "objective", "min_score", "labels", "format", "width", "dpi", "save_arrays",
    "report", "seed", "device", "precision", "memory_format", "threads", "engine",
}  # fmt: skip
"""The common settings that mean something here; the others are about maps over images, or about several at a time."""


def build(command: str, summary: str) -> Any:
    return build_command(command, with_settings(command, _run, only=_SETTINGS), summary)


def _run(
    flags: Flags,
    *,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images to paint into: files, folders, archives, patterns in quotes, and URLs. Without any, pictures "
            "are painted from noise.",
        ),
    ] = None,
    config: Config = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be painted, computed and written; write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Paint everything again, even what is done.", rich_help_panel="Output")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            metavar="I/N|auto|none",
            help="Paint every N-th of the list, from number I (counted from 0) on; auto reads the variables of "
            "torchrun, Slurm and Kubernetes. (default auto)",
            rich_help_panel="Input",
        ),
    ] = "auto",
    _debug: Debug = False,
) -> int:
    from cnnviz_cli.cli.run_summary import print_dream_plan, print_dreams

    loaded, given = _load(flags, config, images=bool(images or flags.get(("files_from",))))
    kind = RunKind(DREAM.name, _describe, _execute, print_dream_plan, print_dreams)
    how = HowToRun(quiet=quiet, as_json=as_json, dry_run=dry_run, force=force, shard=shard)
    return carry_out(kind, loaded, images or [], how, _settings(loaded, images=given))


def _load(flags: Flags, config: Path | None, *, images: bool) -> tuple[LoadedSettings, bool]:
    """The settings with the default method of a command with or without images, and whether there are any: a file of
    settings may name a list of them, too."""
    from cnnviz_cli.cli.preflight import load_request

    loaded = load_request(
        DREAM.name, flags, config, defaults={(DREAM.name, SELECTOR): (DREAM.with_images,)} if images else {}
    )
    return (loaded, images) if images or loaded.settings.files_from is None else _load(flags, config, images=True)


def _describe(settings: Settings, sources: Sequence[Source], reporter: Reporter) -> DreamPlan:
    with gc_disabled():
        from cnnviz_cli.run.dream_run import describe_dreams
    return describe_dreams(settings, sources, reporter)


def _execute(settings: Settings, sources: Sequence[Source], reporter: Reporter, **place: Any) -> Outcome:
    with gc_disabled():
        from cnnviz_cli.run.dream_run import execute_dreams
    return execute_dreams(settings, sources, reporter, **place)


def _settings(loaded: LoadedSettings, *, images: bool) -> Settings:
    """The settings, with the method that suits; raises UsageError for what cannot be, before anything is loaded."""
    from cnnviz_cli.config.dream_fields import check_images, dream_fields, names_targets, without_single_term
    from cnnviz_cli.models.spec.judges import JudgeSpec

    check_images(dream_fields(loaded.settings), targets=names_targets(loaded.settings), images=images)
    settings = without_single_term(loaded.settings)
    against = dream_fields(settings).against
    if against is not None and not os.path.lexists(against):
        from cnnviz_cli.files.inputs.folder_walk import suggest_path

        shown = escape_text(str(against), 200)
        raise UsageError(f"there is no folder '{shown}'", where="--against", fix=suggest_path(against))
    for judge in dream_fields(settings).judge:
        JudgeSpec.parse(judge).check(allow_code=settings.allow_code)
    if settings.format in ("svg", "pdf"):
        fix = "Choose png, webp or jpeg."
        raise UsageError(f"a picture is made of pixels, which {settings.format} only wraps", where="--format", fix=fix)
    return settings
