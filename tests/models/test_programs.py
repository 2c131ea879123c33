"""TorchScript and torch.export programs: run as they are, in any batch, and without layers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cnnviz_cli.methods  # noqa: F401  (registers them)
from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.core.method import methods
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.models.load.programs import ProgramNetwork
from cnnviz_cli.models.spec.network import FileKind, file_kind
from cnnviz_cli.run.dry_run import find_costs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

WAYS = ("scripted", "traced", "frozen", "exported", "exported for any batch", "exported for four")


class Net(nn.Module):
    """A convolution, a normalisation, a dropout and a head, so that training mode would show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(self.drop(x.mean((2, 3))))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(3)
    made = Net()
    made.norm.running_mean.uniform_(-1, 1)
    return made.eval()


@pytest.fixture(scope="module")
def programs(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("programs")
    paths = {way: folder / f"{way.replace(' ', '-')}.{'pt2' if 'exported' in way else 'pt'}" for way in WAYS}
    x = torch.rand(1, 3, 48, 40)
    torch.jit.save(torch.jit.script(net), paths["scripted"])
    torch.jit.save(torch.jit.trace(net, x), paths["traced"])
    torch.jit.save(torch.jit.freeze(torch.jit.script(net)), paths["frozen"])
    torch.export.save(torch.export.export(net, (x,)), paths["exported"])
    batch = torch.export.Dim("batch", min=1, max=64)
    any_batch = torch.export.export(net, (torch.rand(2, 3, 48, 40),), dynamic_shapes=({0: batch},))
    torch.export.save(any_batch, paths["exported for any batch"])
    torch.export.save(torch.export.export(net, (torch.rand(4, 3, 48, 40),)), paths["exported for four"])
    return paths


def load(path: Path, reporter: Any) -> LoadedModel:
    return load_model(str(path), allow_code=True, reporter=reporter)


@pytest.mark.parametrize("way", WAYS)
def test_a_program_gives_the_networks_scores_and_gradients(
    programs: dict[str, Path], net: nn.Module, reporter: Any, way: str
) -> None:
    loaded = load(programs[way], reporter)
    assert loaded.name == loaded.weights == programs[way].name
    assert loaded.labels == ("0", "1", "2", "3", "4")
    assert not any(module.training for module in loaded.net.modules())
    assert loaded.preprocessing.size == ((48, 40) if "exported" in way else (224, 224))
    for count in (1, 3, 4, 6):
        x = torch.rand(count, 3, 48, 40, generator=torch.Generator().manual_seed(count))
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        mine, theirs = loaded.net(one), net(other)
        torch.testing.assert_close(mine, theirs)
        (gradient,) = torch.autograd.grad(mine[:, 2].sum(), one)
        (expected,) = torch.autograd.grad(theirs[:, 2].sum(), other)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("way", ["traced", "exported"])
def test_no_layer_can_be_read_and_one_sentence_says_why(programs: dict[str, Path], reporter: Any, way: str) -> None:
    layers = load(programs[way], reporter).layers
    assert list(layers) == []
    for word in ("last-conv", "conv", "program.conv", "*"):
        with pytest.raises(UsageError, match="which runs as a whole, so no layer in it can be read") as caught:
            layers.resolve([word])
        assert programs[way].name in caught.value.what
        assert "\n" not in caught.value.what


ON_THE_INPUT = {
    "blur-ig",
    "gradient",
    "gradient-shap",
    "guided-ig",
    "input-x-gradient",
    "integrated-gradients",
    "kernel-shap",
    "lime",
    "occlusion",
    "rise",
    "smoothgrad",
    "smoothgrad-squared",
    "vargrad",
    "xrai",
}


@pytest.mark.parametrize("way", ["scripted", "exported"])
def test_methods_on_the_input_apply_and_the_others_say_why_not(
    programs: dict[str, Path], reporter: Any, way: str
) -> None:
    prices = find_costs(str(programs[way]), methods(), reporter, allow_code=True)
    assert {name for name, price in prices.items() if not price.refusal} == ON_THE_INPUT
    kind = "TorchScript" if way == "scripted" else "a torch.export program"
    for name, seen in {
        "guided-backprop": "rectifiers",
        "lrp": "operations",
        "fullgrad": "biases",
        "legrad": "attention",
    }.items():
        assert prices[name].refusal == f"parts of this network are {kind}, whose {seen} cannot be seen"
    assert "runs as a whole" in prices["gradcam"].refusal
    assert "\n" not in "".join(price.refusal for price in prices.values())


def test_what_a_file_holds_is_read_from_its_table_of_contents(programs: dict[str, Path], tmp_path: Path) -> None:
    for way, path in programs.items():
        assert file_kind(path) is (FileKind.EXPORTED if "exported" in way else FileKind.TORCHSCRIPT)
    weights = tmp_path / "weights.pt"
    for old in (False, True):
        torch.save({"a": torch.ones(2)}, weights, _use_new_zipfile_serialization=not old)
        assert file_kind(weights) is FileKind.WEIGHTS
    weights.write_bytes(b"PK\x03\x04 cut off")
    assert file_kind(weights) is FileKind.WEIGHTS


@pytest.mark.parametrize("way", ["scripted", "exported"])
def test_a_program_is_code(programs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, reporter: Any, way: str) -> None:
    def loading(*_: Any, **__: Any) -> None:
        pytest.fail("it was loaded")

    monkeypatch.setattr(torch.jit, "load", loading)
    monkeypatch.setattr(torch.export, "load", loading)
    with pytest.raises(UsageError, match="loading it can do what any program can") as caught:
        load_model(str(programs[way]), reporter=reporter)
    assert "--allow-code" in caught.value.fix


class Writes(nn.Module):
    """What a program may do to the machine: torch.from_file makes a file that it is allowed to write to."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.from_file("written-by-the-program", shared=True, size=3)


def test_a_program_can_write_files_so_the_flag_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reporter: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(Writes()), "writes.pt")
    with pytest.raises(UsageError):
        load_model("writes.pt", reporter=reporter)
    assert not Path("written-by-the-program").exists()
    load_model("writes.pt", allow_code=True, reporter=reporter)
    assert Path("written-by-the-program").exists()  # it is as dangerous as the documentation says


def test_a_program_exported_while_training_is_refused(tmp_path: Path, reporter: Any) -> None:
    path = tmp_path / "training.pt2"
    torch.export.save(torch.export.export(Net().train(), (torch.rand(2, 3, 48, 40),)), path)
    with pytest.raises(ModelError, match="was exported while training") as caught:
        load(path, reporter)
    assert "eval()" in caught.value.fix


@pytest.mark.parametrize("way", ["scripted", "exported"])
@pytest.mark.parametrize(
    ("settings", "where"),
    [({"weights": "random:0"}, "--weights"), ({"arch": "resnet18"}, "--arch"), ({"key": "ema"}, "--weights-key")],
)
def test_a_program_is_complete(
    programs: dict[str, Path], reporter: Any, way: str, settings: dict[str, str], where: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_model(str(programs[way]), allow_code=True, reporter=reporter, **settings)  # type: ignore[arg-type]
    assert caught.value.where == where


@pytest.mark.parametrize("way", ["scripted", "exported"])
def test_a_damaged_program_is_one_error(programs: dict[str, Path], tmp_path: Path, reporter: Any, way: str) -> None:
    path = tmp_path / "torn.pt2"
    with zipfile.ZipFile(programs[way]) as whole, zipfile.ZipFile(path, "w") as torn:
        for name in whole.namelist():
            torn.writestr(name, whole.read(name)[: 5 if name.endswith((".json", ".py", ".pkl")) else None])
    with pytest.raises(ModelError, match="is not a weights file, or is damaged"):
        load(path, reporter)


def test_a_whole_passes_on_lists_and_keeps_the_order() -> None:
    class Pairs(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            assert len(x) == 2
            return x.mean((2, 3)), x

    x = torch.rand(5, 3, 2, 2)
    assert torch.equal(ProgramNetwork(Pairs(), 2, "").eval()(x), x.mean((2, 3)))


def test_the_tree_of_a_program_says_why_it_has_no_layers(
    programs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from cnnviz_cli.cli.main import main

    assert main(["layers", str(programs["scripted"]), "--allow-code"]) == 0
    assert "so no layer in it can be read." in " ".join(capsys.readouterr().out.split())
    assert main(["layers", str(programs["scripted"])]) == ExitCode.USAGE
    assert "--allow-code" in capsys.readouterr().err
