"""features, saliency, deconv, gradcam, all: the commands that draw."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from cnnviz_cli.cli import completion
from cnnviz_cli.cli.flags import CONFIG, parameter, with_settings
from cnnviz_cli.cli.process import gc_disabled
from cnnviz_cli.cli.typer_base import AsJson, Command, Debug
from cnnviz_cli.config.names import SettingPath
from cnnviz_cli.core.errors import ExitCode, UsageError
from cnnviz_cli.core.method import ALL, FAMILIES, SELECTOR, find_method

if TYPE_CHECKING:
    from cnnviz_cli.cli.sharding import ShardChoice
    from cnnviz_cli.config.settings import Settings
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.files.inputs.search import Source
    from cnnviz_cli.files.output.shards import Shard
    from cnnviz_cli.run import Outcome

_OTHERS = [
    parameter(
        "images",
        Annotated[
            list[str] | None,
            typer.Argument(
                metavar="IMAGE",
                help="Pictures, folders, zip and tar archives of pictures, patterns in quotes ('in/**/*.jpg'), "
                "and URLs (s3://bucket/folder/).",
                show_default=False,
            ),
        ],
        None,
    ),
    CONFIG,
    parameter(
        "quiet",
        Annotated[
            bool, typer.Option("--quiet", "-q", metavar="", help="Say nothing but warnings.", show_default=False)
        ],
        False,
    ),
    parameter("as_json", AsJson, False),
    parameter(
        "dry_run",
        Annotated[
            bool,
            typer.Option(
                "--dry-run",
                metavar="",
                help="Say what would be read, computed and written; write nothing.",
                show_default=False,
            ),
        ],
        False,
    ),
    parameter(
        "force",
        Annotated[
            bool,
            typer.Option(
                "--force",
                metavar="",
                help="Do everything again, also what an earlier run has done.",
                rich_help_panel="Output",
                show_default=False,
            ),
        ],
        False,
    ),
    parameter(
        "shard",
        Annotated[
            str,
            typer.Option(
                "--shard",
                metavar="I/N|auto|none",
                help="Do every N-th batch of the list, from number I (counted from 0) on; auto asks torchrun, "
                "Slurm and Kubernetes. (default auto)",
                rich_help_panel="Input",
                show_default=False,
            ),
        ],
        "auto",
    ),
    parameter("debug", Debug, False),
]

_METHOD = parameter(
    "method",
    Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="Methods of any family, each in the place of its family's default; all is every method there is. "
            "Repeatable, or with commas.",
            rich_help_panel="What to explain",
            show_default=False,
            autocompletion=completion.complete_methods,
        ),
    ],
    None,
)
"""Of the command that runs every family, where a family's own flag carries its name."""


def build(command: str, summary: str) -> Any:
    """The command, ready for a group of Typer's."""
    alone = typer.Typer(add_completion=False)
    body = partial(_run, command)
    others = _OTHERS if command in FAMILIES else [*_OTHERS, _METHOD]
    alone.command(command, cls=Command, help=summary)(with_settings(command, body, others))
    return get_command(alone)


def _family_of(name: str) -> str:
    try:
        return find_method(name).family
    except UsageError as error:
        error.where = "--method"
        raise


def _with_methods(flags: Mapping[SettingPath, Any], given: Sequence[str]) -> dict[SettingPath, Any]:
    """The flags, with each method named in `given` among those of its family, and all of them among those of each.

    Raises:
        UsageError: there is no such method.
    """
    chosen: dict[SettingPath, Any] = {}
    for name in (part.strip() for word in given for part in word.split(",")):
        for family in FAMILIES if name == ALL else [_family_of(name)]:
            chosen.setdefault((family, SELECTOR), []).append(name)
    return {**flags, **{path: [*(flags.get(path) or []), *names] for path, names in chosen.items()}}


