"""The one JSON object that a command prints under ``--json``, whatever becomes of the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from cnnviz_cli.core.errors import CnnvizError, ExitCode

_NOT_ANSWERED = ("--help", "-h", "--version")


class _Answer:
    """What the process owes to standard output: nothing until `--json` was given."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        self.warnings: list[str] = []


_answer = _Answer()


@contextmanager
def reserve_stdout(arguments: Sequence[str]) -> Iterator[None]:
    """Inside the block, standard output is for the one object, if `arguments` ask for it.

    Whatever else is printed, by a network of the user's for instance, goes to standard error.
    """
    before = sys.stdout
    given = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    _answer.stream, _answer.warnings = None, []
    if "--json" in given and not any(word in given for word in _NOT_ANSWERED):
        _answer.stream, sys.stdout = before, sys.stderr
    try:
        yield
    finally:
        sys.stdout, _answer.stream = before, None


def add_warning(text: str) -> None:
    _answer.warnings.append(text)


def print_json(value: Mapping[str, Any], *, bare: bool = False) -> None:
    """Answer, with the warnings so far; `bare` is for a document that is printed as it is."""
    if not bare:
        value = {**value, "warnings": [*_answer.warnings]}
    _print(value, _answer.stream or sys.stdout)
    _answer.stream = None


def print_errors(errors: Sequence[CnnvizError], code: int) -> None:
    """Answer with what went wrong, if an answer is owed still."""
    stream, _answer.stream = _answer.stream, None
    if stream is None:
        return
    told = [_error_record(error, code) for error in errors] or [_error_record(CnnvizError(_code_name(code)), code)]
    value: dict[str, Any] = {"error": told[0], "warnings": [*_answer.warnings]}
    if len(told) > 1:
        value["errors"] = told
    with suppress(Exception):  # it may be standard output itself that cannot be written
        _print(value, stream)


def _print(value: Mapping[str, Any], stream: TextIO) -> None:
    import json  # not before it is needed: start-up counts

    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False), file=stream, flush=True)


def _error_record(error: CnnvizError, code: int) -> dict[str, Any]:
    answer = {"code": _code_name(code), "what": error.what, "where": error.where, "fix": error.fix}
    return {**answer, "exit_code": int(code)}


def _code_name(code: int) -> str:
    return ExitCode(code).name.lower()
