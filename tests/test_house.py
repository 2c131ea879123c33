"""The architecture, held: who may import whom, who may know a method's name, how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cnnviz_cli.methods
import cnnviz_cli.tasks
from cnnviz_cli.core.method import FAMILIES, methods
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.tasks.spec import tasks

PACKAGE = Path(cnnviz_cli.methods.__file__).parents[1]
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}

# room -> the rooms it may import, besides itself.
MAY_IMPORT = {
    "core": set(),
    "methods": {"core"},
    "engine": {"core"},
    "models": {"core"},
    "render": {"core"},
    "files": {"core"},
    "tasks": {"core"},
    "config": {"core", "methods", "tasks"},
    "run": ROOMS - {"cli", "cluster"},
    "cluster": ROOMS - {"cli"},
    "cli": ROOMS,
}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_every_room_is_in_the_plan() -> None:
    assert set(MAY_IMPORT) == ROOMS


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    here = room(path)
    if not here:
        return
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("cnnviz_cli.")} & ROOMS
    assert rooms <= MAY_IMPORT[here] | {here}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_outgrows_its_room(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room(p) in {"engine", "render", "files", "run"}],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_no_name_of_a_method_or_a_task_is_known_outside_its_file(path: Path) -> None:
    names = {m.name for m in methods()} | set(FAMILIES)
    names |= {name for task in tasks() for name in (task.name, task.word)} - set(Prediction.model_fields)
    strings = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not strings & names


def test_methods_tasks_and_core_import_no_torch() -> None:
    code = (
        "import cnnviz_cli.methods, cnnviz_cli.tasks, cnnviz_cli.core.records, sys;"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_importing_the_package_is_light() -> None:
    code = "import sys; before = set(sys.modules); import cnnviz_cli; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['cnnviz_cli']"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room(p) in {"core", "methods", "tasks"} and p.name != "value.py"],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_what_every_command_imports_compiles_no_dataclass(path: Path) -> None:
    assert "dataclasses.dataclass" not in imports(path), "core.value defines the same, without compiling it each time"


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.parent.name == "methods" and p.name not in {"__init__.py", "api.py"}],
    ids=lambda p: p.name,
)
def test_the_file_of_a_method_imports_the_api_and_common_alone(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("cnnviz_cli.")}
    assert {
        name for name in ours if not name.startswith(("cnnviz_cli.methods.api", "cnnviz_cli.methods.common."))
    } == set()


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "common"], ids=lambda p: p.name)
def test_what_methods_share_knows_no_method(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("cnnviz_cli.methods")}
    assert all(name.startswith("cnnviz_cli.methods.common.") for name in ours)
