"""Networks of timm's from repositories of a hub, which is a server on this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub import COMMIT, EARLIER, Hub, as_json, point_at, serve
from PIL import Image

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.core.network import convert_weights
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_layers, load_model
from cnnviz_cli.models.spec.catalog import imagenet_labels
from cnnviz_cli.models.spec.network import parse_model

pytestmark = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("safetensors") is None, reason="timm is an extra"
)

SAMPLES = Path(__file__).parents[2] / "sample_images"
NAME = "timm:hf-hub:me/tiny"
CONFIG = {
    "architecture": "test_resnet",
    "num_classes": 3,
    "pretrained_cfg": {
        "num_classes": 3,
        "input_size": [3, 64, 64],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop_pct": 0.8,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "first_conv": "conv1.0",
        "classifier": "fc",
        "label_names": ["n1", "n2", "n3"],
        "label_descriptions": {"n1": "ant", "n3": "cat"},
        "license": "something that timm does not know",
    },
}


def make(seed: int = 0, **settings: Any) -> torch.nn.Module:
    import timm

    torch.manual_seed(seed)
    net: torch.nn.Module = timm.create_model("test_resnet", **{"num_classes": 3, **settings})
    return net.eval()


def packed(net: torch.nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in net.state_dict().items()})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(Hub()) as found:
        point_at(found, tmp_path / "cache", monkeypatch)
        found.add("me/tiny", {"config.json": as_json(CONFIG), "model.safetensors": packed(make())})
        yield found


def scores(loaded: LoadedModel, mine: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    convert_weights(mine, loaded.facts.memory_format)
    with torch.no_grad():
        return loaded.net(x), mine(x)


def test_network_classes_and_preprocessing_come_from_the_repository(hub: Hub, reporter: Any) -> None:
    import timm

    loaded = load_model(NAME, reporter=reporter)
    assert (loaded.name, loaded.weights, loaded.repository, loaded.commit) == (NAME, "DEFAULT", "me/tiny", COMMIT)
    assert loaded.labels == ("ant", "n2", "cat")
    assert loaded.classifier
    given, expected = scores(loaded, make())
    assert torch.equal(given, expected)
    transform = timm.data.create_transform(
        input_size=(3, 64, 64), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), crop_pct=0.8, interpolation="bicubic"
    )
    with Image.open(SAMPLES / "rocket.jpg") as photo:
        mine, theirs = loaded.preprocessing.prepare(photo.convert("RGB"))[0], transform(photo.convert("RGB"))
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)
    assert "state_dict" not in loaded.net.pretrained_cfg  # type: ignore[operator]
    size = len(hub.files["me/tiny"][COMMIT]["model.safetensors"])
    assert ("model.safetensors", size, size) in reporter.transfers

    # Once it is in the cache nothing is asked, also where nothing could be.
    del hub.asked[:]
    again = load_model(NAME, offline=True, reporter=reporter)
    assert (again.weights_sha256, again.commit, hub.asked) == (loaded.weights_sha256, COMMIT, [])


def test_a_revision_is_another_network(hub: Hub, reporter: Any) -> None:
    other = {**CONFIG, "num_classes": 2, "pretrained_cfg": {"num_classes": 2, "input_size": [3, 64, 64]}}
    hub.add("me/tiny", {"config.json": as_json(other), "pytorch_model.bin": pickled(make(5, num_classes=2))}, EARLIER)
    loaded = load_model(f"{NAME}@{EARLIER}", reporter=reporter)
    assert (loaded.commit, loaded.labels) == (EARLIER, ("0", "1"))
    given, expected = scores(loaded, make(5, num_classes=2))
    assert torch.equal(given, expected)
    assert load_model(f"{NAME}@main", reporter=reporter).commit == COMMIT


def pickled(net: Any) -> bytes:
    file = io.BytesIO()
    torch.save(net.state_dict() if isinstance(net, torch.nn.Module) else net, file)
    return file.getvalue()


class Evil:
    def __reduce__(self) -> Any:
        return print, ("code of a stranger ran",)


def test_a_pickle_that_would_run_code_is_refused(hub: Hub, reporter: Any, capsys: Any) -> None:
    hub.add("me/tiny", {"config.json": as_json(CONFIG), "pytorch_model.bin": pickled({"fc": Evil()})})
    with pytest.raises(ModelError, match="loading it could run code from the file"):
        load_model(NAME, reporter=reporter)
    assert "stranger" not in "".join(capsys.readouterr())


def test_random_weights_and_a_file_need_the_configuration_alone(hub: Hub, tmp_path: Path, reporter: Any) -> None:
    hub.add("me/tiny", {"config.json": as_json(CONFIG)})
    drawn = load_model(NAME, "random:3", reporter=reporter)
    assert (drawn.weights, drawn.labels) == ("random:3", ("ant", "n2", "cat"))
    torch.save(make(7, num_classes=5).state_dict(), tmp_path / "mine.pth")
    for loaded in (
        load_model(NAME, str(tmp_path / "mine.pth"), reporter=reporter),
        load_model(str(tmp_path / "mine.pth"), arch=NAME, reporter=reporter),
    ):
        given, expected = scores(loaded, make(7, num_classes=5))
        assert torch.equal(given, expected)
        assert (loaded.weights, loaded.labels) == ("mine.pth", tuple("01234"))
    assert load_layers(NAME, reporter=reporter).resolve(["last-conv"])
    assert not [path for path in hub.asked if "config.json" not in path]
    with pytest.raises(ModelError, match="holds no weights") as caught:
        load_model(NAME, reporter=reporter)
    assert "--weights random:0" in caught.value.fix


def test_classes_of_imagenet_where_the_name_says_so(hub: Hub, reporter: Any) -> None:
    config = {**CONFIG, "num_classes": 1000, "pretrained_cfg": {"num_classes": 1000, "input_size": [3, 64, 64]}}
    for name in ("me/tiny.r_in1k", "me/things"):
        hub.add(name, {"config.json": as_json(config)})
    labels = [
        load_model(f"timm:hf-hub:me/{name}", "none", reporter=reporter).labels for name in ("tiny.r_in1k", "things")
    ]
    assert labels == [imagenet_labels(), tuple(map(str, range(1000)))]


def test_a_configuration_from_before_it_had_parts(hub: Hub, reporter: Any) -> None:
    old = {"architecture": "test_resnet", **CONFIG["pretrained_cfg"], "labels": ["a", "b", "c"]}  # type: ignore[dict-item]
    del old["label_names"], old["label_descriptions"]
    hub.add("me/old", {"config.json": as_json(old), "pytorch_model.bin": pickled(make())})
    loaded = load_model("timm:hf-hub:me/old", reporter=reporter)
    assert (loaded.labels, loaded.preprocessing.size) == (("a", "b", "c"), (64, 64))


@pytest.mark.parametrize(
    ("model", "said", "mends"),
    [
        ("me/none", "the hub has no repository 'me/none', or it is private", "hf auth login"),
        ("me/gated", "me/gated is gated", "/me/gated, then: hf auth login"),
        ("me/tiny@v9", "me/tiny has no branch, tag or commit 'v9'", "/me/tiny/commits/main"),
        ("me/empty", "me/empty has no config.json", "another repository"),
        ("me/bad", "config.json of timm:hf-hub:me/bad is damaged", ""),
        ("me/list", "it holds list, no object", ""),
        ("me/later", "names 'resnet9000', which timm does not have", "upgrade timm"),
        ("me/other", "names no architecture", "--model transformers:me/other"),
        ("me/local", "model_args has checkpoint_path", ""),
        ("me/wrong", "the weights of timm:hf-hub:me/wrong do not fit its test_resnet", ""),
    ],
)
def test_what_cannot_be_had(hub: Hub, reporter: Any, model: str, said: str, mends: str) -> None:
    hub.gated.add("me/gated")
    for name, content in {
        "me/bad": b"{",
        "me/list": b"[]",
        "me/later": as_json({**CONFIG, "architecture": "resnet9000"}),
        "me/other": as_json({"model_type": "vit"}),
        "me/local": as_json({**CONFIG, "model_args": {"checkpoint_path": "/etc/passwd"}}),
        "me/wrong": as_json(CONFIG),
    }.items():
        hub.add(name, {"config.json": content, "model.safetensors": packed(make(num_classes=4))})
    hub.add("me/empty", {"README.md": b""})
    with pytest.raises(ModelError) as caught:
        load_model(f"timm:hf-hub:{model}", reporter=reporter)
    assert said in caught.value.what
    assert mends in caught.value.fix
    assert "\n" not in caught.value.what
    assert caught.value.code == ExitCode.MODEL


def test_a_folder_of_the_name_of_a_repository_is_pointed_at(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reporter: Any
) -> None:
    assert hub.asked == []
    (tmp_path / "nets/vit").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for offline in (True, False):
        for name in ("nets/vit", "nets/none"):
            with pytest.raises(ModelError) as caught:
                load_model(f"timm:hf-hub:{name}", offline=offline, reporter=reporter)
            assert ("--model transformers:./nets/vit" in caught.value.fix) == (name == "nets/vit")


def test_without_a_connection(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reporter: Any) -> None:
    from huggingface_hub import constants

    for variable, offline in ((False, True), (True, False)):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", variable)
        with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids") as caught:
            load_model(NAME, offline=offline, reporter=reporter)
        assert "hf download me/tiny" in caught.value.fix
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    kept = load_model(NAME, reporter=reporter)
    hub.url = "http://127.0.0.1:9"  # where nothing listens
    point_at(hub, tmp_path / "cache", monkeypatch)
    assert load_model(NAME, reporter=reporter).weights_sha256 == kept.weights_sha256
    with pytest.raises(ModelError, match="it cannot be fetched: ") as caught:
        load_model("timm:hf-hub:me/never", reporter=reporter)
    assert "HF_ENDPOINT" in caught.value.fix


@pytest.mark.parametrize(
    "text", ["", "tiny", "me/", "/tiny", "me/a/b", "me/tiny@", "../x", "me/a..b", "me/x@../y", "a b/c"]
)
def test_names_that_no_repository_has(text: str) -> None:
    with pytest.raises(UsageError, match="needs ORG/NAME after the colon") as caught:
        parse_model(f"timm:hf-hub:{text}")
    assert "timm:hf-hub:timm/resnet18.a1_in1k" in caught.value.fix


def test_without_timm_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.models.spec.hub.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="'timm:hf-hub:me/tiny' needs timm") as caught:
        parse_model(NAME)
    assert caught.value.fix == "pip install 'cnnviz-cli[timm]'"


@pytest.mark.usefixtures("hub")
def test_the_manifest_says_which_commit(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["gradcam", str(SAMPLES / "rocket.jpg"), "--model", NAME, "-o", str(out)]) == 0
    model = json.loads((out / "manifest.json").read_text())["model"]
    assert (model["name"], model["repository"], model["commit"]) == (NAME, "me/tiny", COMMIT)
    assert model["preprocessing"]["size"] == [64, 64]
