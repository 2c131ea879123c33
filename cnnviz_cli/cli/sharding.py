"""Which part of the pictures this process does, as the command line or whoever started it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnviz_cli.core.errors import ExitCode, UsageError
from cnnviz_cli.core.text import visible
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard

if TYPE_CHECKING:
    from cnnviz_cli.core.report import Reporter
    from cnnviz_cli.run import Outcome

_EXPLICIT = "Set it yourself: --shard I/N, or --shard none to do all images here."


@dataclass(frozen=True)
class ShardChoice:
    """One process's part.

    Attributes:
        origin: who said so.
        local_rank: its number on this machine, if torchrun started it.
        by_torchrun: whether torchrun watches over it, and starts every process again when one fails.
        restarted: whether it did so already.
    """

    shard: Shard
    origin: str = ""
    local_rank: int | None = None
    by_torchrun: bool = False
    restarted: bool = False


def choose_shard(word: str, environ: Mapping[str, str]) -> ShardChoice:
    """The part that ``--shard`` and the environment give: a pair of numbers, else torchrun, Slurm, Kubernetes.

    Raises:
        UsageError: it is no part, or the environment says only half of it.
    """
    by_torchrun = "TORCHELASTIC_RUN_ID" in environ
    local_rank = _number(environ, "LOCAL_RANK") if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environ.keys() else None
    restarted = by_torchrun and environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    shard, origin = _from_flag(word) if word != "auto" else _from_environment(environ)
    return ShardChoice(shard, origin, local_rank, by_torchrun, restarted)


def exit_code(outcome: Outcome, part: ShardChoice, reporter: Reporter) -> int:
    """The process's exit code.

    torchrun takes any other than 0 for a crash and starts all processes again, which would do no good to a picture that
    cannot be read. So it gets 0 for a run that came to its end; the records say what failed, and ``cnnviz merge``
    returns 3.
    """
    if outcome.status == "interrupted":
        return ExitCode.TERMINATED if outcome.terminated else ExitCode.INTERRUPTED
    if outcome.status == "ok":
        return ExitCode.OK
    if part.by_torchrun:
        reporter.warn(
            f"{outcome.summary.failed} failed; the exit code is 0 all the same, or torchrun would restart every process"
        )
        return ExitCode.OK
    return ExitCode.PARTIAL


def _from_flag(word: str) -> tuple[Shard, str]:
    if word == "none":
        return SINGLE_SHARD, "--shard"
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", word)
    if not found:
        raise UsageError(
            f"'{visible(word, 60)}' is not a shard",
            where="--shard",
            fix="Write I/N with I from 0 to N-1, for instance 0/8; auto, or none.",
        )
    return _shard(int(found[1]), int(found[2]), "--shard"), "--shard"


def _from_environment(environ: Mapping[str, str]) -> tuple[Shard, str]:
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return _shard(_number(environ, "RANK"), _number(environ, "WORLD_SIZE"), "RANK"), "RANK and WORLD_SIZE"
    if "SLURM_ARRAY_TASK_ID" in environ:
        return _from_slurm(environ), "SLURM_ARRAY_TASK_ID"
    if "JOB_COMPLETION_INDEX" in environ:
        if "JOB_COMPLETION_COUNT" not in environ:
            raise UsageError(
                "Kubernetes gives the index of this shard, but not the number of shards",
                where="JOB_COMPLETION_INDEX",
                fix="Set JOB_COMPLETION_COUNT to the job's number of completions, or use "
                "--shard $JOB_COMPLETION_INDEX/N, or --shard none to do all images here.",
            )
        index, count = _number(environ, "JOB_COMPLETION_INDEX"), _number(environ, "JOB_COMPLETION_COUNT")
        return _shard(index, count, "JOB_COMPLETION_INDEX"), "JOB_COMPLETION_INDEX"
    return SINGLE_SHARD, ""


def _from_slurm(environ: Mapping[str, str]) -> Shard:
    """An array's task, whatever number its first one has, and in steps of whatever size.

    Of an array with gaps of different sizes a task may not see that it is one, but another then does, and stops.
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
        raise UsageError(f"not a number: '{visible(text, 60)}'", where=name, fix=_EXPLICIT)
    return int(text)
