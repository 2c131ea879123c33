"""Which shard of the images this process does, by the command line or the variables of the launcher."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnviz_cli.cli.this_command import remembered_words, wait_for_shards
from cnnviz_cli.core.errors import ExitCode, UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard

if TYPE_CHECKING:
    from cnnviz_cli.core.errors import MissingShardsError
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.run import Outcome

_EXPLICIT = "Set it yourself: --shard I/N, or --shard none to do all images here."


@dataclass(frozen=True)
class ShardChoice:
    """The shard of one process, and the flag or the variables that chose it.

    Attributes:
        local_rank: the process's number on this machine, if torchrun started it.
        by_torchrun: whether torchrun restarts every process when one fails.
        restarted: whether it did so already.
    """

    shard: Shard
    origin: str = ""
    local_rank: int | None = None
    by_torchrun: bool = False
    restarted: bool = False


def choose_shard(word: str, environ: Mapping[str, str]) -> ShardChoice:
    """The shard that ``--shard`` names, else torchrun, Slurm or Kubernetes; raises UsageError for half of one."""
    by_torchrun = "TORCHELASTIC_RUN_ID" in environ
    local_rank = _number(environ, "LOCAL_RANK") if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environ.keys() else None
    restarted = by_torchrun and environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    shard, origin = _from_flag(word) if word != "auto" else _from_environment(environ)
    return ShardChoice(shard, origin, local_rank, by_torchrun, restarted)


def exit_code(outcome: Outcome, part: ShardChoice, reporter: Reporter) -> int:
    """The process's exit code.

    torchrun takes any other than 0 for a crash and restarts all processes, which does not help an image that cannot be
    read. So it gets 0 for a run that ended by itself; the records say what failed, and ``cnnviz merge`` returns 3.
    """
    if outcome.missing is not None:
        for line in next_commands(outcome.missing, part.shard):
            reporter.warn(line)
        wait_for_shards()
        return ExitCode.INTERRUPTED
    if outcome.status == "interrupted":
        return ExitCode.TERMINATED if outcome.terminated else ExitCode.INTERRUPTED
    if outcome.status == "ok":
        return ExitCode.OK
    if part.by_torchrun:
        unseen = outcome.findings.unseen if outcome.findings else None
        failed = outcome.summary.failed or (unseen.unseen if unseen else 0)
        reporter.warn(f"{failed} failed; the exit code is 0 all the same, or torchrun would restart every process")
        return ExitCode.OK
    return ExitCode.PARTIAL


def next_commands(missing: MissingShardsError, shard: Shard) -> list[str]:
    """What is to be run before this shard can go on, and then this one again."""
    first, *others = missing.missing
    lines = [f"next: {_command_of(Shard(first, shard.count), force=first in missing.again)}"]
    if others:
        lines[0] += f", and the same for {', '.join(f'{index}/{shard.count}' for index in others)}"
    return [*lines, f"then: {_command_of(shard, force=False)}"]


def _command_of(shard: Shard, *, force: bool) -> str:
    """This process's command, for another shard."""
    words, options = remembered_words(), [*(["--force"] if force else []), "--shard", f"{shard.index}/{shard.count}"]
    end = words.index("--") if "--" in words else len(words)
    kept: list[str] = []
    for at, word in enumerate(words[:end]):
        value_of_shard = at > 0 and words[at - 1] == "--shard"
        if not (value_of_shard or word in ("--shard", "--force") or word.startswith("--shard=")):
            kept.append(word)
    return shlex.join(["cnnviz", *kept, *options, *words[end:]])


def _from_flag(word: str) -> tuple[Shard, str]:
    if word == "none":
        return SINGLE_SHARD, "--shard"
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", word)
    if not found:
        fix = "Write I/N with I from 0 to N-1, for instance 0/8; auto, or none."
        raise UsageError(f"'{escape_text(word, 60)}' is not a shard", where="--shard", fix=fix)
    return _shard(int(found[1]), int(found[2]), "--shard"), "--shard"


def _from_environment(environ: Mapping[str, str]) -> tuple[Shard, str]:
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return _shard(_number(environ, "RANK"), _number(environ, "WORLD_SIZE"), "RANK"), "RANK and WORLD_SIZE"
    if "SLURM_ARRAY_TASK_ID" in environ:
        return _from_slurm(environ), "SLURM_ARRAY_TASK_ID"
    name = "JOB_COMPLETION_INDEX"
    if name in environ:
        if "JOB_COMPLETION_COUNT" not in environ:
            use = f"--shard ${name}/N, or --shard none to do all images here."
            fix = f"Set JOB_COMPLETION_COUNT to the job's number of completions, or use {use}"
            what = "Kubernetes gives the index of this shard, but not the number of shards"
            raise UsageError(what, where=name, fix=fix)
        return _shard(_number(environ, name), _number(environ, "JOB_COMPLETION_COUNT"), name), name
    return SINGLE_SHARD, ""


def _from_slurm(environ: Mapping[str, str]) -> Shard:
    """The task of an array, which may start at any number and have any step.

    If the steps differ, a task may not notice, but then another does, and stops.
    """
    name = "SLURM_ARRAY_TASK_ID"
    task, first, count = (_number(environ, f"SLURM_ARRAY_TASK_{part}") for part in ("ID", "MIN", "COUNT"))
    last = _number(environ, "SLURM_ARRAY_TASK_MAX") if "SLURM_ARRAY_TASK_MAX" in environ else None
    step = _number(environ, "SLURM_ARRAY_TASK_STEP") if "SLURM_ARRAY_TASK_STEP" in environ else 1
    if last is not None and count > 1 and (last - first) % (count - 1) == 0:
        step = (last - first) // (count - 1)  # Slurm says 1 for a list that has other steps
    regular = step > 0 and (last is None or first + step * (count - 1) == last) and (task - first) % step == 0
    if not regular:
        raise UsageError("the task numbers of this array are not evenly spaced", where=name, fix=_EXPLICIT)
    return _shard((task - first) // step, count, name)


def _shard(index: int, count: int, where: str) -> Shard:
    try:
        return Shard(index, count)
    except ValueError as error:
        raise UsageError(str(error), where=where, fix=f"Shards count from 0 to N-1. {_EXPLICIT}") from error


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"not a number: '{escape_text(text, 60)}'", where=name, fix=_EXPLICIT)
    return int(text)
