"""Networks of the library transformers, made of tiny configurations with random weights and saved to folders."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub import COMMIT, EARLIER, Hub, point_at, serve
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.core.method import find_method
from cnnviz_cli.core.network import convert_weights
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.models.input.image_processor import UnknownProcessorError, from_processor
from cnnviz_cli.models.load.built_model import set_score_threshold
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_model
from cnnviz_cli.models.spec.network import parse_model
from cnnviz_cli.run.dry_run import prices_of

pytestmark = [
    pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is an extra"),
    pytest.mark.filterwarnings("ignore"),  # the library warns of versions of its own parts
]

SAMPLES = Path(__file__).parents[2] / "sample_images"
SIDE = 64
SQUARE = {"height": SIDE, "width": SIDE}
NAMES = {0: "ant", 1: "bee", 2: "cat"}
HALVES = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}


def backbone(library: Any) -> Any:
    return library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )


def resnet(library: Any, **settings: Any) -> Any:
    config = library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=NAMES, **settings
    )
    return library.ResNetForImageClassification(config)


NETWORKS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "resnet": lambda t: (resnet(t), t.ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, **HALVES)),
    "convnext": lambda t: (
        t.ConvNextForImageClassification(
            t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, id2label=NAMES)
        ),
        t.ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, crop_pct=0.9, resample=2),
    ),
    "vit": lambda t: (
        t.ViTForImageClassification(
            t.ViTConfig(
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=SIDE,
                id2label=NAMES,
            )
        ),
        t.ViTImageProcessorPil(size=SQUARE),
    ),
    "swin": lambda t: (
        t.SwinForImageClassification(
            t.SwinConfig(image_size=SIDE, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, id2label=NAMES)
        ),
        t.ViTImageProcessorPil(size=SQUARE, resample=3, **HALVES),
    ),
    "mobilevit": lambda t: (
        t.MobileViTForImageClassification(
            t.MobileViTConfig(
                image_size=SIDE,
                hidden_sizes=[16, 16, 16],
                neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 16],
                num_attention_heads=2,
                id2label=NAMES,
            )
        ),
        t.MobileViTImageProcessorPil(size={"shortest_edge": 72}, crop_size=SQUARE),
    ),
    "segformer": lambda t: (
        t.SegformerForSemanticSegmentation(
            t.SegformerConfig(
                num_encoder_blocks=2,
                depths=[1, 1],
                sr_ratios=[4, 2],
                hidden_sizes=[8, 16],
                patch_sizes=[7, 3],
                strides=[4, 2],
                num_attention_heads=[1, 2],
                mlp_ratios=[2, 2],
                decoder_hidden_size=16,
                id2label=NAMES,
            )
        ),
        t.SegformerImageProcessorPil(size=SQUARE),
    ),
    "detr": lambda t: (
        t.DetrForObjectDetection(
            t.DetrConfig(
                use_timm_backbone=False,
                use_pretrained_backbone=False,
                backbone=None,
                backbone_config=backbone(t),
                d_model=16,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                num_queries=5,
                id2label=NAMES,
            )
        ),
        t.DetrImageProcessorPil(size={"shortest_edge": SIDE, "longest_edge": 128}),
    ),
}

LAYERS = {
    "resnet": "resnet.encoder.stages.1",
    "convnext": "convnext.encoder.stages.1",
    "vit": "vit.layers.1.layernorm_before",  # what the last attention reads the class token from
    "swin": "swin.layernorm",
    "mobilevit": "mobilevit.conv_1x1_exp",
    "segformer": "decode_head.activation",
    "detr": "model.encoder.layers.0",
}


@pytest.fixture(scope="module")
def library() -> Any:
    import transformers
    from transformers.utils import logging

    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def saved(library: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[nn.Module, Any, Path]]:
    """Each network and its image processor, and the folder that both were saved to."""
    folder, found = tmp_path_factory.mktemp("networks"), {}
    for name, make in NETWORKS.items():
        torch.manual_seed(11)
        net, processor = make(library)
        net.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
        found[name] = net.eval(), processor, folder / name
    return found


@pytest.fixture(scope="module")
def opened(saved: Any) -> Callable[[str], tuple[LoadedModel, list[str]]]:
    """A network by its name, loaded once for all tests, and what was said meanwhile."""

    @cache
    def load(name: str) -> tuple[LoadedModel, list[str]]:
        said: list[str] = []
        reporter = Reporter()
        reporter.say = said.append  # type: ignore[method-assign]
        return load_model(f"transformers:{saved[name][2]}", reporter=reporter), said

    return load


def outputs(loaded: LoadedModel, mine: Any) -> tuple[Any, Any, torch.Tensor]:
    x = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    convert_weights(mine, loaded.facts.memory_format)
    with torch.no_grad():
        return loaded.net(x), mine(pixel_values=x), x


@pytest.mark.parametrize("name", NETWORKS)
def test_network_classes_layers_and_preprocessing(saved: Any, opened: Any, name: str) -> None:
    processor = saved[name][1]
    loaded, said = opened(name)
    assert (loaded.name, loaded.weights, loaded.commit) == (f"transformers:{name}", "DEFAULT", "")
    assert loaded.labels == ("ant", "bee", "cat")
    assert loaded.layers.resolve(["last-conv"]) == (LAYERS[name],)
    assert not said
    height, width = loaded.layers[LAYERS[name]].shape[1:]
    assert height == width > 1  # a list of tokens is a map, too

    for size in ((451, 300), (300, 427), (96, 64) if name == "detr" else (131, 99)):
        with Image.open(SAMPLES / "chelsea.png") as photo:
            image = photo.convert("RGB").resize(size)
        expected = np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]
        given = loaded.preprocessing.prepare(image)[0].numpy()
        if name == "mobilevit":
            given = given[::-1]  # the network turns red and blue itself
        if expected.shape == given.shape or name != "detr":  # its longer side is a multiple of 32
            np.testing.assert_allclose(given, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "convnext", "vit", "swin"])
def test_scores_are_the_librarys(saved: Any, opened: Any, name: str) -> None:
    given, expected, _ = outputs(opened(name)[0], saved[name][0])
    torch.testing.assert_close(given, expected.logits, rtol=1e-4, atol=1e-5)


def test_a_network_of_blue_green_red(opened: Any) -> None:
    net, seen = opened("mobilevit")[0].net, list[torch.Tensor]()
    handle = net.get_submodule("mobilevit.conv_stem").register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        net(x)
    handle.remove()
    assert torch.equal(seen[0], x.flip(1))


def test_a_segmenter_is_enlarged_as_the_library_does(saved: Any, opened: Any) -> None:
    mine, processor, _ = saved["segformer"]
    given, expected, _ = outputs(opened("segformer")[0], mine)
    enlarged = interpolate(expected.logits, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(given, enlarged, rtol=1e-4, atol=1e-5)
    theirs = processor.post_process_semantic_segmentation(expected, target_sizes=[(SIDE, SIDE)] * 2)
    assert torch.equal(given.argmax(1), torch.stack(theirs))


def test_boxes_are_the_librarys(saved: Any, opened: Any) -> None:
    mine, processor, _ = saved["detr"]
    given, expected, _ = outputs(opened("detr")[0], mine)
    theirs = processor.post_process_object_detection(expected, threshold=0.05, target_sizes=[(SIDE, SIDE)] * 2)
    for one, other in zip(given, theirs, strict=True):
        assert len(one["scores"]) == 5
        for part in ("boxes", "scores", "labels"):
            torch.testing.assert_close(one[part], other[part], rtol=1e-4, atol=1e-3)


def test_boxes_where_nothing_is_a_class_of_its_own() -> None:
    from types import SimpleNamespace

    from cnnviz_cli.models.load.transformers import _to_boxes

    logits = torch.tensor([[[0.0, 1.0, 3.0], [2.0, 0.0, -1.0]]])  # the last is of no object
    output = SimpleNamespace(logits=logits, pred_boxes=torch.full((1, 2, 4), 0.5))
    (found,) = _to_boxes(2, SimpleNamespace(score_thresh=0.05), (torch.zeros(1, 3, 10, 10),), output)
    assert found["labels"].tolist() == [1, 0]
    torch.testing.assert_close(found["scores"], torch.stack([logits[0, 0].softmax(0)[1], logits[0, 1].softmax(0)[0]]))


def test_boxes_where_each_class_is_scored_by_itself() -> None:
    from types import SimpleNamespace

    from cnnviz_cli.models.load.transformers import _to_boxes

    output = SimpleNamespace(
        logits=torch.tensor([[[0.0, 2.0], [-1.0, -9.0]]]),
        pred_boxes=torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.25, 0.5, 0.5, 1.0]]]),
    )
    net = SimpleNamespace(score_thresh=0.05)
    (found,) = _to_boxes(2, net, (torch.zeros(1, 3, 100, 200),), output)
    assert found["labels"].tolist() == [1, 0, 0]
    torch.testing.assert_close(found["scores"], torch.tensor([2.0, 0.0, -1.0]).sigmoid())
    expected = torch.tensor([[80.0, 30, 120, 70], [80, 30, 120, 70], [0, 0, 100, 100]])
    torch.testing.assert_close(found["boxes"], expected)


def test_a_run_of_a_folder(saved: Any, tmp_path: Path) -> None:
    folder = saved["vit"][2]
    assert (
        main(["gradcam", str(SAMPLES / "rocket.jpg"), "-m", f"transformers:{folder}", "-o", str(tmp_path / "o")]) == 0
    )
    text = (tmp_path / "o" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["model"]["name"] == "transformers:vit"
    assert "repository" not in manifest["model"]
    assert str(folder.parent) not in text.replace(json.dumps(str(folder)), "")


METHODS = ("gradcam", "gradient", "deconvnet", "guided-backprop", "feature-maps", "eigencam", "integrated-gradients")


@pytest.mark.parametrize("name", NETWORKS)
def test_methods_of_every_family(opened: Any, name: str) -> None:
    loaded, _ = opened(name)
    prices = prices_of(loaded, [find_method(method) for method in METHODS])
    assert {method: price.refusal for method, price in prices.items() if price.refusal} == {}


def test_random_weights_and_a_file_of_another_number_of_classes(
    library: Any, saved: Any, tmp_path: Path, reporter: Any
) -> None:
    folder = saved["resnet"][2]
    drawn = [load_model(f"transformers:{folder}", f"random:{seed}", reporter=reporter) for seed in (3, 3)]
    assert drawn[0].weights_sha256 == drawn[1].weights_sha256
    other = resnet(library)
    other.classifier[1] = nn.Linear(16, 5)
    torch.save(other.eval().state_dict(), tmp_path / "mine.pth")
    loaded = load_model(str(tmp_path / "mine.pth"), arch=f"transformers:{folder}", reporter=reporter)
    given, expected, _ = outputs(loaded, other)
    torch.testing.assert_close(given, expected.logits)
    assert loaded.labels == tuple("01234")


def test_min_score_of_boxes(saved: Any, opened: Any) -> None:
    loaded = opened("detr")[0]
    given, *_ = outputs(loaded, saved["detr"][0])
    scores = given[0]["scores"]
    limit = float(scores.median())
    assert set_score_threshold(loaded.net, limit) == 1
    try:
        again, *_ = outputs(loaded, saved["detr"][0])
    finally:
        set_score_threshold(loaded.net, 0.05)
    assert torch.equal(again[0]["scores"], scores[scores > limit])


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is an extra")
def test_a_backbone_of_timms_is_not_downloaded(tmp_path: Path, reporter: Any) -> None:
    # As most DETRs are published.
    config = {
        "architectures": ["DetrForObjectDetection"], "model_type": "detr", "backbone": "test_resnet",
        "use_timm_backbone": True, "use_pretrained_backbone": True, "d_model": 16, "encoder_layers": 1,
        "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32, "num_queries": 5, "id2label": {"0": "N/A", "1": "person"},
    }  # fmt: skip
    processor = {"feature_extractor_type": "DetrFeatureExtractor", "do_resize": True, "size": 64, "max_size": 133}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    loaded = load_model(f"transformers:{tmp_path}", "random:0", offline=True, reporter=reporter)
    assert (loaded.returns, loaded.labels) == ("boxes", ("N/A", "person"))
    assert (loaded.preprocessing.side, loaded.preprocessing.most) == (64, 128)


# Folders with something else in them.


@pytest.fixture
def copy(saved: Any, tmp_path: Path) -> Path:
    """A copy of a network's folder, to be changed."""
    return Path(shutil.copytree(saved["resnet"][2], tmp_path / "resnet"))


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_code_of_a_repository_is_never_run(copy: Path, reporter: Any) -> None:
    (copy / "theirs.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    entry = {"AutoConfig": "theirs.Config", "AutoModelForImageClassification": "theirs.Net"}
    change(copy / "config.json", model_type="theirs", auto_map=entry)
    change(copy / "preprocessor_config.json", auto_map={"AutoImageProcessor": "theirs.Processor"})
    with pytest.raises(ModelError, match=r"own code \(auto_map\), which is never run"):
        load_model(f"transformers:{copy}", reporter=reporter)
    change(copy / "config.json", model_type="resnet")
    load_model(f"transformers:{copy}", reporter=reporter)  # by the library's own class
    assert not (copy / "ran").exists()
    assert "theirs" not in sys.modules


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "holds BertForMaskedLM, which cannot be explained"),
        ({"architectures": ["ResNetModel"]}, "holds ResNetModel, which cannot be explained"),
        ({"architectures": None}, "holds no architecture that is named"),
        ({"model_type": "resnet9"}, "does not know the network of transformers:resnet"),
        ({"hidden_sizes": [8, 24]}, "tensors of transformers:resnet have other sizes than its config.json says"),
        ({"depths": [2, 10**7]}, "'depths' is more than the 2,000 layers of any network"),
        ({"backbone_config": {"num_hidden_layers": 10**7}}, "'num_hidden_layers' is more than the 2,000 layers"),
        ({"depths": [2, 1]}, "lack 12 tensors of ResNetForImageClassification"),
    ],
)
def test_configurations_that_do_not_fit(copy: Path, reporter: Any, settings: dict[str, Any], said: str) -> None:
    change(copy / "config.json", **settings)
    with pytest.raises(ModelError) as caught:
        load_model(f"transformers:{copy}", reporter=reporter)
    assert said in caught.value.what
    assert "\n" not in caught.value.what
    assert caught.value.code == ExitCode.MODEL


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"size": {"shortest_edge": 64, "longest_edge": 90}, "do_center_crop": True, "crop_size": SQUARE}, "size"),
        ({"size": {"shortest_edge": 50}, "do_center_crop": True, "crop_size": SQUARE}, "crop_size"),
        ({"size": {"shortest_edge": 64}}, "do_center_crop"),
        ({"do_resize": False}, "do_resize"),
        ({"do_rescale": False}, "do_rescale"),
        ({"rescale_factor": 1e308}, "rescale_factor"),
        ({"image_mean": [float("nan")] * 3}, "image_mean"),
        ({"image_std": [float("inf")] * 3}, "image_std"),
        ({"size": {"height": 90, "width": 90}, "do_center_crop": True, "crop_size": SQUARE}, "crop_size"),
        (
            {"image_processor_type": "DPTImageProcessor", "size": SQUARE, "size_divisor": 48, "do_pad": True},
            "size_divisor",
        ),
        ({"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": SIDE}, "crop_size": SQUARE}, ""),
    ],
)
def test_an_image_processor_that_cannot_be_followed_is_refused(
    copy: Path, reporter: Any, settings: dict[str, Any], fields: str
) -> None:
    base = {"image_processor_type": "CLIPImageProcessor", "size": SQUARE, "do_center_crop": False}
    (copy / "preprocessor_config.json").write_text(json.dumps({**base, **settings}))
    with pytest.raises(ModelError, match="cannot be followed exactly: ") as caught:
        load_model(f"transformers:{copy}", reporter=reporter)
    assert fields in caught.value.what
    assert "--input-size" in caught.value.fix


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 72}, "crop_size": SQUARE},
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": 72},
            "crop_size": {"height": 40, "width": 64},
        },
        {
            "image_processor_type": "EfficientNetImageProcessor",
            "size": SQUARE,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
        },
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "resample": 3},
        {"feature_extractor_type": "ViTFeatureExtractor", "size": 64},
        {"image_processor_type": "BeitImageProcessor", "size": SQUARE, "do_normalize": False},
    ],
)
def test_other_forms_of_size_crop_and_scale(library: Any, copy: Path, settings: dict[str, Any]) -> None:
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    processor = library.AutoImageProcessor.from_pretrained(str(copy), backend="pil")
    preprocessing = from_processor(processor, "scores").preprocessing
    with Image.open(SAMPLES / "rocket.jpg") as photo:
        for size in ((451, 300), (203, 367)):
            image = photo.convert("RGB").resize(size)
            expected = np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]
            np.testing.assert_allclose(preprocessing.prepare(image)[0].numpy(), expected, atol=1e-4)


