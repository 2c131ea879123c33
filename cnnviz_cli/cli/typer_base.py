"""What commands have in common: groups and commands with plain help, and shared parameters."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import takewhile
from textwrap import fill
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cnnviz_cli.cli import errors
from cnnviz_cli.core.errors import ExitCode, UsageError

Row = tuple[str, str]

_WIDEST = 100
_NARROW = 60
_NAMES = 30


class Command(TyperCommand):
    """A command whose help is plain."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        params = self.get_params(ctx)
        _skip_conversion(params)
        _refuse_single_dash(args, {name for param in params for name in (*param.opts, *param.secondary_opts)})
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        return _page(self, ctx)


class Group(TyperGroup):
    """A group of commands whose help is plain."""

    def get_help(self, ctx: Any) -> str:
        return _page(self, ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # nothing was asked for: a mistake, and the page says what there is
            print(self.get_help(ctx))
            ctx.exit(ExitCode.USAGE)
        _skip_conversion(self.get_params(ctx))
        return super().parse_args(ctx, args)


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
    """Refuse ``-output DIR``, which would be ``-o utput`` and a picture DIR.

    Raises:
        UsageError: a long flag has one dash.
    """
    for word in takewhile(lambda word: word != "--", args):
        name = word.split("=", 1)[0]
        if not name.startswith("--") and len(name) > 2 and f"-{name}" in names:
            raise UsageError(f"{name} has one dash, and a long flag has two", fix=f"Did you mean -{name}?")


def _page(command: Any, ctx: Any) -> str:
    width = min(shutil.get_terminal_size().columns, _WIDEST) - 1
    shown = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    commands: dict[str, Any] = getattr(command, "commands", {})

    usage = [
        "Usage:",
        ctx.command_path,
        "[OPTIONS]",
        *map(_in_usage, arguments),
        *(["COMMAND ..."] if commands else []),
    ]
    parts = [wrapped(" ".join(usage), width, "       "), wrapped(command.help, width)]
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
    parts += [f"{wrapped(f'{title}:', width)}\n{definitions(rows, width, indent)}" for title, rows in sections.items()]
    if command.epilog:
        parts.append(wrapped(command.epilog, width))
    return "\n\n".join(parts)


def _argument(param: Any) -> str:
    name = param.metavar or param.name.upper()
    return f"{name}..." if param.nargs == -1 else name


def _in_usage(param: Any) -> str:
    return _argument(param) if param.required else f"[{_argument(param)}]"


def _option(param: Any) -> str:
    """``-r, --[no-]recursive`` or ``-o, --output DIR``."""
    long, *short = sorted(param.opts, key=len, reverse=True)
    if param.secondary_opts:
        long = f"--[no-]{long[2:]}"
    names = ", ".join([*short, long]) if short else f"    {long}"
    return names if param.is_flag or not param.metavar else f"{names} {param.metavar}"


def definitions(rows: Iterable[Row], width: int, indent: int) -> str:
    """Names on the left and sentences on the right, or below where a name is too long for that."""
    lines = []
    for name, text in rows:
        head = f"  {name}"
        if len(head) + 2 > indent:
            lines.append(head)
            head = ""
        lines.append(wrapped(text, width, " " * indent, first=head.ljust(indent)))
    return "\n".join(lines)


def wrapped(text: str | None, width: int, indent: str = "", first: str = "") -> str:
    """Each paragraph of `text` within `width`; nothing is broken inside a word, which may be a flag or a variable."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(
        fill(
            " ".join(part.split()),
            width,
            initial_indent=first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for part in paragraphs
    )


Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        metavar="",
        callback=errors.set_debug,
        help="Print the traceback of a bug (CNNVIZ_DEBUG).",
        show_default=False,
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", metavar="", help="Let a network that is code run.", show_default=False),
]
AsJson = Annotated[
    bool, typer.Option("--json", metavar="", help="One JSON object on standard output.", show_default=False)
]


def default_text(value: Any) -> str:
    """A default as a person would type it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(default_text(item) for item in value) or "none"
    return "none" if value is None or value == "" else str(value)