def _run(command: str, flags: Mapping[SettingPath, Any], given: Mapping[str, Any]) -> int:
    # Not at the top, since --help needs none of it and is to appear at once.
    from cnnviz_cli.cli.console import make_reporter
    from cnnviz_cli.cli.preflight import check_request
    from cnnviz_cli.cli.printing import count_noun, print_dry_run
    from cnnviz_cli.cli.sharding import choose_shard
    from cnnviz_cli.config.load import load_with_origins
    from cnnviz_cli.files.inputs.search import find_images as find_sources

    flags = _with_methods(flags, given.get("method") or [])
    loaded = load_with_origins(command, flags, given["config"], os.environ)
    check_request(loaded)
    if not given["images"] and loaded.settings.files_from is None:
        fix = f"Name pictures, folders or archives, or a list of them: --files-from FILE\nSee: cnnviz {command} --help"
        raise UsageError("no picture was named", fix=fix)
    part = choose_shard(given["shard"], os.environ)
    settings = loaded.settings
    try:
        sources = find_sources(
            given["images"] or [],
            recursive=settings.recursive,
            output=settings.output,
            files_from=settings.files_from,
            include=settings.include,
            exclude=settings.exclude,
        )
    except UsageError as error:
        from cnnviz_cli.cli.hints import suggest_for_missing_image

        error.fix = (
            suggest_for_missing_image(error.where, [str(image) for image in given["images"] or []], settings)
            or error.fix
        )
        raise
    if ("output",) not in loaded.origins:
        settings = _with_output_folder(command, settings, sources, part.shard)
    listener = make_reporter(quiet=given["quiet"])
    force = given["force"] and not part.restarted
    # What looks into folders takes longer to import than an empty one is to be seen, and a word is due before that.
    if not (force or given["dry_run"]) and os.path.lexists(settings.output / part.shard.journal):
        from cnnviz_cli.run.lifecycle import conclude_if_done

        outcome = conclude_if_done(command, settings, sources, listener, shard=part.shard)
        if outcome is not None:
            return _report_outcome(outcome, settings, part, listener, given)
    weights = "" if settings.weights == "DEFAULT" else f" ({settings.weights})"
    if part.shard.label:
        listener.say(f"shard {part.shard.index} of {part.shard.count} ({part.origin})")
    listener.say(f"{count_noun(len(sources), 'image')}, {settings.model}{weights}: loading")

    from cnnviz_cli import run

    if given["dry_run"]:
        with gc_disabled():
            describe_run = run.describe_run  # imports torch, which takes seconds
        found = describe_run(command, settings, sources, listener)
        print_dry_run(found, settings.output, as_json=given["as_json"])
        return ExitCode.OK
    if settings.engine == "ray":
        from cnnviz_cli import cluster

        outcome = cluster.execute(command, settings, sources, listener, shard=part.shard, force=force)
    else:
        with gc_disabled():
            execute = run.execute
        outcome = execute(
            command, settings, sources, listener, shard=part.shard, force=force, local_rank=part.local_rank
        )
    return _report_outcome(outcome, settings, part, listener, given)


def _with_output_folder(command: str, settings: Settings, sources: Sequence[Source], shard: Shard) -> Settings:
    """The settings with the folder that is written to where none was named."""
    first = settings.output / command
    if not os.path.lexists(first):
        return settings.model_copy(update={"output": first})
    from cnnviz_cli.files.output.previous_runs import choose_output_folder
    from cnnviz_cli.run.identity import request_digest

    names = [source.name for source in sources]
    folder = choose_output_folder(settings.output, command, request_digest(command, settings), names, shard)
    return settings.model_copy(update={"output": folder})


def _report_outcome(
    outcome: Outcome, settings: Settings, part: ShardChoice, listener: Reporter, given: Mapping[str, Any]
) -> int:
    """Print what came of a run, and return the exit code."""
    from cnnviz_cli.cli.printing import print_outcome
    from cnnviz_cli.cli.sharding import exit_code

    if given["as_json"] or not given["quiet"]:
        print_outcome(outcome, settings.output, as_json=given["as_json"])
    return exit_code(outcome, part, listener)
