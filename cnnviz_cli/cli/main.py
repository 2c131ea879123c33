"""The process: streams and signals before a command, and after it an exit code for whatever became of it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from typer import Abort, TyperException

from cnnviz_cli.cli.hints import commands_with, option_of_judging
from cnnviz_cli.cli.json_output import print_errors, reserve_stdout
from cnnviz_cli.cli.process import gc_disabled, handle_signals, safe_streams
from cnnviz_cli.cli.this_command import remember_command, waits_for_shards
from cnnviz_cli.core.errors import CnnvizError, ExitCode, Terminated, UsageError
from cnnviz_cli.core.network import network_error
from cnnviz_cli.core.process import environment_error
from cnnviz_cli.core.text import closest, escape_text

_debug = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cnnviz and return the exit code; `arguments` are those after the program's name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with safe_streams(), reserve_stdout(given):
        return _run_with_exit_code(lambda: _run_command(given))


def _run_command(arguments: list[str]) -> int | None:
    with handle_signals():
        with gc_disabled():
            from typer.main import get_command

            from cnnviz_cli.cli.app import app

            remember_command(arguments)
            command = get_command(app)
        result: int | None = command.main(arguments, prog_name="cnnviz", standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk is still an error like any other
        return result


def set_debug(wanted: bool) -> bool:
    """Ask for the traceback of a bug, as ``--debug`` does."""
    global _debug  # noqa: PLW0603  (the boundary stands outside of every command, and is to know even so)
    _debug = _debug or wanted
    return wanted


def _run_with_exit_code(work: Callable[[], int | None]) -> int:
    errors: Sequence[CnnvizError] = ()
    try:
        code = work() or 0
    except CnnvizError as error:
        code, errors = error.code, getattr(error, "problems", (error,))
    except TyperException as error:
        code, errors = ExitCode.USAGE, _usage_errors(error)
    except (KeyboardInterrupt, Abort):
        code = ExitCode.INTERRUPTED
    except Terminated:
        code = ExitCode.TERMINATED
    except Exception as error:
        errors = [network_error(error) or environment_error(error) or _bug(error)]
        code = errors[0].code
    for problem in errors:
        _show_error(problem)
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED) and not waits_for_shards():
        _print(ExitCode(code).name.lower())
    if code:
        print_errors(errors, code)
    return code


def _show_error(error: CnnvizError) -> None:
    where = f"{error.where}: " if error.where else ""
    _print(f"error: {escape_text(where + error.what)}")
    for line in [*error.excerpt.splitlines(), *(f"  {line}" for line in error.fix.splitlines())]:
        _print(escape_text(line))


def _usage_errors(error: TyperException) -> list[CnnvizError]:
    context: Any = getattr(error, "ctx", None)
    message, fix = error.format_message().replace(": Value error, ", ": "), ""  # pydantic's word for it
    if not message:
        return []  # a group of commands without one of them: Typer has printed its help
    option = getattr(error, "option_name", "")
    if context is not None and hasattr(error, "possibilities"):
        message = f"{context.command_path} has no option {option}"
        known = [name for p in context.command.get_params(context) for name in (*p.opts, *p.secondary_opts)]
        near = closest(option.lstrip("-"), [name.removeprefix("--") for name in known if name.startswith("--")])
        fix = f"Did you mean {' or '.join(f'--{name}' for name in near)}?" if near else ""
        if not any(name.endswith(option.lstrip("-")) for name in near):
            fix = commands_with(option) or fix
        if "--evaluate" in known:
            fix = option_of_judging(option) or fix
        if hasattr(context.command, "commands") and not near:
            fix = f"Options follow a command: {context.command_path} gradcam IMAGE {escape_text(option)} ..."
    see = f"See: {context.command_path} --help" if context is not None else ""
    return [UsageError(message, fix="\n".join(filter(None, (fix, see))))]


def _bug(error: Exception) -> CnnvizError:
    asked = _debug or os.environ.get("CNNVIZ_DEBUG", "") not in ("", "0")
    if asked:
        traceback.print_exception(error)
    what = f"this is a bug in cnnviz: {type(error).__name__}: {escape_text(str(error), 300)}"
    fix = "" if asked else "Please report it with the traceback: run it again with CNNVIZ_DEBUG=1."
    return CnnvizError(what, fix=fix)


def _print(line: str) -> None:
    print(line, file=sys.stderr)
