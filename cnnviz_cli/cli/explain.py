"""features, saliency, deconv, gradcam, all: the commands that draw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.flags import MEASURES, Config, DryRunFlag, Flags, Force, Images, Quiet, ShardOption, with_settings
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.running import HowToRun, RunKind, carry_out, require_images
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.evaluate_fields import USUAL_MEASURE
from cnnviz_cli.config.names import SettingPath
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.families import ALL, FAMILIES, SELECTOR, TOP_IMAGES
from cnnviz_cli.core.method import find_method

if TYPE_CHECKING:
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.run import DryRun, Outcome


def build(command: str, summary: str) -> Any:
    # A family's own flag has the name, and chooses among its methods alone.
    without = ("method",) if command in FAMILIES else ()
    return build_command(command, with_settings(command, partial(_run, command), without=without), summary)


def _with_methods(flags: Flags, given: Sequence[str]) -> Flags:
    """The flags, with each method named in `given` among those of its family, and all of them among those of each."""
    chosen: dict[SettingPath, list[str]] = {}
    try:
        for name in (part.strip() for word in given for part in word.split(",")):
            for family in FAMILIES if name == ALL else [find_method(name).family]:
                chosen.setdefault((family, SELECTOR), []).append(name)
    except UsageError as error:
        error.where = "--method"
        raise
    return {**flags, **{path: [*(flags.get(path) or []), *names] for path, names in chosen.items()}}


def _run(
    command: str,
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
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="Methods of any family, each in place of its family's default; all means every method. Repeatable, "
            "or with commas.",
            rich_help_panel="What to explain",
            autocompletion=completion.complete_methods,
        ),
    ] = None,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate",
            help=f"Judge every map, by {USUAL_MEASURE} where no measures are named; see cnnviz evaluate.",
            rich_help_panel="Judging",
        ),
    ] = False,
) -> int:
    if evaluate and not flags.get(MEASURES):
        flags = {**flags, MEASURES: [USUAL_MEASURE]}
    return run_command(
        command,
        _with_methods(flags, method or []),
        images or [],
        config,
        quiet=quiet,
        as_json=as_json,
        dry_run=dry_run,
        force=force,
        shard=shard,
    )


def run_command(
    command: str,
    flags: Flags,
    images: Sequence[str],
    config: Path | None,
    **how: Unpack[HowToRun],
) -> int:
    """A run from its command line to its exit code; raises what ends it."""
    # Not at the top, since --help needs none of it and is to appear at once.
    from cnnviz_cli.cli.preflight import load_request
    from cnnviz_cli.config.top_images_fields import refuse_top_images, top_images_fields

    loaded = load_request(command, flags, config)
    refuse_top_images(loaded.settings)
    if top_images_fields(loaded.settings) is not None:
        from cnnviz_cli.cli.study import run_study_command

        return run_study_command(command, lambda _: TOP_IMAGES, flags, images, config, how)
    require_images(command, images, loaded.settings)
    return carry_out(explaining(command), loaded, images, how)


def explaining(command: str) -> RunKind:
    """Runs that explain or judge, image by image."""
    from cnnviz_cli.cli.run_summary import print_dry_run, print_outcome

    return RunKind(command, partial(_describe, command), partial(_execute, command), print_dry_run, print_outcome)


def _describe(command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter) -> DryRun:
    from cnnviz_cli import run

    with gc_disabled():
        describe_run = run.describe_run
    return describe_run(command, settings, sources, reporter)


def _execute(command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter, **place: Any) -> Outcome:
    from cnnviz_cli import run

    with gc_disabled():
        execute = run.execute
    return execute(command, settings, sources, reporter, **place)
