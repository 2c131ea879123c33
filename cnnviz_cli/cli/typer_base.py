"""What all commands are made of: commands and groups with plain help, and the flags that most of them have."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cnnviz_cli.cli.main import set_debug
from cnnviz_cli.cli.text_layout import Row, list_definitions, wrap_paragraphs
from cnnviz_cli.core.errors import ExitCode, UsageError

_WIDEST = 100
_NARROW = 60
_NAMES = 30

Debug = Annotated[
    bool, typer.Option("--debug", callback=set_debug, help="Print the traceback of a bug (CNNVIZ_DEBUG).")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


class Command(TyperCommand):
    """A command whose help is plain."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        params = self.get_params(ctx)
        _skip_conversion(params)
        _refuse_single_dash(args, {name for param in params for name in (*param.opts, *param.secondary_opts)})
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        return _help_page(self, ctx)


class Group(TyperGroup):
    """A group of commands whose help is plain."""

    def get_help(self, ctx: Any) -> str:
        return _help_page(self, ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # a mistake, and the page says which commands there are
            print(self.get_help(ctx))
            ctx.exit(ExitCode.USAGE)
        _skip_conversion(self.get_params(ctx))
        return super().parse_args(ctx, args)


def build_command(name: str, body: Callable[..., int | None], summary: str | None = None) -> Any:
    """A command for a group of Typer's; without a summary, the docstring of `body` is its help."""
    alone = typer.Typer(add_completion=False)
    alone.command(name, cls=Command, help=summary)(body)
    return get_command(alone)


def _skip_conversion(params: Iterable[Any]) -> None:
    """Let parameters that are not given pass as they are: the validators that Typer makes of them import pydantic."""
    for param in params:
        param.process_value = partial(_process, param, param.process_value)


def _process(param: Any, convert: Any, context: Any, value: Any) -> Any:
    if value is not None or param.required:
        return convert(context, value)
    none = () if param.multiple or param.nargs == -1 else None
    return none if param.callback is None else param.callback(context, param, none)


def _refuse_single_dash(args: Sequence[str], names: Collection[str]) -> None:
    """Refuse ``-output DIR``, which would be ``-o utput`` and an image DIR."""
    for word in takewhile(lambda word: word != "--", args):
        name = word.split("=", 1)[0]
        if not name.startswith("--") and len(name) > 2 and f"-{name}" in names:
            raise UsageError(f"{name} has one dash, and a long flag has two", fix=f"Did you mean -{name}?")


def _help_page(command: Any, ctx: Any) -> str:
    width = min(shutil.get_terminal_size().columns, _WIDEST) - 1
    shown = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    commands: dict[str, Any] = getattr(command, "commands", {})

    in_usage = [_argument(param) if param.required else f"[{_argument(param)}]" for param in arguments]
    usage = ["Usage:", ctx.command_path, "[OPTIONS]", *in_usage, *(["COMMAND ..."] if commands else [])]
    parts = [wrap_paragraphs(" ".join(usage), width, "       "), wrap_paragraphs(command.help, width)]
    sections: dict[str, list[Row]] = {}
    for name, one in commands.items():
        sections.setdefault(one.rich_help_panel or "Commands", []).append((name, one.help.split("\n\n")[0]))
    for param in arguments:
        sections.setdefault("Arguments", []).append((_argument(param), param.help or ""))
    options = [param for param in shown if param.param_type_name == "option"]
    # Those of a panel of their own first: what every command has is what one looks for last.
    for param in sorted(options, key=lambda param: not param.rich_help_panel):
        sections.setdefault(param.rich_help_panel or "Other", []).append((_option(param), param.help or ""))
    longest = max(len(name) for rows in sections.values() for name, _ in rows)
    indent = 8 if width < _NARROW else min(longest, _NAMES) + 4
    parts += [
        f"{wrap_paragraphs(f'{title}:', width)}\n{list_definitions(rows, width, indent)}"
        for title, rows in sections.items()
    ]
    if command.epilog:
        parts.append(wrap_paragraphs(command.epilog, width))
    return "\n\n".join(parts)


def _argument(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return f"{name}..." if param.nargs == -1 else name


def _option(param: Any) -> str:
    """``-r, --[no-]recursive`` or ``-o, --output DIR``."""
    long, *short = sorted(param.opts, key=len, reverse=True)
    if param.secondary_opts:
        long = f"--[no-]{long[2:]}"
    names = ", ".join([*short, long]) if short else f"    {long}"
    return names if param.is_flag or not param.metavar else f"{names} {param.metavar}"
