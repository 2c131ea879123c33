"""The architecture, held: who may import whom, who may know a method's name, how long a file may be."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import combinations, groupby
from pathlib import Path
from typing import NamedTuple

import pytest

import cnnviz_cli.measures
import cnnviz_cli.methods
import cnnviz_cli.tasks
from cnnviz_cli.core.families import EVERY_FAMILY, STUDIES
from cnnviz_cli.core.measures import measures
from cnnviz_cli.core.method import every_method
from cnnviz_cli.core.records import Prediction
from cnnviz_cli.tasks.spec import tasks

PACKAGE = Path(cnnviz_cli.methods.__file__).parents[1]
FILES = sorted(PACKAGE.rglob("*.py"), key=lambda path: (path.parent, path.name))
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}

# room -> the rooms it may import, besides itself.
MAY_IMPORT = {
    "core": set(),
    "methods": {"core"},
    "measures": {"core"},
    "engine": {"core"},
    "models": {"core"},
    "render": {"core"},
    "files": {"core"},
    "tasks": {"core"},
    "config": {"core", "methods", "measures", "tasks"},
    "report": {"core", "files"},
    "exports": {"core", "files", "render"},
    "run": ROOMS - {"api", "cli", "cluster", "exports", "studies"},
    "studies": {"core", "config", "engine", "models", "render", "files", "run", "tasks"},
    "api": ROOMS - {"cli", "cluster"},
    "cluster": ROOMS - {"cli", "studies"},
    "cli": ROOMS,
}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


class Import(NamedTuple):
    """One statement of a file, whether it stands in a function, and whether it is for types alone."""

    statement: ast.Import | ast.ImportFrom
    in_function: bool
    for_types: bool

    def modules(self) -> set[str]:
        """The dotted names of what is imported, each perhaps a name within a module."""
        module = "" if isinstance(self.statement, ast.Import) else f"{self.statement.module}."
        return {f"{module}{name.name}" for name in self.statement.names}


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def read(path: Path) -> tuple[list[Import], set[str]]:
    """The imports of a file, and its texts. All files are walked through once: that takes most of the time here."""
    found: list[Import] = []
    texts: set[str] = set()

    def visit(node: ast.AST, in_function: bool, for_types: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(Import(node, in_function, for_types))
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        in_function = in_function or isinstance(node, ast.FunctionDef)
        for_types = for_types or (_is_for_types(node))
        for child in ast.iter_child_nodes(node):
            visit(child, in_function, for_types)

    visit(ast.parse(path.read_text(encoding="utf-8")), in_function=False, for_types=False)
    return found, texts


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for one in read(path)[0]:
        found |= one.modules()
        if isinstance(one.statement, ast.ImportFrom):
            assert one.statement.level == 0, f"{path}: relative import"
            found.add(one.statement.module or "")
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
def test_no_name_of_a_method_a_measure_or_a_task_is_known_outside_its_file(path: Path) -> None:
    names = {m.name for m in every_method()} | {*EVERY_FAMILY}
    names |= {name for task in tasks() for name in (task.name, task.word)} - {*Prediction.model_fields, "text"}
    names |= {name for one in measures() for name in (one.name, *one.column_names)}
    names |= STUDIES.keys()
    assert not read(path)[1] & names


def test_methods_measures_tasks_and_core_import_no_torch() -> None:
    code = (
        "import cnnviz_cli.methods, cnnviz_cli.measures, cnnviz_cli.tasks, cnnviz_cli.core.records, sys;"
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
    [p for p in FILES if room(p) in {"core", "methods", "measures", "tasks"} and p.name != "value.py"],
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


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.parent.name == "measures" and p.name not in {"__init__.py", "api.py"}],
    ids=lambda p: p.name,
)
def test_the_file_of_a_measure_imports_the_api_and_common_alone(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("cnnviz_cli.")}
    assert all(name.startswith(("cnnviz_cli.measures.api", "cnnviz_cli.measures.common")) for name in ours)


def study_of(path: Path) -> str:
    """The package or the file of a study, by its name; empty for what several share."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[1] if parts[0] == "studies" and len(parts) > 1 and parts[1] not in ("common", "__init__") else ""


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "studies"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_study_imports_no_other(path: Path) -> None:
    others = {name.split(".")[2] for name in imports(path) if name.startswith("cnnviz_cli.studies.")}
    assert others <= {"common", study_of(path)}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "common"], ids=lambda p: p.name)
