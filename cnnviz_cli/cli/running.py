"""A run from its settings to its exit code: the sequence that all commands share, whatever their runs do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from cnnviz_cli.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cnnviz_cli.cli.run_end import Show
    from cnnviz_cli.cli.sharding import ShardChoice
    from cnnviz_cli.config.load import LoadedSettings
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.files.output.shards import Shard
    from cnnviz_cli.run import Outcome


class HowToRun(TypedDict):
    """What the flags of every command that draws say beside its settings; see there."""

    quiet: bool
    as_json: bool
    dry_run: bool
    force: bool
    shard: str


class Describe(Protocol):
    """What a run would do; raises what would end it."""

    def __call__(self, settings: Settings, sources: Sequence[Source], reporter: Reporter) -> Any: ...


class Execute(Protocol):
    """The run itself; raises what ends it."""

    def __call__(
        self,
        settings: Settings,
        sources: Sequence[Source],
        reporter: Reporter,
        *,
        shard: Shard,
        force: bool,
        local_rank: int | None,
    ) -> Outcome: ...


class ShowPlan(Protocol):
    """Prints what a run would do, as `describe` found it."""

    def __call__(self, found: Any, output: Path, *, as_json: bool) -> None: ...


@dataclass(frozen=True)
class RunKind:
    """What the runs of a command do. `describe` and `execute` import torch when they are called: it takes seconds.

    Attributes:
        on_cluster: whether the nodes of a Ray cluster can share its runs; `execute` refuses `--engine ray` otherwise.
    """

    command: str
    describe: Describe
    execute: Execute
    print_plan: ShowPlan
    print_outcome: Show
    on_cluster: bool = True


def require_images(command: str, images: Sequence[str], settings: Settings) -> None:
    """Raise UsageError where a command that needs images was given none."""
    if not images and settings.files_from is None:
        fix = f"Name images, folders or archives, or a list of them: --files-from FILE\nSee: cnnviz {command} --help"
        raise UsageError("no images were given", fix=fix)


def carry_out(
    kind: RunKind, loaded: LoadedSettings, images: Sequence[str], how: HowToRun, settings: Settings | None = None
) -> int:
    """A run from its checked settings to its exit code; raises what ends it.

    Args:
        images: the arguments that name them; with none, and no list of them, the run has no images.
        settings: in place of those that were loaded.
    """
    from cnnviz_cli.cli.preflight import find_sources, with_output_folder
    from cnnviz_cli.cli.reporters import make_reporter
    from cnnviz_cli.cli.run_end import check_report, end_run
    from cnnviz_cli.cli.sharding import choose_shard

    settings = settings or loaded.settings
    part = choose_shard(how["shard"], os.environ)
    sources = find_sources(images, settings) if images or settings.files_from is not None else []
    if ("output",) not in loaded.origins:
        settings = with_output_folder(kind.command, settings, sources, part.shard)
    reporter, as_json = make_reporter(quiet=how["quiet"]), how["as_json"]
    if how["dry_run"]:
        kind.print_plan(describe_request(kind, settings, sources, part, reporter), settings.output, as_json=as_json)
        return ExitCode.OK
    check_report(settings, part)
    outcome = run_request(kind, settings, sources, part, reporter, force=how["force"])
    return end_run(outcome, settings, images, part, reporter, kind.print_outcome, as_json=as_json, quiet=how["quiet"])


def run_request(
    kind: RunKind, settings: Settings, sources: Sequence[Source], part: ShardChoice, reporter: Reporter, *, force: bool
) -> Outcome:
    """A run whose settings are known; raises what ends it."""
    force = force and not part.restarted
    # What looks into folders takes longer to import than an empty one is to be seen, and a word is due before that.
    if not force and os.path.lexists(settings.output / part.shard.journal):
        from cnnviz_cli.run.rerun import conclude_if_done

        outcome = conclude_if_done(kind.command, settings, sources, reporter, shard=part.shard)
        if outcome is not None:
            return outcome
    _say_what_loads(settings, sources, part, reporter)
    if settings.engine == "ray" and kind.on_cluster:
        from cnnviz_cli import cluster

        return cluster.execute(kind.command, settings, sources, reporter, shard=part.shard, force=force)
    return kind.execute(settings, sources, reporter, shard=part.shard, force=force, local_rank=part.local_rank)


def describe_request(
    kind: RunKind, settings: Settings, sources: Sequence[Source], part: ShardChoice, reporter: Reporter
) -> Any:
    """What a run would do; raises what would end it."""
    _say_what_loads(settings, sources, part, reporter)
    return kind.describe(settings, sources, reporter)


def _say_what_loads(settings: Settings, sources: Sequence[Source], part: ShardChoice, reporter: Reporter) -> None:
    from cnnviz_cli.cli.text_layout import count_noun

    weights = "" if settings.weights == "DEFAULT" else f" ({settings.weights})"
    if part.shard.label:
        reporter.say(f"shard {part.shard.index} of {part.shard.count} ({part.origin})")
    what = count_noun(len(sources), "image") if sources else "from noise"
    reporter.say(f"{what}, {settings.model}{weights}: loading")
