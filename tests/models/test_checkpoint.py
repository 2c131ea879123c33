"""Files of weights: what is taken out of them, how it is fitted to a network, and what must never run."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.models.load.checkpoint import read_state_dict
from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.models.spec.catalog import imagenet_labels

State = dict[str, Tensor]

# The smallest network that cnnviz knows, with tensors that are easy to recognise.
NET = "squeezenet1_1"


def tensors() -> State:
    with torch.device("meta"):
        wanted = models.get_model(NET).state_dict()
    return {name: torch.full(tensor.shape, index / 100) for index, (name, tensor) in enumerate(wanted.items())}


def saved(path: Path, what: object) -> str:
    torch.save(what, path)
    return str(path)


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


NESTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "checkpoint": lambda state: {"state_dict": state, "epoch": 3, "best": torch.tensor(0.9)},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"param_groups": []}},
    "nested": lambda state: {"model": {"state_dict": state}, "optimizer": {"lr": 0.1}},
    "net": lambda state: {"net": state, "acc": 93.1},
    "only one, whatever it is called": lambda state: {"generator": state},
    "double": lambda state: {name: tensor.double() for name, tensor in state.items()},
    "parameters": lambda state: {name: nn.Parameter(tensor) for name, tensor in state.items()},
    "other things beside": lambda state: {**state, "version": 2, "_extra_state": None},
    "a dotted module": lambda state: {"ema": {"module": state, "updates": 7}},
    "torchvision's average": lambda state: {"model_ema": {"n_averaged": torch.tensor(9), **prefixed("module.")(state)}},
    "optimizer's tensors are more": lambda state: {
        "optimizer": {"state": {index: {"exp_avg": torch.ones(1)} for index in range(200)}, "param_groups": []},
        "state_dict": state,
    },
    **{
        prefix: prefixed(prefix)
        for prefix in (
            "module.",
            "model.",
            "backbone.",
            "_orig_mod.",
            "net.",
            "encoder_q.",
            "module.model.backbone.",
            "model._orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "_fsdp_wrapped_module.",
        )
    },
    "blocks compiled one by one": lambda state: {
        name.replace("features.3.", "features.3._orig_mod."): tensor for name, tensor in state.items()
    },
    "lightning": lambda state: {
        "state_dict": prefixed("model.")(state),
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1, "name": "x"},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
    },
    "a script's arguments": lambda state: {"state_dict": state, "args": argparse.Namespace(lr=0.1, model="x")},
    "numpy's numbers": lambda state: {"state_dict": state, "best": np.float64(0.25), "at": np.int64(3)},
}


@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS.keys())
def test_a_file_is_unwrapped(tmp_path: Path, reporter: Any, nest: Callable[[State], Any]) -> None:
    path = tmp_path / "mine.pth"
    loaded = load_model(NET, saved(path, nest(tensors())), reporter=reporter)
    state = loaded.net.state_dict()
    assert list(state) == list(tensors())
    for name, tensor in tensors().items():
        assert torch.equal(state[name], tensor)
    assert (loaded.name, loaded.weights, loaded.labels) == (NET, "mine.pth", imagenet_labels())
    assert loaded.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reporter.said == []


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(tmp_path: Path, reporter: Any, kind: torch.dtype) -> None:
    halves = {name: tensor.to(kind) for name, tensor in tensors().items()}
    loaded = load_model(NET, saved(tmp_path / "half.pth", halves), reporter=reporter)
    assert {tensor.dtype for tensor in loaded.net.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.parameter("features.0.bias"), halves["features.0.bias"].float())


@pytest.mark.parametrize("ending", ["mine.safetensors", "mine.bin", "checkpoint.pth.tar", "mine.ckpt"])
def test_what_a_file_is_called_does_not_matter(tmp_path: Path, reporter: Any, ending: str) -> None:
    path = tmp_path / ending
    for write in (lambda: save_file(tensors(), path), lambda: torch.save(tensors(), path)):
        if ending == "mine.safetensors" and write.__code__.co_names[0] == "torch":
            continue
        write()
        loaded = load_model(NET, str(path), reporter=reporter)
        assert torch.equal(loaded.parameter("classifier.1.bias"), tensors()["classifier.1.bias"])


def test_safetensors_is_an_extra(tmp_path: Path, reporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(tensors(), path)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ModelError, match="needs safetensors") as caught:
        load_model(NET, str(path), reporter=reporter)
    assert caught.value.fix == "pip install 'cnnviz-cli[safetensors]'"


# Several state dicts in one file.


def several() -> dict[str, Any]:
    plain = tensors()
    return {
        "epoch": 7,
        "state_dict": plain,
        "state_dict_ema": {name: tensor + 1 for name, tensor in plain.items()},
        "student": {name: tensor + 2 for name, tensor in plain.items()},
    }


@pytest.mark.parametrize(
    ("key", "shift", "said"),
    [
        (None, 1, ["'state_dict_ema' is taken, not 'state_dict', 'student' (--weights-key chooses)"]),
        ("state_dict", 0, []),
        ("student", 2, []),
    ],
)
def test_averages_come_first_and_a_key_chooses(
    tmp_path: Path, reporter: Any, key: str | None, shift: int, said: list[str]
) -> None:
    path = saved(tmp_path / "mine.pth", several())
    loaded = load_model(NET, path, key=key, reporter=reporter)
    assert torch.equal(loaded.parameter("features.0.bias"), tensors()["features.0.bias"] + shift)
    assert reporter.said == [f"mine.pth: {text}" for text in said]


def test_a_key_may_have_dots_or_be_unknown(tmp_path: Path, reporter: Any) -> None:
    path = tmp_path / "mine.pth"
    saved(path, {"ema": {"module": tensors()}, "model": several()["student"]})
    assert read_state_dict(path, "ema").key == read_state_dict(path, "ema.module").key == "ema.module"
    with pytest.raises(UsageError, match="no state dict 'emma'") as caught:
        load_model(NET, str(path), key="emma", reporter=reporter)
    assert caught.value.where == "--weights-key"
    assert caught.value.fix == "Did you mean 'ema'?\nIt has: ema.module, model."
    with pytest.raises(UsageError, match="only a file of weights has keys"):
        load_model(NET, "random:0", key="ema", reporter=reporter)


def test_a_teacher_beside_its_student_under_prefixes(tmp_path: Path, reporter: Any) -> None:
    both = {**prefixed("student.")(tensors()), **prefixed("teacher.")(several()["state_dict_ema"])}
    loaded = load_model(NET, saved(tmp_path / "dino.pth", both), reporter=reporter)
    assert torch.equal(loaded.parameter("features.0.bias"), tensors()["features.0.bias"] + 1)
    assert reporter.said == [
        "dino.pth: 52 tensors outside of 'teacher.' are left out, first 'student.features.0.weight'"
    ]


def test_what_lies_outside_of_the_prefix_is_left_out_and_said(tmp_path: Path, reporter: Any) -> None:
    state = {**prefixed("model.")(tensors()), "loss.weight": torch.ones(1000)}
    load_model(NET, saved(tmp_path / "mine.pth", state), reporter=reporter)
    assert reporter.said == ["mine.pth: 1 tensors outside of 'model.' are left out, first 'loss.weight'"]


def test_a_head_beside_its_backbone(tmp_path: Path, reporter: Any) -> None:
    state = {name if "classifier" in name else f"backbone.{name}": tensor for name, tensor in tensors().items()}
    loaded = load_model(NET, saved(tmp_path / "mine.pth", state), reporter=reporter)
    assert torch.equal(loaded.parameter("classifier.1.bias"), tensors()["classifier.1.bias"])
    assert reporter.said == []


# Another number of classes.


@pytest.mark.parametrize(
    ("name", "count"),
    [
        (NET, 7),
        (NET, 1),
        ("resnet18", 7),
        pytest.param("resnet18", 1, marks=pytest.mark.slow),
        ("mobilenet_v3_small", 7),
        ("efficientnet_lite0", 7),
        pytest.param("densenet121", 7, marks=pytest.mark.slow),
    ],
)
def test_the_head_is_rebuilt_for_the_files_classes(tmp_path: Path, reporter: Any, name: str, count: int) -> None:
    torch.manual_seed(count)
    lite = name == "efficientnet_lite0"
    mine = (EfficientNetLite(classes=count) if lite else models.get_model(name, num_classes=count)).eval()
    loaded = load_model(name, saved(tmp_path / "mine.pth", mine.state_dict()), reporter=reporter)
    assert loaded.labels == (("positive",) if count == 1 else tuple("0123456"))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.net(x), mine(x))
    assert reporter.said == [f"mine.pth: of {'1 class' if count == 1 else '7 classes'}, by the shape of its last layer"]


def test_a_file_of_torchvisions_googlenet_with_or_without_auxiliary_classifiers(tmp_path: Path, reporter: Any) -> None:
    for auxiliary, count in ((False, 1000), (True, 5)):
        net = models.googlenet(init_weights=False, aux_logits=auxiliary, num_classes=count).eval()
        loaded = load_model("googlenet", saved(tmp_path / "net.pth", net.state_dict()), reporter=reporter)
        net.transform_input = True
        x = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(loaded.net(x), net(x))


def test_an_old_files_batch_norm_lacks_its_counter(tmp_path: Path, reporter: Any) -> None:
    state = EfficientNetLite().state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    loaded = load_model("efficientnet_lite0", saved(tmp_path / "old.pth", old), reporter=reporter)
    assert torch.equal(loaded.parameter("head.0.weight"), state["head.0.weight"])


# A file of weights in the place of the model.


def test_arch_says_what_network_a_file_is_of(tmp_path: Path, reporter: Any) -> None:
    path = saved(tmp_path / "mine.pth", tensors())
    loaded = load_model(path, arch=NET, reporter=reporter)
    assert (loaded.name, loaded.weights) == (NET, "mine.pth")
    assert torch.equal(loaded.parameter("features.0.bias"), tensors()["features.0.bias"])


@pytest.mark.parametrize(
    ("settings", "said", "where"),
    [
        ({}, "is a file of weights, and does not say what network they are of", "--model"),
        ({"arch": "resnet5O"}, "no model 'resnet5O'", "--arch"),
        ({"arch": NET, "weights": "random:0"}, "--model names a file of weights already", "--weights"),
    ],
)
def test_a_file_of_weights_needs_an_architecture(
    tmp_path: Path, reporter: Any, settings: dict[str, str], said: str, where: str
) -> None:
    path = saved(tmp_path / "mine.pth", tensors())
    with pytest.raises(UsageError, match=said) as caught:
        load_model(path, reporter=reporter, **settings)  # type: ignore[arg-type]
    assert caught.value.where == where
    assert caught.value.fix


def test_an_architecture_without_a_file_of_weights_is_a_mistake(reporter: Any) -> None:
    with pytest.raises(UsageError, match="'resnet50' is a network") as caught:
        load_model("resnet50", arch=NET, reporter=reporter)
    assert caught.value.where == "--arch"


# What does not fit.


def changed(**changes: Tensor | None) -> State:
    state = tensors()
    for name, tensor in changes.items():
        if tensor is None:
            del state[name.replace("__", ".")]
        else:
            state[name.replace("__", ".")] = tensor
    return state


HEAD = {"classifier__1__weight": None, "classifier__1__bias": None}


@pytest.mark.parametrize(
    ("state", "counts", "listed", "cause"),
    [
        (changed(features__0__bias=None), "1 missing", ["missing: features.0.bias"], "variant"),
        (changed(extra=torch.zeros(1), other=torch.ones(1)), "2 unexpected", ["unexpected: extra, other"], "variant"),
        (
            changed(features__0__weight=torch.zeros(64, 3, 7, 7), more=torch.zeros(1)),
            "1 unexpected, 1 of another shape",
            ["of another shape: features.0.weight (64, 3, 7, 7), in the network (64, 3, 3, 3)"],
            "variant",
        ),
        (
            changed(features__0__weight=torch.zeros(64, 4, 3, 3)),
            "1 of another shape",
            ["features.0.weight (64, 4, 3, 3)"],
            "another number of channels",
        ),
        (changed(**HEAD), "2 missing", ["missing: classifier.1.weight, classifier.1.bias"], "no classifier"),
        (
            changed(**HEAD, classifier__1__0__weight=torch.zeros(9, 512)),
            "2 missing, 1 unexpected",
            ["unexpected: classifier.1.0.weight"],
            "replaced by other layers",
        ),
        (
            changed(classifier__1__weight=torch.zeros(10, 512, 3, 3), classifier__1__bias=torch.zeros(10)),
            "2 of another shape",
            ["classifier.1.weight (10, 512, 3, 3)"],
            "another number of classes",
        ),
        (
            {"layer1.0.conv1.weight": torch.zeros(3)},
            "52 missing, 1 unexpected",
            [" and 42 more", "unexpected: layer1.0.conv1.weight"],
            "another network",
        ),
    ],
    ids=["missing", "unexpected", "shape", "channels", "headless", "other head", "odd head", "model"],
)
def test_a_misfit_is_one_error_with_three_likely_causes(
    tmp_path: Path, reporter: Any, state: State, counts: str, listed: list[str], cause: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(NET, saved(tmp_path / "mine.pth", state), reporter=reporter)
    error = caught.value
    assert error.what == f"The tensors in 'mine.pth' do not fit the network: {counts}"
    assert all(part in error.excerpt for part in listed)
    first, *causes = error.fix.splitlines()
    assert first == "Most likely:"
    assert [line[:3] for line in causes] == ["1. ", "2. ", "3. "]
    assert cause in causes[0]


def test_a_failed_fit_leaves_nothing_by_halves(tmp_path: Path, reporter: Any) -> None:
    state = torch.get_rng_state()
    with pytest.raises(ModelError):
        load_model(NET, saved(tmp_path / "mine.pth", changed(features__0__bias=None)), reporter=reporter)
    assert torch.equal(torch.get_rng_state(), state)


# What is refused, and why.


class Canary:
    """Pickled, it touches a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "write", [lambda what, path: path.write_bytes(pickle.dumps(what)), torch.save], ids=["pickle", "torch.save"]
)
@pytest.mark.parametrize("ending", ["pth", "safetensors", "bin"])
def test_a_pickle_never_runs(tmp_path: Path, reporter: Any, write: Any, ending: str) -> None:
    path, touched = tmp_path / f"evil.{ending}", tmp_path / "touched"
    write({"state_dict": Canary(touched)}, path)
    with pytest.raises(ModelError, match=r"was refused|not a weights file") as caught:
        load_model(NET, str(path), reporter=reporter)
    assert not touched.exists()
    assert caught.value.code == 4
    bare = path.rename(tmp_path / "bare")
    with suppress(RuntimeError):  # of a bare pickle, about the missing magic number, when it is too late
        torch.load(bare, weights_only=False)  # the canary is alive: loaded without care, it sings
    assert touched.exists()