def test_what_methods_share_knows_no_method(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith("cnnviz_cli.methods")}
    assert all(name.startswith("cnnviz_cli.methods.common.") for name in ours)


MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}


def module_of(name: str) -> str | None:
    """The module of the package that a dotted name is, or is in."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def imported_modules(path: Path, *, types: bool, functions: bool) -> set[str]:
    """The package's modules that a file imports: at import, and if asked for types alone or within functions."""
    found = {
        module_of(name)
        for one in read(path)[0]
        if (functions or not one.in_function) and (types or not one.for_types)
        for name in one.modules()
    }
    return {name for name in found if name and MODULES[name] != path}


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last is the first; none if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def graph_of(*, types: bool) -> dict[str, set[str]]:
    """Which module imports which, functions aside: they run when all modules are there.

    The package's own `__init__` is left out: all it imports is its public names, when they are asked for.
    """
    return {
        name: imported_modules(path, types=types, functions=False) - {"cnnviz_cli"}
        for name, path in MODULES.items()
        if name != "cnnviz_cli"
    }


def test_the_imports_have_no_circle() -> None:
    assert circle_in(graph_of(types=False)) == []


def test_the_imports_have_no_circle_with_those_for_types() -> None:
    assert circle_in(graph_of(types=True)) == []


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])


def near(one: str, other: str) -> bool:
    """Whether two names differ by one letter (another, one more, one fewer) or are singular and plural."""
    short, long = sorted((one, other), key=len)
    if long in (f"{short}es", f"{short[:-1]}ies"):
        return True
    if len(short) == len(long):
        return sum(a != b for a, b in zip(short, long, strict=True)) == 1
    return len(long) - len(short) == 1 and any(long[:at] + long[at + 1 :] == short for at in range(len(long)))


def names_that_are_near() -> list[str]:
    """Files of one folder whose names differ by one letter, but for methods, which have the names of their papers."""
    return [
        f"{path.relative_to(PACKAGE)} {other.relative_to(PACKAGE)}"
        for folder, paths in groupby(FILES, lambda path: path.parent)
        if folder.name != "methods"
        for path, other in combinations(paths, 2)
        if near(path.stem, other.stem)
    ]


def slices() -> list[str]:
    """Modules under 60 lines that one other module alone imports; the file of a method is imported by none."""
    by: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, path in MODULES.items():
        for other in imported_modules(path, types=True, functions=True):
            by[other].add(name)
    found = []
    for name, users in by.items():
        path = MODULES[name]
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if (
            len(users) == 1
            and lines < 60
            and not path.stem.startswith("__")
            and path.parent.name not in {"methods", "measures", "exports"}
        ):
            found.append(f"{path.relative_to(PACKAGE)} ({lines} lines): {users.pop()}")
    return found


def test_no_two_files_of_a_room_differ_by_one_letter() -> None:
    assert names_that_are_near() == []


def test_no_small_module_has_one_user_alone() -> None:
    assert slices() == []


def names_in_the_architecture() -> list[str]:
    """The modules, files and members of them that docs/architecture.md names in backticks."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`(?:python )?([\w./]+)", text)
    return sorted({name for name in quoted if "/" in name.strip("/") or name.partition(".")[0] in ROOMS})


def exists(name: str) -> bool:
    """Whether `room.module.member`, or the path of a file or folder, is there."""
    if "/" in name:
        roots = (PACKAGE.parent, PACKAGE, PACKAGE / "models")
        return any((root / f"{name}{suffix}").exists() for root in roots for suffix in ("", ".py"))
    module = module_of(f"cnnviz_cli.{name}")
    assert module is not None
    member = f"cnnviz_cli.{name}".removeprefix(module).strip(".")
    return all(hasattr(importlib.import_module(module), part) for part in member.split(".") if part)


@pytest.mark.parametrize("name", names_in_the_architecture())
def test_what_the_architecture_names_exists(name: str) -> None:
    assert exists(name)


def test_what_does_not_exist_is_found() -> None:
    assert not exists("run.pipelines")
    assert not exists("core.scores.score_of_classes")
    assert not exists("load/zoos")
