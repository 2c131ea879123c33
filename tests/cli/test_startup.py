"""What is kept out of start-up: libraries that the command at hand does not need, and conversions of nothing."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from cnnviz_cli.cli.app import app
from cnnviz_cli.cli.typer_base import Command
from cnnviz_cli.core.families import FAMILIES

IMPORTED = """
import contextlib, io, json, sys
from cnnviz_cli.cli.main import main
watched, *lines = sys.argv[1:]
seen = {}
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(line.split()) == 0
    seen[line] = [name for name in watched.split(",") if name in sys.modules]
json.dump(seen, sys.stdout)
"""
WATCHED = (
    "cnnviz_cli.methods",
    "importlib.metadata",
    "pydantic",
    "rich.console",
    "PIL",
    "numpy",
    "torchvision",
    "torch",
)

NEEDED = {
    "--version": "",
    "--help": "",
    "models": "",
    "models --json": "",
    "classes": "",
    "classes --json": "",
    "verify --help": "",
    "merge --help": "",
    "models --help": "",
    "methods": "cnnviz_cli.methods",
    "methods --help": "",
    "methods gradcam": "cnnviz_cli.methods importlib.metadata pydantic",
    "methods --json": "cnnviz_cli.methods pydantic",
    **{f"{name} --help": "cnnviz_cli.methods pydantic" for name in (*FAMILIES, "all", "layers", "doctor", "config")},
    "config schema": "cnnviz_cli.methods importlib.metadata pydantic",
    "gradcam photo.png -q --input-size 64": "cnnviz_cli.methods importlib.metadata pydantic PIL numpy torch",
}
"""What of `WATCHED` each command needs; torchvision, which takes a second, only for networks of its own."""


@pytest.mark.parametrize("needed", sorted(set(NEEDED.values())))
def test_a_command_imports_what_it_needs(needed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that need the same share a process: the first that imports more is seen."""
    lines = [line for line in NEEDED if NEEDED[line] == needed]
    Image.new("RGB", (30, 20), "red").save(tmp_path / "photo.png")
    monkeypatch.setenv("CNNVIZ_WORKERS", "0")
    script = [sys.executable, "-c", IMPORTED, ",".join(WATCHED), *lines]
    done = subprocess.run(script, capture_output=True, text=True, check=True, cwd=tmp_path)
    expected = [name for name in WATCHED if name in needed.split()]
    assert json.loads(done.stdout) == dict.fromkeys(lines, expected)


def _seen(value: list[str] | None) -> list[str] | None:
    return None if value is None else [*value, "seen"]


def _app(seen: list[object], **how: type[Command]) -> typer.Typer:
    made = typer.Typer(add_completion=False)

    @made.command(**how)
    def _(
        number: int,
        word: Annotated[str | None, typer.Argument()] = None,
        many: Annotated[list[Path] | None, typer.Option()] = None,
        checked: Annotated[list[str] | None, typer.Option(callback=_seen)] = None,
        flag: Annotated[bool | None, typer.Option()] = None,
    ) -> None:
        seen.append((number, word, many, checked, flag))

    return made


@pytest.mark.parametrize(
    "line",
    ["", "x", "1", "1 w", "1 --many a --many b", "1 --checked c", "1 --flag", "1 --no-flag w", "1 --number 2"],
)
def test_what_is_not_given_arrives_as_typer_would_have_it(line: str) -> None:
    ours: list[object] = []
    theirs: list[object] = []
    codes = [CliRunner().invoke(one, line.split()).exit_code for one in (_app(ours, cls=Command), _app(theirs))]
    assert codes[0] == codes[1]
    assert ours == theirs


@pytest.mark.parametrize("name", get_command(app).commands)
def test_what_stands_for_a_command_says_what_the_command_says(name: str) -> None:
    group = get_command(app)
    said = group.commands[name].help
    assert inspect.cleandoc(group.resolve_command(None, [name])[1].help).split("\n\n")[0] == said