class Config:
    """A class of a training script's."""


@pytest.mark.parametrize(
    ("what", "said", "mends"),
    [
        (nn.Linear(2, 2), "is a whole network (torch.nn.modules.linear.Linear), pickled", "net.state_dict()"),
        (
            {"state_dict": {"a": torch.ones(1)}, "pytorch-lightning_version": "2.4", "hyper_parameters": Config()},
            "is a checkpoint of PyTorch Lightning that holds objects",
            "--model weights.pth --arch NAME",
        ),
        ({"state_dict": {"a": torch.ones(1)}, "config": Config()}, "holds more than tensors", "weights_only=False"),
    ],
    ids=["network", "lightning", "class"],
)
def test_objects_are_named_and_the_way_out_too(
    tmp_path: Path, reporter: Any, what: object, said: str, mends: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(NET, saved(tmp_path / "net.pt", what), reporter=reporter)
    assert said in caught.value.what
    assert "refused" in caught.value.what
    if isinstance(what, dict):
        assert "Config)" in caught.value.what
    assert mends in caught.value.fix


OPTIMIZER = {"param_groups": [{"lr": 0.1}], "state": {0: {"exp_avg": torch.ones(3)}}}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (OPTIMIZER, "only an optimizer's"),
        ({"optimizer": OPTIMIZER, "epoch": 3}, "only an optimizer's"),
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"a": 1, "b": 2}, "holds no state dict: it holds a, b"),
        ({"state_dict": {"a": "b"}}, "holds no state dict: it holds state_dict"),
        (torch.zeros(3), "holds no state dict"),
    ],
)
def test_a_file_without_a_networks_state_is_named(tmp_path: Path, reporter: Any, what: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(NET, saved(tmp_path / "mine.pth", what), reporter=reporter)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_weights_are_refused(tmp_path: Path, reporter: Any) -> None:
    state = {"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}
    with pytest.raises(ModelError, match="quantised"):
        load_model(NET, saved(tmp_path / "mine.pth", state), reporter=reporter)


def test_a_program_is_no_file_of_weights(tmp_path: Path, reporter: Any) -> None:
    path = tmp_path / "scripted.pth"
    with warnings.catch_warnings(action="ignore"):  # TorchScript is on its way out
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(UsageError, match="is a TorchScript program, which holds a network") as caught:
        load_model(NET, str(path), reporter=reporter)
    assert "--allow-code" in caught.value.fix


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off", bytes(range(256)) * 9])
def test_a_damaged_file_is_named(tmp_path: Path, reporter: Any, content: bytes, ending: str) -> None:
    path = tmp_path / f"torn{ending}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a weights file, or is damaged") as caught:
        load_model(NET, str(path), reporter=reporter)
    assert len(caught.value.what) < 500


def test_a_pointer_of_git_lfs_and_a_file_of_another_library(tmp_path: Path, reporter: Any) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ModelError, match="Git LFS") as caught:
        load_model(NET, str(path), reporter=reporter)
    assert caught.value.fix == "git lfs pull"
    with pytest.raises(UsageError, match="must end in"):
        load_model(NET, "x.h5", reporter=reporter)
