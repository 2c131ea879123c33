"""timm's networks: on a stand-in with timm's own interface, and on timm itself where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.core.network import convert_weights
from cnnviz_cli.models.inspect.probe import probe_layers
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.models.load.timm import preset_from_config
from cnnviz_cli.models.spec.catalog import imagenet_labels
from cnnviz_cli.models.spec.network import parse_model

SAMPLES = Path(__file__).parents[2] / "sample_images"

TIMM = """\
from fnmatch import fnmatch

import torch
from torch import nn

from huggingface_hub import constants

MODELS = {"tiny_net": ["in1k", "in22k"], "tiny_other": [], "tiny_wide": []}


class Tiny(nn.Module):
    def __init__(self, classes, tag):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, classes)
        self.num_classes = classes
        self.pretrained_cfg = {
            "tag": tag, "hf_hub_id": tag and f"timm/tiny_net.{tag}", "url": "",
            "input_size": (3, 96, 96), "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic",
            "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4),
        }

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def is_model(name):
    return name in MODELS


def list_models():
    return list(MODELS)


def list_pretrained(pattern):
    return [f"{n}.{tag}" for n, tags in MODELS.items() for tag in tags if fnmatch(f"{n}.{tag}", pattern)]


def create_model(name, pretrained=False):
    bare, _, tag = name.partition(".")
    tag = tag or (MODELS[bare] or [""])[0]
    net = Tiny(21 if tag == "in22k" else 1000, tag)
    if bare == "tiny_wide":
        net.pretrained_cfg.update(crop_mode="squash")
    if pretrained:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("offline mode is enabled\\nand a long explanation")
        if tag == "in22k":
            raise OSError("Repository Not Found")
        nn.init.constant_(net.fc.bias, 7.0)
    return net
"""

DATA = """\
def resolve_model_data_config(net):
    return {key: net.pretrained_cfg[key] for key in net.pretrained_cfg if key not in ("tag", "hf_hub_id", "url")}
"""


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "huggingface_hub")]:
        del sys.modules[name]


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packages `timm` and `huggingface_hub` with what cnnviz asks of them."""
    for package, files in {
        "timm": {"__init__.py": TIMM, "data.py": DATA},
        "huggingface_hub": {"__init__.py": "", "constants.py": "HF_HUB_OFFLINE = False\n"},
    }.items():
        (tmp_path / "site" / package).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "site" / package / name).write_text(text)
    forget()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    forget()


@pytest.mark.usefixtures("standin")
def test_random_weights_and_the_preprocessing_of_the_data_config(reporter: Any) -> None:
    loaded = load_model("timm:tiny_net", "random:3", offline=True, reporter=reporter)
    again = load_model("timm:tiny_net", "random:3", offline=True, reporter=reporter)
    other = load_model("timm:tiny_net", "none", offline=True, reporter=reporter)
    assert (loaded.name, loaded.weights) == ("timm:tiny_net", "random:3")
    assert loaded.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert loaded.labels == imagenet_labels()
    found = loaded.preprocessing
    assert (found.size, found.resized_size, found.mode, found.interpolation) == (
        (96, 96),
        (106, 106),
        "crop",
        "bicubic",
    )
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert loaded.layers.resolve(["last-conv"]) == ("conv",)


@pytest.mark.usefixtures("standin")
def test_edges_that_are_not_cut_are_said(reporter: Any) -> None:
    assert load_model("timm:tiny_wide", "none", reporter=reporter).preprocessing.mode == "squash"
    load_model("timm:tiny_net", "none", reporter=reporter)
    assert reporter.said == ["timm:tiny_wide: it was trained on images whose edges were cut; here they are shown"]


@pytest.mark.usefixtures("standin")
def test_published_weights_come_through_timms_own_hub(reporter: Any) -> None:
    loaded = load_model("timm:tiny_net", reporter=reporter)
    assert loaded.weights == "in1k"
    assert set(loaded.parameter("fc.bias").tolist()) == {7.0}
    for model, offline, said in (
        ("timm:tiny_net", True, "and --offline forbids a download: offline mode is enabled"),
        ("timm:tiny_other", False, "publishes no weights"),
        ("timm:tiny_net.in22k", False, "are unavailable: Repository Not Found"),
    ):
        with pytest.raises(ModelError) as caught:
            load_model(model, offline=offline, reporter=reporter)
        assert said in caught.value.what
        assert "--weights random:0" in caught.value.fix
        assert caught.value.code == ExitCode.MODEL
    assert sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE is False


@pytest.mark.usefixtures("standin")
def test_a_file_of_weights_with_its_own_classes(tmp_path: Path, reporter: Any) -> None:
    timm = __import__("timm")
    mine = timm.Tiny(5, "").eval()
    torch.save({"state_dict": mine.state_dict(), "arch": "tiny_net"}, tmp_path / "mine.pth")
    path = str(tmp_path / "mine.pth")
    for loaded in (
        load_model("timm:tiny_net", path, reporter=reporter),
        load_model(path, arch="timm:tiny_net", reporter=reporter),
    ):
        assert (loaded.name, loaded.weights, loaded.labels) == ("timm:tiny_net", "mine.pth", tuple("01234"))
        x = torch.rand(2, 3, 32, 32)
        convert_weights(mine, loaded.facts.memory_format)  # sums are of another order in another layout
        with torch.no_grad():
            assert torch.equal(loaded.net(x), mine(x))
    assert load_model("timm:tiny_net.in22k", "none", reporter=reporter).labels == tuple(map(str, range(21)))


