"""The commands that carry out studies, from their command line to their exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.explain import HowToRun
from cnnviz_cli.cli.flags import Config, DryRunFlag, Flags, Force, Images, Quiet, ShardOption, with_settings
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.fields import ComputingFields, NetworkFields, OutputFields, PlaceFields
from cnnviz_cli.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cnnviz_cli.cli.sharding import ShardChoice
    from cnnviz_cli.config.load import LoadedSettings
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.run import Outcome

COMMON_SETTINGS = frozenset({
    *NetworkFields.model_fields, *(OutputFields.model_fields.keys() - {"unit"}), *PlaceFields.model_fields,
    *(ComputingFields.model_fields.keys() - {"compile", "max_memory", "engine", "replicas"}),
    "labels", "format", "width", "dpi", "report",
})  # fmt: skip
"""The common settings that every study has; the others are about maps over images. A study adds those it reads."""

Check = Callable[["LoadedSettings"], str]
"""Of checked settings, the name of the study to carry out; raises UsageError for what cannot be, without torch."""


def build_study(command: str, summary: str, check: Check, *, settings: Collection[str] = ()) -> Any:
    """The command of a study, with flags for its section, the common settings, and `settings` more of these."""
    body = with_settings(command, partial(_run, command, check), only=COMMON_SETTINGS | set(settings))
    return build_command(command, body, summary)


def _run(
    command: str,
    check: Check,
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
    how = HowToRun(quiet=quiet, as_json=as_json, dry_run=dry_run, force=force, shard=shard)
    return run_study_command(command, check, flags, images or [], config, how)


def run_study_command(
    command: str, check: Check, flags: Flags, images: Sequence[str], config: Path | None, how: HowToRun
) -> int:
    """A study from its command line to its exit code; raises what ends it."""
    from cnnviz_cli.cli.preflight import find_sources, load_request, with_output_folder
    from cnnviz_cli.cli.reporters import make_reporter
    from cnnviz_cli.cli.run_end import check_report, end_run
    from cnnviz_cli.cli.run_summary import print_outcome, print_study_plan
    from cnnviz_cli.cli.sharding import choose_shard

    loaded = load_request(command, flags, config)
    settings, study = loaded.settings, check(loaded)
    if not images and settings.files_from is None:
        fix = f"Name images, folders or archives, or a list of them: --files-from FILE\nSee: cnnviz {command} --help"
        raise UsageError("no images were given", fix=fix)
    part = choose_shard(how["shard"], os.environ)
    sources = find_sources(images, settings)
    if ("output",) not in loaded.origins:
        settings = with_output_folder(command, settings, sources, part.shard)
    reporter = make_reporter(quiet=how["quiet"])
    if how["dry_run"]:
        _say_what_loads(settings, sources, part, reporter)
        with gc_disabled():
            from cnnviz_cli.run.study import describe_study  # imports torch, which takes seconds
        print_study_plan(
            describe_study(study, command, settings, sources, reporter), settings.output, as_json=how["as_json"]
        )
        return ExitCode.OK
    check_report(settings, part)
    outcome = _carry_out(study, command, settings, sources, part, reporter, force=how["force"] and not part.restarted)
    return end_run(outcome, settings, images, part, reporter, print_outcome, as_json=how["as_json"], quiet=how["quiet"])


def _carry_out(
    study: str,
    command: str,
    settings: Settings,
    sources: Sequence[Source],
    part: ShardChoice,
    reporter: Reporter,
    *,
    force: bool,
) -> Outcome:
    if not force and os.path.lexists(settings.output / part.shard.journal):
        from cnnviz_cli.run.rerun import conclude_if_done

        outcome = conclude_if_done(command, settings, sources, reporter, shard=part.shard)
        if outcome is not None:
            return outcome
    _say_what_loads(settings, sources, part, reporter)
    with gc_disabled():
        from cnnviz_cli.run.study import execute_study  # imports torch, which takes seconds
    return execute_study(
        study, command, settings, sources, reporter, shard=part.shard, force=force, local_rank=part.local_rank
    )


def _say_what_loads(settings: Settings, sources: Sequence[Source], part: ShardChoice, reporter: Reporter) -> None:
    from cnnviz_cli.cli.text_layout import count_noun

    weights = "" if settings.weights == "DEFAULT" else f" ({settings.weights})"
    if part.shard.label:
        reporter.say(f"shard {part.shard.index} of {part.shard.count} ({part.origin})")
    reporter.say(f"{count_noun(len(sources), 'image')}, {settings.model}{weights}: loading")
