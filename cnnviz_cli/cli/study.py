"""The commands that carry out studies, from their command line to their exit code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.flags import Config, DryRunFlag, Flags, Force, Images, Quiet, ShardOption, with_settings
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.running import HowToRun, RunKind, carry_out, require_images
from cnnviz_cli.cli.typer_base import AsJson, Debug, build_command
from cnnviz_cli.config.fields import ComputingFields, NetworkFields, OutputFields, PlaceFields

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.run import Outcome
    from cnnviz_cli.run.study import StudyPlan

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
    from cnnviz_cli.cli.preflight import load_request
    from cnnviz_cli.cli.run_summary import print_outcome, print_study_plan

    loaded = load_request(command, flags, config)
    study = check(loaded)
    require_images(command, images, loaded.settings)
    describe, execute = partial(_describe, study, command), partial(_execute, study, command)
    kind = RunKind(command, describe, execute, print_study_plan, print_outcome, on_cluster=False)
    return carry_out(kind, loaded, images, how)


def _describe(study: str, command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter) -> StudyPlan:
    with gc_disabled():
        from cnnviz_cli.run.study import describe_study
    return describe_study(study, command, settings, sources, reporter)


def _execute(
    study: str, command: str, settings: Settings, sources: Sequence[Source], reporter: Reporter, **place: Any
) -> Outcome:
    with gc_disabled():
        from cnnviz_cli.run.study import execute_study
    return execute_study(study, command, settings, sources, reporter, **place)
