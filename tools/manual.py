"""docs/cnnviz.1, the page of ``man cnnviz``, from the text of docs/reference.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reference import reference
from typer.main import get_command

from cnnviz_cli import __version__
from cnnviz_cli.cli.app import app
from cnnviz_cli.core.families import EVERY_FAMILY
from cnnviz_cli.core.method import methods

LEFT_OUT = ("Methods", "Measures")
"""Sections of the reference that `cnnviz methods NAME` and `cnnviz measures NAME` print."""

_ESCAPES = {
    "\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq",
}  # fmt: skip
"""What troff takes for something else than the letter."""

EXAMPLES = (
    ("cnnviz gradcam cat.jpg", "Where in the image is the evidence for its likeliest class?"),
    ("cnnviz all photos \\-\\-recursive \\-\\-report", "Everything, of a folder, with a page to look through."),
    ("cnnviz export OUT \\-\\-to csv", "What a run has found, as a table."),
)

_FILES = (
    ("cnnviz.yaml", "Settings in the working folder, read where `--config` names no other file."),
    ("cnnviz-out/COMMAND", "Where figures are written without `--output`; `manifest.json` in it lists them."),
)


def manual() -> str:
    """The whole page, in the macros of man(7)."""
    root = get_command(app)
    summary = str(root.help)
    lines = [
        '.\\" Made by tools/generate.py from the text of docs/reference.md.',
        f'.TH CNNVIZ 1 "" "cnnviz {escape(__version__)}" "User Commands"',
        ".nh",  # a flag that is broken cannot be copied
        ".ad l",
        ".SH NAME",
        f"cnnviz \\- {escape(summary[0].lower() + summary[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        ".B cnnviz",
        ".I COMMAND",
        r"[\fIOPTIONS\fR] [\fIIMAGES\fR ...]",
        ".SH DESCRIPTION",
        *paragraph(summary),
        *paragraph("`cnnviz COMMAND --help` lists the flags of a command, and `cnnviz methods NAME` says what a method "
                   "computes, with its formula and its paper."),
        ".SH COMMANDS",
    ]  # fmt: skip
    commands = getattr(root, "commands", {})
    for name, command in commands.items():
        lines += item(f"`{name}`", str(command.help), bold=True)
    lines += [".SH METHODS"]
    for family in EVERY_FAMILY.values():
        names = ", ".join(f"`{one.name}`" for one in methods(family.name))
        lines += item(f"`{family.name}`", names, bold=True)
    lines += _sections(reference())
    lines += [".SH FILES"]
    for name, about in _FILES:
        lines += item(f"`{name}`", about, bold=True)
    lines += [".SH EXAMPLES"]
    for command, about in EXAMPLES:
        lines += [".TP", f".B {command}", *text(about)]
    lines += [".SH SEE ALSO", *text("The documents in docs/, first of all docs/index.md.")]
    return "\n".join(lines) + "\n"


def _sections(markdown: str) -> Iterator[str]:
    """The sections of the reference, as sections of the page."""
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", markdown, re.DOTALL | re.MULTILINE):
        if title in LEFT_OUT:
            continue
        yield f".SH {escape(title.replace('`', '')).upper() if title.isascii() else escape(title)}"
        for block in re.split(r"\n{2,}", body.strip()):
            if block.startswith("### "):
                head, _, rest = block.partition("\n")
                yield f".SS {escape(head[4:])}"
                block = rest.strip()  # noqa: PLW2901
            if block.startswith("|"):
                yield from _table(block.splitlines())
            elif block:
                yield from paragraph(block)


def _table(rows: Sequence[str]) -> Iterator[str]:
    """A row as an item: its first cell, then what its last says, then what the others do."""
    head, _, *rest = ([cell.replace(r"\|", "|").strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows)
    for cells in rest:
        between = zip(head[1:-1], cells[1:-1], strict=True)
        others = [f"{what.replace('`', '')} {cell}" for what, cell in between if cell not in ("", "none", "`none`")]
        yield from item(cells[0], " ".join([cells[-1], *([f"({'; '.join(others)})"] if others else [])]))


def item(term: str, about: str, *, bold: bool = False) -> Iterator[str]:
    """A term with what is said of it."""
    yield ".TP"
    yield r"\&" + inline(term, placeholder="B" if bold else "I")
    yield from text(about)


def paragraph(markdown: str) -> Iterator[str]:
    yield ".PP"
    yield from text(markdown)


def text(markdown: str) -> Iterator[str]:
    """Running text, a line for each line of the source; none of them looks like a request."""
    for line in markdown.splitlines():
        shown = inline(line.strip())
        yield rf"\&{shown}" if shown.startswith(".") else shown


def inline(markdown: str, placeholder: str = "B") -> str:
    """Code in bold, but for what is no flag in the font whose letter is `placeholder`. Links keep their text."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    parts = plain.split("`")
    shown = []
    for number, part in enumerate(parts):
        font = "B" if part.startswith("-") or placeholder == "B" else placeholder
        shown.append(rf"\f{font}{escape(part)}\fR" if number % 2 else escape(part))
    return "".join(shown)


def escape(plain: str) -> str:
    """Letters that troff prints as they are."""
    return "".join(_ESCAPES.get(char, char if char.isascii() else rf"\[u{ord(char):04X}]") for char in plain)
