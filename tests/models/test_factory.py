"""module:factory: whose code runs, when, and what it may return."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.core.network import convert_weights
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.models.spec.modules import installed_only

CODE = """\
import torch
from torch import nn

from .parts import head

LABELS = ["cat", "dog", "owl"]


class Net(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = head(num_classes)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


NET = Net()


def build():
    print("this is for people")
    return Net().half()


def labelled():
    return Net(), LABELS


def few_labels():
    return Net(), LABELS[:2]


def no_labels():
    return Net(), 3


def fixed():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def sized(num_classes=3):
    net = Net(num_classes)
    net.made_for = num_classes
    return net


def parallel():
    return nn.DataParallel(Net())


def number():
    return 3


def broken():
    deep = {}
    return deep["no such key"]


def leaving():
    raise SystemExit(3)


def refusing():
    return RefusesItsInput()


class RefusesItsInput(Net):
    def forward(self, x):
        raise ValueError("only on Sundays")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is installed, as far as Python can tell; forgotten afterwards."""
    folder = tmp_path / "site" / "mypkg"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "parts.py").write_text("from torch import nn\n\n\ndef head(n):\n    return nn.Linear(4, n)\n")
    (folder / "nets.py").write_text(CODE)
    (folder / "torn.py").write_text("def build(:\n    pass\n")
    (folder / "needy.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypkg"]:
        del sys.modules[name]


def load(name: str, weights: str = "DEFAULT", *, reporter: Any, **settings: Any) -> Any:
    return load_model(f"mypkg.nets:{name}", weights, allow_code=True, reporter=reporter, **settings)


@pytest.mark.parametrize("name", ["build", "Net", "NET", "labelled", "fixed", "parallel", "sized"])
@pytest.mark.usefixtures("package")
def test_a_function_a_class_or_a_network(reporter: Any, capsys: pytest.CaptureFixture[str], name: str) -> None:
    state = torch.get_rng_state()
    loaded = load(name, reporter=reporter)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.name == f"mypkg.nets:{name}"
    assert loaded.weights == "its own"
    assert loaded.labels == (("cat", "dog", "owl") if name == "labelled" else ("0", "1", "2"))
    assert {tensor.dtype for tensor in loaded.net.state_dict().values()} == {torch.float32}
    assert not any(module.training for module in loaded.net.modules())
    assert not any(parameter.requires_grad for parameter in loaded.net.parameters())
    assert loaded.preprocessing.size == (224, 224)
    assert loaded.layers.resolve(["last-conv"]) == ("0" if name == "fixed" else "conv",)
    assert capsys.readouterr().out == ""  # standard output is for results


@pytest.mark.usefixtures("package")
def test_what_a_factory_draws_is_the_same_every_time(reporter: Any) -> None:
    first, second = load("build", reporter=reporter), load("build", reporter=reporter)
    assert first.weights_sha256 == second.weights_sha256
    assert torch.equal(first.parameter("fc.weight"), second.parameter("fc.weight"))


@pytest.mark.parametrize("name", ["build", "labelled", "sized", "Net", "fixed"])
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.usefixtures("package")
def test_a_file_takes_the_place_of_its_weights(tmp_path: Path, reporter: Any, name: str, count: int) -> None:
    from mypkg import nets

    mine = (nets.fixed() if name == "fixed" else nets.Net(count)).eval()
    if name == "fixed" and count != 3:
        mine[3] = torch.nn.Linear(4, count)
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in mine.state_dict().items()}}, path)
    loaded = load(name, str(path), reporter=reporter)
    convert_weights(mine, loaded.facts.memory_format)  # sums are of another order in another layout
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.net(x), mine(x))
    known = ("cat", "dog", "owl") if name == "labelled" else ("0", "1", "2")
    assert loaded.labels == (known if count == 3 else tuple("01234"))
    assert getattr(loaded.net, "made_for", count) == count  # asked again, if it takes a number
    assert load_model(str(path), arch=f"mypkg.nets:{name}", allow_code=True, reporter=reporter).weights == "mine.pth"


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("number", UsageError, "returned int, no torch.nn.Module"),
        ("LABELS", UsageError, "is neither a network nor a function: list"),
        ("few_labels", UsageError, "gives 3 scores, and names 2 classes"),
        ("no_labels", UsageError, "no list of the classes' names"),
        ("biuld", UsageError, "has no 'biuld'"),
        ("broken", ModelError, "failed: KeyError: 'no such key'"),
        ("leaving", ModelError, "failed: SystemExit: 3"),
        ("refusing", ModelError, "only on Sundays"),
    ],
)
@pytest.mark.usefixtures("package")
def test_what_goes_wrong_is_one_message(reporter: Any, name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        load(name, reporter=reporter)
    assert said in str(caught.value)


@pytest.mark.usefixtures("package")
def test_a_failure_shows_its_innermost_line(reporter: Any) -> None:
    with pytest.raises(ModelError) as caught:
        load("broken", reporter=reporter)
    line = CODE.splitlines().index('    return deep["no such key"]') + 1
    assert f"nets.py:{line}, in broken" in caught.value.excerpt
    assert caught.value.excerpt.endswith('return deep["no such key"]')
    assert caught.value.code == ExitCode.MODEL
    for module, said in (("torn", "torn.py:1"), ("needy", "import no_such_package_at_all")):
        with pytest.raises(ModelError) as caught:
            load_model(f"mypkg.{module}:build", allow_code=True, reporter=reporter)
        assert said in caught.value.excerpt


@pytest.mark.parametrize("name", ["mypkg.nest:build", "no_such_package:build", "mypkg.nets.deeper:build"])
@pytest.mark.usefixtures("package")
def test_a_module_that_is_not_there_is_a_wrong_name(reporter: Any, name: str) -> None:
    with pytest.raises(UsageError, match="there is no module"):
        load_model(name, allow_code=True, reporter=reporter)


@pytest.mark.parametrize(
    "text", ["mypkg.nets:", ":build", "my-pkg:build", "a:b:c", "mypkg.:build", "os:path.join", "timm:"]
)
def test_what_is_no_module_and_factory(reporter: Any, text: str) -> None:
    neither = "neither timm:NAME, transformers:ORG/NAME, open_clip:NAME nor module:factory"
    with pytest.raises(UsageError, match=f"{neither}|needs a name of timm's"):
        load_model(text, allow_code=True, reporter=reporter)


@pytest.mark.parametrize("spec", ["random:0", "none", "IMAGENET1K_V1"])
@pytest.mark.usefixtures("package")
def test_a_factory_decides_on_its_weights(reporter: Any, spec: str) -> None:
    with pytest.raises(UsageError, match="makes its own weights"):
        load("build", spec, reporter=reporter)


# Whose code runs.


@pytest.mark.parametrize("arch", [None, "mypkg.nets:build"])
def test_code_runs_only_if_it_is_allowed(package: Path, tmp_path: Path, reporter: Any, arch: str | None) -> None:
    (package / "nets.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{CODE}")
    path = tmp_path / "mine.pth"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(UsageError, match="is code, which would run on this machine") as caught:
        load_model("mypkg.nets:build" if arch is None else str(path), arch=arch, reporter=reporter)
    assert "--allow-code" in caught.value.fix
    assert not (tmp_path / "ran").exists()
    load("build", reporter=reporter)
    assert (tmp_path / "ran").exists()  # that would have been seen


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder is somebody else's, with code in it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in ("planted", "timm"):
        (folder / f"{name}.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    monkeypatch.chdir(folder)
    yield folder
    for name in ("planted", "timm"):
        if str(folder) in str(getattr(sys.modules.get(name), "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("entry", ["", ".", "{here}"])
@pytest.mark.parametrize("model", ["planted:build", "timm:test_resnet"])
def test_code_never_comes_from_the_current_folder(
    planted: Path, monkeypatch: pytest.MonkeyPatch, reporter: Any, entry: str, model: str
) -> None:
    # As `python -m` puts it there.
    monkeypatch.setattr(sys, "path", [entry.format(here=planted), *sys.path])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    before = sys.path[:]
    with suppress(ModelError) if model == "timm:test_resnet" else pytest.raises(UsageError) as caught:
        load_model(model, "none" if "timm" in model else "DEFAULT", allow_code=True, reporter=reporter)
    assert not (planted / "ran").exists()
    assert sys.path == before
    if model == "planted:build":
        assert caught is not None
        assert "there is no module 'planted'" in caught.value.what
        assert "PYTHONPATH=." in caught.value.fix
        monkeypatch.setenv("PYTHONPATH", str(planted))
        with pytest.raises(UsageError, match="has no 'build'"):
            load_model(model, allow_code=True, reporter=reporter)
        assert (planted / "ran").exists()  # it would have been found


@pytest.mark.parametrize(
    ("variable", "kept"),
    [(None, False), ("", False), (":", False), ("/nowhere:", False), (".", True), ("/nowhere:{here}", True)],
)
def test_the_current_folder_is_searched_where_pythonpath_names_it(
    planted: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, kept: bool
) -> None:
    monkeypatch.setattr(sys, "path", [str(planted), *sys.path])
    if variable is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", variable.format(here=planted).replace(":", os.pathsep))
    with installed_only():
        assert (str(planted) in sys.path) is kept
        sys.path.append("/added/by/the/code")
    assert str(planted) in sys.path
    assert "/added/by/the/code" in sys.path


def test_what_is_installed_for_editing_stays(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's own package, put on the path by a file of site-packages, behind the standard library."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(planted)])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with installed_only():
        assert str(planted) in sys.path


@pytest.mark.slow
def test_a_module_planted_where_python_m_starts(planted: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cnnviz_cli", "methods", "--model", "planted:build", "--allow-code"],
        capture_output=True,
        text=True,
        cwd=planted,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=False,
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "there is no module 'planted'" in done.stderr
    assert not (planted / "ran").exists()


Cnnviz = Callable[..., Any]


@pytest.mark.usefixtures("package")
def test_neither_a_file_nor_a_variable_allows_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cnnviz_cli.cli.main import main

    config = tmp_path / "cnnviz.yaml"
    for value in ("true", "false"):
        config.write_text(f"model: mypkg.nets:build\nallow_code: {value}\n")
        assert main(["all", "x.jpg", "-c", str(config), "--allow-code"]) == ExitCode.USAGE
        assert "cnnviz.yaml:2:1: 'allow_code' is for the command line alone" in capsys.readouterr().err
    config.write_text("model: mypkg.nets:build\n")
    assert main(["all", "x.jpg", "-c", str(config)]) == ExitCode.USAGE
    assert "cnnviz.yaml:1:8: 'mypkg.nets:build' is code" in capsys.readouterr().err
    monkeypatch.setenv("CNNVIZ_ALLOW_CODE", "1")
    assert main(["all", "x.jpg", "-m", "mypkg.nets:build"]) == ExitCode.USAGE
    assert "CNNVIZ_ALLOW_CODE: 'allow_code' is for the command line alone" in capsys.readouterr().err
    assert "mypkg" not in sys.modules