def test_a_processor_that_says_one_thing_and_does_another() -> None:
    class Odd:
        def to_dict(self) -> dict[str, Any]:
            return {"do_resize": True, "do_rescale": True, "size": SQUARE, "secret": 1}

        def __call__(self, _image: Any, **_how: Any) -> dict[str, Any]:
            return {"pixel_values": np.zeros((1, 3, SIDE, SIDE))}

    with pytest.raises(UnknownProcessorError) as caught:
        from_processor(Odd(), "scores")
    assert caught.value.fields == ("secret",)


def test_without_an_image_processor_the_defaults_are_said(copy: Path, reporter: Any) -> None:
    (copy / "preprocessor_config.json").unlink()
    loaded = load_model(f"transformers:{copy}", reporter=reporter)
    assert (loaded.preprocessing.size, loaded.preprocessing.resized_size) == ((224, 224), (256, 256))
    (said,) = reporter.said
    assert "has no image processor: its input is prepared as for most ImageNet networks" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("transformers:./none", "there is no folder './none'"),
        ("transformers:{here}/file", "is not a folder"),
        ("transformers:resnet", "needs ORG/NAME after the colon"),
        ("transformers:", "needs ORG/NAME after the colon"),
    ],
)
def test_names_that_lead_nowhere(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((UsageError, ModelError)) as caught:
        parse_model(text.format(here=tmp_path))
    assert said in caught.value.what
    assert caught.value.fix


def test_without_the_library_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.models.spec.hub.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="'transformers:me/net' needs transformers") as caught:
        parse_model("transformers:me/net")
    assert caught.value.fix == "pip install 'cnnviz-cli[transformers]'"


