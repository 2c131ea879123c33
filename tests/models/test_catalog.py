"""The catalogue agrees with torchvision, and answers without it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import make_tables
import pytest
import torchvision

from cnnviz_cli.core.errors import ModelError, UsageError
from cnnviz_cli.models.input.builtin_transform import BuiltinTransform
from cnnviz_cli.models.spec import catalog
from cnnviz_cli.models.spec.weights import PublishedWeights, RandomWeights, WeightsFile, check_weights, parse_weights


def test_neither_the_catalogue_nor_the_weights_grammar_imports_torch() -> None:
    code = (
        "import sys; from cnnviz_cli.models.spec import catalog, weights; catalog.check_model('vgg16'); "
        "weights.check_weights('vgg16', 'random:3'); catalog.find_classes('cat'); "
        "print([m for m in ('torch', 'torchvision', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_models_are_the_bundled_one_and_torchvisions_by_task() -> None:
    found = {task: torchvision.models.list_models(module=module) for task, module in make_tables.TASKS.items()}
    assert {task: len(names) for task, names in found.items()} == {
        "classification": 80,
        "segmentation": 6,
        "detection": 12,
    }
    lite = tuple(f"efficientnet_lite{number}" for number in range(3))
    assert (lite, lite[0]) == (catalog.PACKAGED, catalog.BUNDLED)
    assert catalog.model_names() == (*lite, *(name for names in found.values() for name in names))
    assert catalog.model_names("classification") == (*lite, *found["classification"])
    for task in ("segmentation", "detection"):
        assert list(catalog.model_names(task)) == found[task]
        assert {catalog.model_facts(name).task for name in found[task]} == {task}


TORCHVISIONS = [name for name in catalog.model_names() if name not in catalog.PACKAGED]

METRICS = {
    "classification": ("ImageNet-1K", "acc@1"),
    "segmentation": ("COCO-val2017-VOC-labels", "miou"),
    "detection": ("COCO-val2017", "box_map"),
}


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_the_facts_are_torchvisions(name: str) -> None:
    published = torchvision.models.get_model_weights(name)
    facts = catalog.model_facts(name)
    labelled = [entry for entry in published if entry.meta["categories"]]
    assert catalog.weights_names(name) == tuple(entry.name for entry in labelled)
    assert facts.default.name == published.DEFAULT.name
    for entry, fact in zip(labelled, facts.weights, strict=True):
        assert entry.meta["num_params"] == fact.parameters
        data, metric = METRICS[facts.task]
        assert (fact.metric, fact.value) == (metric, entry.meta["_metrics"][data][metric])
        assert entry.meta["_file_size"] == fact.megabytes
        assert catalog.load_labels(fact.labels) == tuple(entry.meta["categories"])
        transforms = entry.transforms()
        if facts.task != "detection":
            side = transforms.crop_size if facts.task == "classification" else transforms.resize_size
            assert (side, fact.frozen) == ([fact.input_size], None)
        assert facts.find_weights(entry.name) == fact


@pytest.mark.parametrize(
    "name",
    [
        name if "mobilenet" in name else pytest.param(name, marks=pytest.mark.slow)
        for name in catalog.model_names("detection")
    ],
)
def test_what_the_table_says_of_detectors_is_built(name: str) -> None:
    for fact in catalog.model_facts(name).weights:
        net = make_tables.as_published(torchvision.models.get_model_weights(name)[fact.name])
        inside = BuiltinTransform.find(net)
        assert inside is not None
        assert fact.input_size == (inside.fixed_size[0] if inside.fixed_size else inside.min_size)
        frozen = {norm.eps for norm in net.modules() if isinstance(norm, torchvision.ops.FrozenBatchNorm2d)}
        assert frozen == ({fact.frozen} if fact.frozen is not None else set())


def test_only_vgg16s_weights_without_a_classifier_are_left_out() -> None:
    left_out = {
        (name, entry.name)
        for name in torchvision.models.list_models(module=torchvision.models)
        for entry in torchvision.models.get_model_weights(name)
        if entry.name not in catalog.weights_names(name)
    }
    assert left_out == {("vgg16", "IMAGENET1K_FEATURES")}


def test_every_published_file_can_be_checked() -> None:
    for name in TORCHVISIONS:
        for entry in catalog.weights_names(name):
            file = torchvision.models.get_model_weights(name)[entry].url.rpartition("/")[2]
            assert re.fullmatch(r"[\w.-]+-[0-9a-f]{8,}\.pth", file)


def test_the_lists_of_labels() -> None:
    assert len(catalog.imagenet_labels()) == 1000
    assert len(catalog.load_labels("voc")) == 21
    assert len(catalog.load_labels("coco")) == 91
    assert catalog.load_labels("person") == ("no person", "person")
    assert catalog.load_labels("voc")[15] == catalog.load_labels("coco")[1] == "person"
    assert catalog.find_classes("dog", catalog.load_labels("voc")) == [(12, "dog")]


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no model 'resnet5O'") as caught:
        catalog.check_model("resnet5O")
    assert "'resnet50'" in caught.value.fix
    with pytest.raises(UsageError) as caught:
        catalog.check_model("\x1b[31m")
    assert "\x1b" not in caught.value.what
    assert "cnnviz models" in caught.value.fix


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("tiger cat", [(282, "tiger cat")]),
        ("TABBY", [(281, "tabby")]),
        ("tabby*", [(281, "tabby")]),
        ("espress?", [(967, "espresso")]),
        ("nothing of this kind", []),
    ],
)
def test_classes_are_found_by_substring_or_glob(query: str, found: list[tuple[int, str]]) -> None:
    assert catalog.find_classes(query) == found


def test_a_substring_finds_every_class_that_holds_it() -> None:
    names = [name for _, name in catalog.find_classes("cat")]
    assert {"tiger cat", "Persian cat", "catamaran"} <= set(names)
    assert all("cat" in name.casefold() for name in names)


@pytest.mark.parametrize(
    ("model", "spec", "meaning"),
    [
        ("resnet50", "DEFAULT", PublishedWeights("IMAGENET1K_V2")),
        ("resnet50", "imagenet1k_v1", PublishedWeights("IMAGENET1K_V1")),
        ("efficientnet_lite0", "DEFAULT", PublishedWeights("BUNDLED")),
        ("efficientnet_lite0", "bundled", PublishedWeights("BUNDLED")),
        ("efficientnet_lite2", "DEFAULT", PublishedWeights("PACKAGED")),
        ("vgg16", "none", RandomWeights(0)),
        ("vgg16", "random:9223372036854775807", RandomWeights(2**63 - 1)),
    ],
)
def test_what_weights_mean(model: str, spec: str, meaning: object) -> None:
    assert parse_weights(model, spec) == meaning


def test_a_file_of_weights_is_known_by_its_ending(tmp_path: Path) -> None:
    for name in ("a.pth", "b.PT", "c.safetensors", "d.ckpt", "e.bin", "f.pth.tar"):
        path = tmp_path / name
        path.touch()
        assert parse_weights("vgg16", str(path)) == WeightsFile(path)


@pytest.mark.parametrize(
    ("spec", "said", "mends"),
    [
        ("IMAGENET1K_V3", "there are no weights 'IMAGENET1K_V3' for resnet50", "'IMAGENET1K_V1'"),
        ("", "there are no weights ''", "random:SEED"),
        ("random:", "needs a whole number", "random:0"),
        ("random:-1", "needs a whole number", "random:0"),
        ("random:1e3", "needs a whole number", "random:0"),
        ("random:9223372036854775808", "needs a whole number", "random:0"),
        ("random:" + "9" * 5000, "needs a whole number", "random:0"),
        ("random:٣", "needs a whole number", "random:0"),
        ("weights/net.weights", "must end in .pth, .pt, .safetensors", "Rename"),
    ],
)
def test_impossible_weights(spec: str, said: str, mends: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_weights("resnet50", spec)
    assert said in caught.value.what
    assert mends in caught.value.fix
    assert len(caught.value.what) < 200


def test_a_file_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        check_weights("resnet50", str(tmp_path / "none.pth"))
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ModelError, match="is not a file"):
        check_weights("resnet50", str(tmp_path / "folder.pth"))
