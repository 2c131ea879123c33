"""dream: pictures of what a network has learnt, from noise, and of what it sees in images, painted into them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnviz_cli.cli.flags import Config, Flags, Quiet, with_settings
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.fields import NetworkFields, OutputFields, PlaceFields
from cnnviz_cli.core.errors import ExitCode, UsageError
from cnnviz_cli.core.families import DREAM, SELECTOR
from cnnviz_cli.core.text import escape_text

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.run import Outcome

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
    from cnnviz_cli.cli.preflight import find_sources, load_request, with_output_folder
    from cnnviz_cli.cli.reporters import make_reporter
    from cnnviz_cli.cli.run_end import check_report, end_run
    from cnnviz_cli.cli.run_summary import print_dream_plan, print_dreams
    from cnnviz_cli.cli.sharding import choose_shard
    from cnnviz_cli.cli.text_layout import count_noun

    given = bool(images or flags.get(("files_from",)))
    defaults = {(DREAM.name, SELECTOR): (DREAM.with_images,)} if given else {}
    loaded = load_request(DREAM.name, flags, config, defaults=defaults)
    settings = _settings(loaded, images=given)
    part = choose_shard(shard, os.environ)
    sources = find_sources(images or [], settings) if given else []
    if ("output",) not in loaded.origins:
        settings = with_output_folder(DREAM.name, settings, sources, part.shard)
    reporter = make_reporter(quiet=quiet)

    def report(outcome: Outcome) -> int:
        return end_run(outcome, settings, images or [], part, reporter, print_dreams, as_json=as_json, quiet=quiet)

    if part.shard.label:
        reporter.say(f"shard {part.shard.index} of {part.shard.count} ({part.origin})")
    if not dry_run:
        check_report(settings, part)
    if not (force or dry_run) and os.path.lexists(settings.output / part.shard.journal):
        from cnnviz_cli.run.rerun import conclude_if_done

        finished = conclude_if_done(DREAM.name, settings, sources, reporter, shard=part.shard)
        if finished is not None:
            return report(finished)
    weights = "" if settings.weights == "DEFAULT" else f" ({settings.weights})"
    what = count_noun(len(sources), "image") if sources else "from noise"
    reporter.say(f"{what}, {settings.model}{weights}: loading")
    force = force and not part.restarted
    if settings.engine == "ray" and not dry_run:
        from cnnviz_cli import cluster

        return report(cluster.execute(DREAM.name, settings, sources, reporter, shard=part.shard, force=force))
    with gc_disabled():
        from cnnviz_cli.run import dream_run  # imports torch, which takes seconds
    if dry_run:
        print_dream_plan(dream_run.describe_dreams(settings, sources, reporter), settings.output, as_json=as_json)
        return ExitCode.OK
    outcome: Outcome = dream_run.execute_dreams(
        settings, sources, reporter, shard=part.shard, force=force, local_rank=part.local_rank
    )
    return report(outcome)


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