def test_another_version_of_the_library(saved: Any, monkeypatch: pytest.MonkeyPatch, reporter: Any) -> None:
    monkeypatch.setattr("transformers.__version__", "4.57.1")
    with pytest.raises(ModelError, match=r"needs transformers 5, and 4\.57\.1 is installed"):
        load_model(f"transformers:{saved['resnet'][2]}", reporter=reporter)


# Repositories.


@pytest.fixture
def hub(saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(Hub()) as found:
        point_at(found, tmp_path / "cache", monkeypatch)
        found.add_folder("me/net", saved["resnet"][2])
        yield found


def test_a_repository_and_its_cache(hub: Hub, saved: Any, reporter: Any) -> None:
    loaded = load_model("transformers:me/net", reporter=reporter)
    assert (loaded.name, loaded.repository, loaded.commit) == ("transformers:me/net", "me/net", COMMIT)
    given, expected, _ = outputs(loaded, saved["resnet"][0])
    torch.testing.assert_close(given, expected.logits)
    del hub.asked[:]
    again = load_model("transformers:me/net", offline=True, reporter=reporter)
    assert (again.weights_sha256, again.preprocessing, hub.asked) == (loaded.weights_sha256, loaded.preprocessing, [])
    with pytest.raises(ModelError, match="has no branch, tag or commit 'v2'"):
        load_model("transformers:me/net@v2", reporter=reporter)
    hub.add("me/timm", {"config.json": b'{"architecture": "resnet18"}'})
    with pytest.raises(ModelError, match="is a network of timm's") as caught:
        load_model("transformers:me/timm", reporter=reporter)
    assert caught.value.fix == "--model timm:hf-hub:me/timm"


def test_weights_in_parts_and_in_half_precision(hub: Hub, saved: Any, tmp_path: Path, reporter: Any) -> None:
    mine = saved["resnet"][0]
    mine.save_pretrained(tmp_path / "parts", max_shard_size="8KB")
    parts = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert sum(name.endswith(".safetensors") for name in parts) > 1
    hub.add("me/net", parts, EARLIER)
    loaded = load_model(f"transformers:me/net@{EARLIER}", reporter=reporter)
    given, expected, _ = outputs(loaded, mine)
    torch.testing.assert_close(given, expected.logits)
    index = json.loads(parts["model.safetensors.index.json"])
    index["weight_map"]["classifier.1.bias"] = "../../elsewhere.safetensors"
    hub.add("me/evil", {**parts, "model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(ModelError, match="does not name files beside it"):
        load_model("transformers:me/evil", reporter=reporter)
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in mine.state_dict().items()
    }
    torch.save(halves, tmp_path / "halves.bin")
    config = (saved["resnet"][2] / "config.json").read_bytes()
    hub.add("me/half", {"config.json": config, "pytorch_model.bin": (tmp_path / "halves.bin").read_bytes()})
    loaded = load_model("transformers:me/half", reporter=reporter)
    assert {tensor.dtype for tensor in loaded.net.parameters()} == {torch.float32}
