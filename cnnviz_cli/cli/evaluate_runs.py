"""evaluate, of finished runs: the maps that they have kept are judged, those of several in one table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cnnviz_cli.cli.explain import explaining, run_command
from cnnviz_cli.cli.flags import Flags
from cnnviz_cli.cli.running import HowToRun, describe_request, run_request
from cnnviz_cli.config.evaluate_fields import MAPS, QUICK, QUICK_METHODS
from cnnviz_cli.config.fields import NetworkFields, OutputFields, QuestionFields
from cnnviz_cli.config.names import SettingPath, flag_name
from cnnviz_cli.core.errors import ExitCode, UsageError
from cnnviz_cli.core.families import ALL, EVALUATE, FAMILIES, SELECTOR
from cnnviz_cli.core.method import find_method
from cnnviz_cli.core.text import escape_text, list_some
from cnnviz_cli.files.output.file_names import REPORT

if TYPE_CHECKING:
    from cnnviz_cli.cli.sharding import ShardChoice
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.run import Outcome
    from cnnviz_cli.run.finished_run import FinishedRun

_FREE = {"weights_mirror", "offline", "allow_code"}
FIXED = ({*NetworkFields.model_fields, *OutputFields.model_fields} - _FREE) | {"seed", "precision", "fold"}
"""Settings beside the question that decide what a map is."""


def finished_runs(images: Sequence[str]) -> list[str]:
    """Those of some names that are folders of runs, whose figures are no images to be explained.

    Raises:
        UsageError: a run has not come to its manifest.
    """
    from cnnviz_cli.files.output.file_names import MANIFEST, is_manifest, is_output_folder

    found = []
    for name in images:
        path = Path(name) / MANIFEST
        if path.is_file() and is_manifest(path):
            found.append(name)
        elif Path(name).is_dir() and not path.exists() and is_output_folder(Path(name)):
            raise UsageError(
                f"'{escape_text(name, 200)}' holds a run that has no manifest yet",
                where="IMAGE",
                fix="Run its command again, which does what is missing; shards are put together by: cnnviz merge OUT",
            )
    return found


def judge_finished_runs(
    flags: Flags,
    runs: Sequence[str],
    images: Sequence[str],
    methods: Sequence[str],
    config: Path | None,
    **how: Unpack[HowToRun],
) -> int:
    """Judge the maps of finished runs, from the command line to the exit code.

    Args:
        images: those that the runs explained; none where they lie as they were named.
        methods: some of the runs'; none for all.

    Raises:
        UsageError: a flag asks for something else than a run did, a run is not there or has none of the methods, or
            its images are not to be found.
    """
    from cnnviz_cli.run.finished_run import FinishedRun

    roots = list({os.path.realpath(name): name for name in runs}.values())
    found = [FinishedRun.read(Path(name)) for name in roots]
    methods = [one for name in methods for one in _expanded(name, found)]
    _refuse_unknown(found, methods)
    images = images or _images_here(found[0], flags)
    if len(found) == 1:
        chosen = with_finished_run(flags, found[0], methods, flags.get(("output",)))
        return run_command(EVALUATE, chosen, images, config, **how)
    return _judge_several(flags, found, images, methods, config, **how)


def with_finished_run(flags: Flags, run: FinishedRun, methods: Sequence[str], output: Any = None) -> Flags:
    """The flags of a command that judges the maps of a finished run: what was explained, and how, says its manifest.

    Args:
        methods: some of the run's; none for all.
        output: the folder of the results, if one is named.

    Raises:
        UsageError: a flag asks for something else than the run did, or the run has none of the methods.
    """
    shown = escape_text(str(run.root), 200)
    asked = _of_methods(run, methods)
    for path in flags:
        # What says where, how fast and how it looks is free, and so is what judges.
        given = flags[path]
        same = path in asked and isinstance(given, str) and Path(given).name == asked[path]  # of a file its name
        if not same and (path[0] in FAMILIES or path[0] in (*QuestionFields.model_fields, *FIXED)):
            raise UsageError(
                f"what is explained is what '{shown}' explained, and this asks for something else",
                where=flag_name(path, EVALUATE),
                fix="Leave it out, or judge maps as they are made: cnnviz evaluate IMAGES --method METHOD",
            )
    if output and Path(output).resolve() == run.root.resolve():
        raise UsageError(
            f"'{shown}' is the run whose maps are judged, and its figures would be replaced",
            where="--output",
            fix="Name another folder.",
        )
    return {**asked, **flags, (EVALUATE, MAPS): str(run.root)}


def _of_methods(run: FinishedRun, names: Sequence[str]) -> dict[SettingPath, Any]:
    """What a run asked, of some of its methods alone, with the options that these read."""
    asked = run.flags
    if not names or ALL in names:
        return asked
    chosen = [find_method(name) for family in FAMILIES for name in run.methods_of(family) if name in names]
    if not chosen:
        raise _no_such_maps(run, names)
    read = {(one.family, item.name) for one in chosen for item in fields(one.options)}
    kept = {path: value for path, value in asked.items() if path[0] not in FAMILIES or path in read}
    return kept | {(family, SELECTOR): [one.name for one in chosen if one.family == family] for family in FAMILIES}


def _expanded(name: str, runs: Sequence[FinishedRun]) -> Sequence[str]:
    """A name, or of the quick methods those that the runs have."""
    known = {one for run in runs for family in FAMILIES for one in run.methods_of(family)}
    return [one for one in QUICK_METHODS if one in known] if name == QUICK and known & set(QUICK_METHODS) else [name]


def _refuse_unknown(runs: Sequence[FinishedRun], names: Sequence[str]) -> None:
    """Raise UsageError for a method that no run has."""
    known = {name for run in runs for family in FAMILIES for name in run.methods_of(family)}
    for name in names:
        if name != ALL and name not in known:
            raise _no_such_maps(runs[0], [name])


def _no_such_maps(run: FinishedRun, names: Sequence[str]) -> UsageError:
    there = ", ".join(name for family in FAMILIES for name in run.methods_of(family))
    asked = ", ".join(escape_text(name, 60) for name in names)
    return UsageError(
        f"'{escape_text(str(run.root), 200)}' has no maps of {asked}",
        where="--method",
        fix=f"It has those of: {there}. Maps of other methods are judged as they are made: cnnviz evaluate IMAGES "
        f"--method METHOD",
    )


def _images_here(run: FinishedRun, flags: Flags) -> list[str]:
    """The images of a run by the names that it has for them, if they lie in the working folder."""
    if flags.get(("files_from",)):
        return []
    shown = escape_text(str(run.root), 200)
    names = [one.source for one in run.images.values()]
    gone = [name for name in names if not Path(name).is_file()]
    if gone:
        raise UsageError(
            f"'{shown}' holds maps, and the images that it explained are needed to judge them; not in the working "
            f"folder: {list_some([escape_text(name, 100) for name in gone], 3)}",
            where="IMAGE",
            fix=f"Say where they lie: cnnviz evaluate {shown} --images DIR",
        )
    return names


def _judge_several(
    flags: Flags,
    runs: Sequence[FinishedRun],
    images: Sequence[str],
    methods: Sequence[str],
    config: Path | None,
    **how: Unpack[HowToRun],
) -> int:
    """Each run is judged under its own network, to a folder of its own; then all of them come into one table."""
    from cnnviz_cli.cli.preflight import find_sources, load_request, with_joined_folder
    from cnnviz_cli.cli.reporters import make_reporter
    from cnnviz_cli.cli.run_end import check_report
    from cnnviz_cli.cli.run_summary import print_dry_runs
    from cnnviz_cli.cli.sharding import choose_shard
    from cnnviz_cli.run.joined_runs import refuse_joined_in_the_way, run_names

    kind = explaining(EVALUATE)
    part, reporter = choose_shard(how["shard"], os.environ), make_reporter(quiet=how["quiet"])
    names = run_names([one.root for one in runs])
    loaded = [load_request(EVALUATE, with_finished_run(flags, one, methods), config) for one in runs]
    first = loaded[0].settings
    sources = find_sources(images, first)
    several = dict(zip(names, [one.settings for one in loaded], strict=True))
    output = first.output
    if ("output",) not in loaded[0].origins:
        output = with_joined_folder(EVALUATE, several, sources, part.shard)
    for name, run in zip(names, runs, strict=True):
        with_finished_run({}, run, (), output / name)
    several = {name: one.model_copy(update={"output": output / name}) for name, one in several.items()}
    if how["dry_run"]:
        plans = {name: describe_request(kind, one, sources, part, reporter) for name, one in several.items()}
        print_dry_runs(plans, output, as_json=how["as_json"])
        return ExitCode.OK
    refuse_joined_in_the_way(output, first.format)
    check_report(first.model_copy(update={"output": output}), part)
    outcomes: dict[str, Outcome] = {}
    for name, one in several.items():
        reporter.say(f"{escape_text(name, 100)}, one of {len(several)} runs:")
        outcomes[name] = run_request(kind, one, sources, part, reporter, force=how["force"])
        if outcomes[name].status == "interrupted":
            break
    return _join(several, outcomes, output, images, part, reporter, quiet=how["quiet"], as_json=how["as_json"])


def _join(
    several: Mapping[str, Settings],
    outcomes: Mapping[str, Outcome],
    output: Path,
    images: Sequence[str],
    part: ShardChoice,
    reporter: Reporter,
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    """Put the runs into one table and one report, if all of them are done, and say what came of it."""
    from cnnviz_cli.cli.run_end import photographs_of, write_page
    from cnnviz_cli.cli.run_summary import print_joined
    from cnnviz_cli.cli.sharding import exit_code
    from cnnviz_cli.run.joined_runs import join_runs

    code = max(exit_code(outcome, part, reporter) for outcome in outcomes.values())
    joined = None
    if part.shard.label:
        reporter.say("once all shards are done and merged, the same command with --shard none puts the runs together")
    elif all(outcome.status != "interrupted" for outcome in outcomes.values()):
        joined = join_runs(output, {name: one.output for name, one in several.items()})
        if joined.left_out:
            shown = list_some([f"{escape_text(one.source, 100)} ({', '.join(one.missing)})" for one in joined.first], 3)
            images = "1 image has" if joined.left_out == 1 else f"{joined.left_out} images have"
            reporter.warn(f"{images} no judged maps of every run, and count for none of them in the table: {shown}")
    page = None
    if joined and any(one.report for one in several.values()):
        folders = [one.output for one in several.values()]
        page = write_page(folders, photographs_of(images, output), reporter, output / REPORT)
    if as_json or not quiet:
        print_joined(joined, outcomes, output, page, as_json=as_json)
    return code