@pytest.mark.parametrize(
    ("model", "weights", "said", "mends"),
    [
        ("timm:tiny_nut", "none", "timm has no network 'tiny_nut'", "'tiny_net'"),
        ("timm:tiny_net.in2k", "none", "timm has no weights 'in2k' for tiny_net", "'tiny_net.in1k'"),
        ("timm:tiny_net", "IMAGENET1K_V1", "no weights 'IMAGENET1K_V1'", "timm:tiny_net.TAG"),
        ("timm:../x", "none", "needs a name of timm's", "timm:resnet18"),
    ],
)
@pytest.mark.usefixtures("standin")
def test_wrong_names(reporter: Any, model: str, weights: str, said: str, mends: str) -> None:
    if "/" in model:
        with pytest.raises(ModelError, match="there is no file"):
            load_model(model, weights, reporter=reporter)
        return
    with pytest.raises(UsageError) as caught:
        load_model(model, weights, reporter=reporter)
    assert said in caught.value.what
    assert mends in caught.value.fix


def test_without_timm_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.models.spec.hub.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="'timm:resnet18' needs timm") as caught:
        parse_model("timm:resnet18")
    assert caught.value.fix == "pip install 'cnnviz-cli[timm]'"


CONFIG = {
    "input_size": (3, 240, 320),
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bilinear",
    "mean": (0.5,) * 3,
    "std": (0.5,) * 3,
}


@pytest.mark.parametrize(
    ("changes", "mode", "covered"),
    [
        ({}, "crop", (274, 365)),
        ({"crop_mode": "squash", "crop_pct": 1.0}, "squash", (240, 320)),
        ({"crop_mode": "border", "crop_pct": 1.0, "interpolation": "random"}, "pad", (240, 320)),
    ],
)
def test_a_data_config_as_preprocessing(changes: dict[str, Any], mode: str, covered: tuple[int, int]) -> None:
    found = preset_from_config({**CONFIG, **changes}, "x")
    assert (found.mode, found.size, found.resized_size) == (mode, (240, 320), covered)
    assert found.interpolation == ("bicubic" if "interpolation" in changes else "bilinear")


def test_a_way_of_cutting_that_we_do_not_have_is_refused() -> None:
    with pytest.raises(ModelError, match="cut by 'spiral'"):
        preset_from_config({**CONFIG, "crop_mode": "spiral"}, "x")


# timm itself.

installed = pytest.mark.skipif(find_spec("timm") is None, reason="timm is an extra")


@installed
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_atto"])
def test_timms_own_networks_and_transforms(reporter: Any, name: str) -> None:
    import timm

    loaded = load_model(f"timm:{name}", "random:1", reporter=reporter)
    assert loaded.labels == imagenet_labels()
    assert loaded.layers.resolve(["last-conv"])
    config = timm.data.resolve_model_data_config(timm.create_model(name))
    transform = timm.data.create_transform(**config)
    for file in ("chelsea.png", "rocket.jpg"):
        with Image.open(SAMPLES / file) as photo:
            mine = loaded.preprocessing.prepare(photo.convert("RGB"))[0]
            theirs = transform(photo.convert("RGB"))
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


# From each network's forward, by hand: behind a class token the input of the last attention that reads patches into it;
# else the last norm, activation or block before positions are averaged.
DEFAULTS = {
    "tf_efficientnet_lite1": "bn2",
    "vit_tiny_patch16_224": "blocks.11.norm1",
    "deit_tiny_distilled_patch16_224": "blocks.11.norm1",
    "cait_xxs24_224": "blocks_token_only.1.norm1",
    "eva02_tiny_patch14_224": "blocks.11",  # its norm comes after the average
    "beit_base_patch16_224": "blocks.11",
    "swinv2_tiny_window8_256": "norm",
    "levit_128": "stages",
    "mixer_b16_224": "norm",
    "vit_small_patch14_reg4_dinov2": "blocks.11.norm1",
    "volo_d1_224": "aux_head",  # scores of each position, whose maximum is added
    "tnt_s_patch16_224": "blocks.11.norm_out",
    "coat_tiny": "parallel_blocks.5.norm14",
    "xcit_nano_12_p16_224": "cls_attn_blocks.1.norm1",
    "resnet50_clip": "stages",
    "resnetv2_50": "norm",
    "nfnet_l0": "final_act",
    "convnext_atto": "stages",
}


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", DEFAULTS)
def test_default_layers_of_timms_networks(name: str) -> None:
    import timm

    with torch.device("meta"):
        net = timm.create_model(name).eval()
    layers = probe_layers(net, tuple(timm.data.resolve_model_data_config(net)["input_size"]), name)
    assert layers.resolve(["last-conv"]) == (DEFAULTS[name],)


@installed
def test_timms_own_checkpoint_of_another_number_of_classes(tmp_path: Path, reporter: Any) -> None:
    import timm

    mine = timm.create_model("resnet18", num_classes=9).eval()
    torch.save({"state_dict": mine.state_dict(), "arch": "resnet18", "epoch": 3}, tmp_path / "mine.pth.tar")
    loaded = load_model("timm:resnet18", str(tmp_path / "mine.pth.tar"), reporter=reporter)
    x = torch.rand(1, 3, 64, 64)
    convert_weights(mine, loaded.facts.memory_format)
    with torch.no_grad():
        assert torch.equal(loaded.net(x), mine(x))
    assert len(loaded.labels) == 9


@installed
def test_offline_nothing_is_fetched(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reporter: Any
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="--offline forbids a download"):
        load_model("timm:resnet18", offline=True, reporter=reporter)
    assert not cache.exists()


@installed
def test_every_data_config_of_timms_can_be_followed() -> None:
    import timm
    from timm.models import get_pretrained_cfg

    for name in timm.list_pretrained():
        preset_from_config(timm.data.resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict()), name)
