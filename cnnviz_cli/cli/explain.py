"""features, saliency, deconv, gradcam, all: the commands that draw."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, Unpack

import typer

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.flags import MEASURES, Config, DryRunFlag, Flags, Force, Images, Quiet, ShardOption, with_settings
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.evaluate_fields import USUAL_MEASURE
from cnnviz_cli.config.names import SettingPath
from cnnviz_cli.core.errors import ExitCode, UsageError
from cnnviz_cli.core.families import ALL, FAMILIES, SELECTOR, TOP_IMAGES
from cnnviz_cli.core.method import find_method

if TYPE_CHECKING:
    from cnnviz_cli.cli.sharding import ShardChoice
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.run import DryRun, Outcome


class HowToRun(TypedDict):
    """What the flags of every command that draws say beside its settings; see there."""

    quiet: bool
    as_json: bool
    dry_run: bool
    force: bool
    shard: str


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
    from cnnviz_cli.cli.preflight import find_sources, load_request, with_output_folder
    from cnnviz_cli.cli.reporters import make_reporter
    from cnnviz_cli.cli.run_end import check_report, end_run
    from cnnviz_cli.cli.run_summary import print_dry_run, print_outcome
    from cnnviz_cli.cli.sharding import choose_shard
    from cnnviz_cli.config.top_images_fields import refuse_top_images, top_images_fields

    loaded = load_request(command, flags, config)
    settings = loaded.settings
    refuse_top_images(settings)
    if top_images_fields(settings) is not None:
        from cnnviz_cli.cli.study import run_study_command

        return run_study_command(command, lambda _: TOP_IMAGES, flags, images, config, how)
    if not images and settings.files_from is None:
        fix = f"Name images, folders or archives, or a list of them: --files-from FILE\nSee: cnnviz {command} --help"
        raise UsageError("no images were given", fix=fix)
    part = choose_shard(how["shard"], os.environ)
    sources = find_sources(images, settings)
    if ("output",) not in loaded.origins:
        settings = with_output_folder(command, settings, sources, part.shard)
    reporter, as_json = make_reporter(quiet=how["quiet"]), how["as_json"]
    if how["dry_run"]:
        found = describe_request(command, settings, sources, part, reporter)
        print_dry_run(found, settings.output, as_json=as_json)
        return ExitCode.OK
    check_report(settings, part)
    outcome = run_request(command, settings, sources, part, reporter, force=how["force"])
    return end_run(outcome, settings, images, part, reporter, print_outcome, as_json=as_json, quiet=how["quiet"])


def run_request(
    command: str, settings: Settings, sources: Sequence[Source], part: ShardChoice, reporter: Reporter, *, force: bool
) -> Outcome:
    """A run whose settings are known; raises what ends it."""
    force = force and not part.restarted
    # What looks into folders takes longer to import than an empty one is to be seen, and a word is due before that.
    if not force and os.path.lexists(settings.output / part.shard.journal):
        from cnnviz_cli.run.rerun import conclude_if_done

        outcome = conclude_if_done(command, settings, sources, reporter, shard=part.shard)
        if outcome is not None:
            return outcome
    _say_what_loads(settings, sources, part, reporter)
    if settings.engine == "ray":
        from cnnviz_cli import cluster

        return cluster.execute(command, settings, sources, reporter, shard=part.shard, force=force)
    from cnnviz_cli import run

    with gc_disabled():
        execute = run.execute  # imports torch, which takes seconds
    return execute(command, settings, sources, reporter, shard=part.shard, force=force, local_rank=part.local_rank)


def describe_request(
    command: str, settings: Settings, sources: Sequence[Source], part: ShardChoice, reporter: Reporter
) -> DryRun:
    """What a run would do; raises what would end it."""
    _say_what_loads(settings, sources, part, reporter)
    from cnnviz_cli import run

    with gc_disabled():
        describe_run = run.describe_run
    return describe_run(command, settings, sources, reporter)


def _say_what_loads(settings: Settings, sources: Sequence[Source], part: ShardChoice, reporter: Reporter) -> None:
    from cnnviz_cli.cli.text_layout import count_noun

    weights = "" if settings.weights == "DEFAULT" else f" ({settings.weights})"
    if part.shard.label:
        reporter.say(f"shard {part.shard.index} of {part.shard.count} ({part.origin})")
    reporter.say(f"{count_noun(len(sources), 'image')}, {settings.model}{weights}: loading")
