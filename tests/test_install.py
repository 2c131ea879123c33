"""docs/install.md and configs/: what they name is there, and editors find the schema."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import generate
import pytest
import yaml
from jsonschema import Draft202012Validator

from cnnviz_cli.cli.main import main
from cnnviz_cli.config.settings import config_schema

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
LINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_configuration_names_the_published_schema_and_still_loads(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = path.read_text(encoding="utf-8")
    named = LINE.match(text)
    assert named, "an editor reads the first line alone"
    schema = json.loads((path.parent / named[1]).read_text(encoding="utf-8"))
    assert schema == config_schema()
    Draft202012Validator(schema).validate(yaml.safe_load(text))
    assert main(["config", "check", str(path)]) == 0, capsys.readouterr().err


def test_the_page_s_own_configuration_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert LINE.match(shown)
    (tmp_path / "mine.yaml").write_text(shown, encoding="utf-8")
    assert main(["config", "check", str(tmp_path / "mine.yaml")]) == 0
    capsys.readouterr()
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == config_schema()


def test_every_extra_for_users_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = re.findall(r"^\| `(\w+)` \| (.+) \|$", generate.extras(), re.MULTILINE)
    assert [name for name, _ in told] == [
        name for name in project["optional-dependencies"] if name not in generate.FOR_DEVELOPERS
    ]
    assert generate.fill(PAGE, "extras", generate.extras()) == PAGE
    for name in re.findall(r"cnnviz-cli\[([\w,]+)\]", PAGE):
        assert set(name.split(",")) <= set(project["optional-dependencies"])


def test_every_package_that_the_page_installs_is_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = re.findall(r"^pip (?:install|wheel) (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    wanted = {"torch", "torchvision", project["name"]}
    for command in commands:
        names = [word for word in command.split() if not word.startswith(("-", "http"))]
        assert {re.sub(r"wheelhouse", project["name"], name) for name in names} <= wanted
