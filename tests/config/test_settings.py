"""The one model behind flags, variables and YAML; and what the manifest records of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
import yaml

from cnnviz_cli.config.fields import Flag
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.names import environment_variable, field_at, flag_name, setting_paths
from cnnviz_cli.config.settings import config_schema, settings_type
from cnnviz_cli.core.families import FAMILIES
from cnnviz_cli.core.method import Recipe, method, methods, option

ROOT = Path(__file__).parents[2]


def test_every_setting_has_help_a_panel_a_flag_and_a_variable() -> None:
    kind = settings_type("all")
    assert len({flag_name(path, "all") for path in setting_paths(kind)}) == len(setting_paths(kind))
    for path in setting_paths(kind):
        field = field_at(kind, path)
        assert field.description, path
        assert any(isinstance(item, Flag) and item.panel for item in field.metadata), path
    assert (environment_variable(("gradcam", "layer")), flag_name(("gradcam", "layer"), "all")) == (
        "CNNVIZ_GRADCAM__LAYER",
        "--gradcam-layer",
    )
    assert flag_name(("gradcam", "layer"), "gradcam") == "--layer"
    assert flag_name(("batch_size",), "all") == "--batch-size"


def test_every_option_of_every_method_is_a_setting_with_its_default() -> None:
    single, together = load_settings("x", {}, None, {}), load_settings("all", {}, None, {})
    for registered in methods():
        for item in fields(registered.options):
            assert getattr(single.section(registered.family), item.name) == item.default
            expected = item.metadata.get("in_all", item.default)
            assert getattr(together.section(registered.family), item.name) == expected


def test_chosen_methods_come_with_their_options_each_once() -> None:
    flags = {("deconv", "method"): ["class", "deconvnet", "class"], ("deconv", "maps"): "2"}
    (first, nothing), (second, options) = load_settings("deconv", flags, None, {}).selected_methods("deconv")
    assert (first.name, second.name) == ("class", "deconvnet")
    assert nothing == first.options()
    assert options == second.options(maps=2)


def test_a_new_method_is_a_setting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.core.method._METHODS", {m.name: m for m in methods()})

    @dataclass(frozen=True, slots=True)
    class Options:
        laps: int = option(5, "How many.", at_least=2)
        sizes: tuple[int, ...] = option((1, 2), "Which.", at_least=1)
        mode: Literal["a", "b"] = option("a", "How.")

    @method("made-up", family="saliency", options=Options, paper="none")
    def made_up(_options: Options, _scope: Any) -> Recipe:
        """Nothing."""
        return Recipe((), lambda _evidence: [])

    environ = {"CNNVIZ_SALIENCY__SIZES": "[3, 4]", "CNNVIZ_SALIENCY__LAPS": "2"}
    ((found, options),) = load_settings(
        "saliency", {("saliency", "method"): ["made-up"]}, None, environ
    ).selected_methods("saliency")
    assert found.name == "made-up"
    assert options == Options(laps=2, sizes=(3, 4))
    for name, value in (("LAPS", "1"), ("SIZES", "[1, 0]"), ("MODE", "c")):
        with pytest.raises(Exception, match="must be"):
            load_settings("saliency", {}, None, {f"CNNVIZ_SALIENCY__{name}": value})


def test_settings_cannot_be_changed() -> None:
    settings = load_settings("all", {}, None, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.alpha = 0.1  # type: ignore[misc]


def test_the_record_names_no_place_and_only_what_is_run() -> None:
    flags = {
        ("output",): Path("/somewhere/out"),
        ("weights",): "/home/me/net.pth",
        ("weights_mirror",): "https://example.org",
        ("offline",): True,
        ("recursive",): True,
    }
    record = load_settings("gradcam", flags, None, {}).as_json()
    assert record["weights"] == "net.pth"
    assert list(record) == sorted(record)
    assert not {"output", "weights_mirror", "offline", "recursive"} & set(record)
    assert set(FAMILIES) & set(record) == {"gradcam"}
    assert set(FAMILIES) <= set(load_settings("all", {}, None, {}).as_json())
    assert record == load_settings("gradcam", {("weights",): "net.pth"}, None, {}).as_json()


@pytest.mark.parametrize(
    ("model", "recorded"),
    [
        ("transformers:./nets/swin", "transformers:./swin"),
        ("transformers:/home/me/swin/", "transformers:./swin"),
        (r"transformers:C:\nets\swin", "transformers:./swin"),
        ("transformers:microsoft/resnet-50@refs/pr/3", "transformers:microsoft/resnet-50@refs/pr/3"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "timm:hf-hub:timm/resnet18.a1_in1k"),
        ("timm:resnet18", "timm:resnet18"),
        ("nets/r18.onnx", "r18.onnx"),
        ("mypkg.nets:build", "mypkg.nets:build"),
    ],
)
def test_of_a_model_the_record_has_what_asks_for_it_and_no_place(model: str, recorded: str) -> None:
    """Two repositories may have networks of one name."""
    assert load_settings("gradcam", {("model",): model}, None, {}).as_json()["model"] == recorded


def test_the_digest_is_that_of_the_record() -> None:
    settings = load_settings("gradcam", {}, None, {})
    text = json.dumps(settings.as_json(), sort_keys=True, separators=(",", ":"))
    assert settings.config_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert settings.config_sha256 == load_settings("gradcam", {("output",): "elsewhere"}, None, {}).config_sha256
    assert settings.config_sha256 != load_settings("gradcam", {("alpha",): "0.5"}, None, {}).config_sha256


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_configurations_are_valid_and_name_layers_that_exist(path: Path) -> None:
    from cnnviz_cli.models.spec.catalog import check_model
    from cnnviz_cli.models.spec.weights import check_weights

    settings = load_settings("all", {}, path, {})
    check_model(settings.model)
    check_weights(settings.model, settings.weights)
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), config_schema())


def test_the_four_configurations_are_there() -> None:
    names = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    assert names == {"efficientnet_lite0", "vgg16", "resnet50", "smoke"}


@pytest.mark.parametrize(
    "bad",
    [
        {"alhpa": 1},
        {"alpha": 2},
        {"target": []},
        {"deconv": {"maps": 0}},
        {"deconv": {"method": "clas"}},
        {"device": "gpu"},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(bad: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(config_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, config_schema())
