"""Image-text networks of open_clip, from a hub that is a server on this machine; the library itself is the peer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub import COMMIT, Hub, as_json, point_at, serve
from PIL import Image
from torch import Tensor

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.errors import ExitCode, ModelError, UsageError
from cnnviz_cli.core.prompts import Prompts
from cnnviz_cli.files.tables.prompts import read_prompts
from cnnviz_cli.models.load.loaded_model import LoadedModel, load_layers, load_model
from cnnviz_cli.models.spec.network import parse_model
from cnnviz_cli.models.spec.weights import check_weights

pytestmark = pytest.mark.skipif(find_spec("open_clip") is None, reason="open_clip is an extra")

SAMPLES = Path(__file__).parents[2] / "sample_images"
NAME = "open_clip:hf-hub:me/tiny"
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
RESNET = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
    "text_cfg": TEXT,
}
VIT = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 8, "patch_size": 16},
    "text_cfg": TEXT,
}
PREPROCESS = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bicubic", "resize_mode": "shortest"}
CATS = Prompts(("cat", "cup"), (("a photo of a cat", "a cat"), ("a photo of a cup",)), "0" * 64)


def make(config: dict[str, Any], seed: int = 0) -> Any:
    """The library's own network, with weights that differ from one another as trained ones do."""
    import open_clip

    torch.manual_seed(seed)
    net = open_clip.CLIP(**deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net


def packed(net: torch.nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in net.state_dict().items()})


def files(config: dict[str, Any], preprocess: Any = PREPROCESS) -> dict[str, bytes]:
    stated = {"model_cfg": config, "preprocess_cfg": preprocess}
    return {"open_clip_config.json": as_json(stated), "open_clip_model.safetensors": weights_of(json.dumps(config))}


@cache
def weights_of(config: str) -> bytes:
    return packed(make(json.loads(config)))


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(Hub()) as found:
        point_at(found, tmp_path / "cache", monkeypatch)
        found.add("me/tiny", files(RESNET))
        found.add("me/vit", files(VIT))
        yield found


def tokens(*sentences: str) -> Tensor:
    import open_clip

    found: Tensor = open_clip.SimpleTokenizer(context_length=20)(list(sentences))
    return found


def some_inputs() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "config"), [("me/tiny", RESNET), ("me/vit", VIT)])
def test_embeddings_are_the_librarys(reporter: Any, name: str, config: dict[str, Any]) -> None:
    loaded = load_model(f"open_clip:hf-hub:{name}", reporter=reporter)
    assert (loaded.weights, loaded.repository, loaded.commit) == ("DEFAULT", name, COMMIT)
    assert loaded.embeds
    assert not loaded.classifier
    mine = make(config)
    assert loaded.text is not None
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(some_inputs()), mine.encode_image(some_inputs()), rtol=1e-5, atol=1e-6)
        told = mine.encode_text(tokens("a cat", "two dogs"))
    torch.testing.assert_close(loaded.text(["a cat", "two dogs"]), told, rtol=1e-5, atol=1e-6)


def test_many_sentences_are_read_in_parts(reporter: Any) -> None:
    loaded = load_model(NAME, reporter=reporter)
    assert loaded.text is not None
    sentences = [f"a photo of {number} cats" for number in range(130)]
    whole = loaded.text(sentences)
    assert whole.shape == (130, 24)
    torch.testing.assert_close(whole[[0, 64, 129]], loaded.text([sentences[at] for at in (0, 64, 129)]))


def test_zero_shot_scores_worked_out_by_hand(reporter: Any) -> None:
    loaded = load_model(NAME, prompts=CATS, reporter=reporter)
    assert loaded.labels == ("cat", "cup")
    assert loaded.classifier
    assert loaded.prompts_sha256 == "0" * 64
    mine = make(RESNET).double()
    with torch.no_grad():
        image = mine.encode_image(some_inputs().double())
        text = mine.encode_text(tokens("a photo of a cat", "a cat", "a photo of a cup"))
        expected = torch.zeros(2, 2, dtype=torch.float64)
        for row in range(2):
            z = image[row] / image[row].norm()
            first, second, cup = (one / one.norm() for one in text)
            cat = (first + second) / 2
            expected[row, 0] = mine.logit_scale.exp() * (z @ cat) / cat.norm()
            expected[row, 1] = mine.logit_scale.exp() * (z @ cup)
        found = loaded.net(some_inputs())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_bias_is_added_to_every_score(hub: Hub, reporter: Any) -> None:
    config = RESNET | {"init_logit_scale": 1.5, "init_logit_bias": -10.0}
    hub.add("me/biased", files(config))
    net = load_model("open_clip:hf-hub:me/biased", prompts=CATS, reporter=reporter)
    mine = make(config)
    assert mine.logit_bias.item() != 0
    with torch.no_grad():
        z = torch.nn.functional.normalize(mine.encode_image(some_inputs()), dim=-1)
        t = torch.nn.functional.normalize(mine.encode_text(tokens("a photo of a cup"))[0], dim=-1)
        expected = mine.logit_scale.exp() * (z @ t) + mine.logit_bias
        torch.testing.assert_close(net.net(some_inputs())[:, 1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("sample", ["chelsea.png", "rocket.jpg"])
def test_the_input_is_the_librarys(hub: Hub, reporter: Any, mode: str, sample: str) -> None:
    import open_clip

    hub.add("me/tiny", files(RESNET, PREPROCESS | {"resize_mode": mode}))
    loaded = load_model(NAME, reporter=reporter)
    image = Image.open(SAMPLES / sample).convert("RGB")
    settings = open_clip.transform.PreprocessCfg(size=64, **{**PREPROCESS, "resize_mode": mode})
    expected = open_clip.transform.image_transform_v2(settings, is_train=False)(image)
    found = loaded.preprocessing.prepare(image)[0]
    # Pillow rounds to 8 bits in both; the cut may lie a pixel elsewhere for odd sizes, which these are not.
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), atol=1e-6)


def test_an_unknown_way_to_resize_is_refused(hub: Hub, reporter: Any) -> None:
    hub.add("me/tiny", files(RESNET, PREPROCESS | {"resize_mode": "longest"}))
    with pytest.raises(ModelError, match="longest, bicubic"):
        load_model(NAME, reporter=reporter)


def test_weights_are_drawn_or_from_a_file(reporter: Any, tmp_path: Path) -> None:
    one, again, other = (load_model(NAME, f"random:{seed}", reporter=reporter) for seed in (3, 3, 4))
    assert one.weights_sha256 == again.weights_sha256 != other.weights_sha256
    file = tmp_path / "mine.safetensors"
    file.write_bytes(packed(make(RESNET, 7)))
    loaded = load_model(NAME, str(file), reporter=reporter)
    assert loaded.weights == "mine.safetensors"
    with torch.no_grad():
        torch.testing.assert_close(loaded.net(some_inputs()), make(RESNET, 7).encode_image(some_inputs()))


def test_a_tag_names_the_repository_of_its_weights(hub: Hub, reporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    monkeypatch.setattr(open_clip, "get_model_config", lambda _: deepcopy(VIT | {"quick_gelu": False}))
    hub.add("timm/vit_base_patch32_clip_224.openai", files(VIT))
    loaded = load_model("open_clip:ViT-B-32/openai", reporter=reporter)
    assert loaded.weights == "openai"
    assert loaded.preprocessing.mean == (0.48145466, 0.4578275, 0.40821073)
    with torch.no_grad():  # the tag's own activation, quick GELU
        torch.testing.assert_close(loaded.net(some_inputs()), make(VIT).encode_image(some_inputs()))


def test_layers_are_known_without_weights(hub: Hub, reporter: Any) -> None:
    assert load_layers(NAME, reporter=reporter).resolve(["visual.layer4.0"])
    assert not [path for path in hub.asked if "safetensors" in path]


def damaged(**changes: Any) -> dict[str, bytes]:
    return {"open_clip_config.json": as_json({"model_cfg": RESNET | changes, "preprocess_cfg": {}})}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"open_clip_config.json": b"{}"}, "it describes no network in model_cfg"),
        ({"open_clip_config.json": b"{"}, "is damaged"),
        ({"config.json": b"{}"}, "has no open_clip_config.json"),
        (damaged(vision_cfg={"layers": 10**9}), "'layers' is 1,000,000,000"),
        (damaged(vision_cfg={"layers": [1, 1, 10**9, 1]}), "more than in any network"),
        (damaged(text_cfg=TEXT | {"vocab_size": 10**12}), "'vocab_size' is"),
        (damaged(embed_dim=float("nan")), "'embed_dim' is nan"),
        (damaged(unheard_of=1), "open_clip cannot make"),
        (damaged(), "holds no weights"),
    ],
)
def test_repositories_that_are_refused(hub: Hub, reporter: Any, content: dict[str, bytes], said: str) -> None:
    hub.add("me/bad", content)
    with pytest.raises(ModelError, match=said):
        load_model("open_clip:hf-hub:me/bad", reporter=reporter)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("open_clip:", UsageError, "needs a name of open_clip's"),
        ("open_clip:a/b/c", UsageError, "needs a name of open_clip's"),
        ("open_clip:../x", UsageError, "needs a name of open_clip's"),
        ("open_clip:hf-hub:only", UsageError, "needs ORG/NAME"),
        ("open_clip:ViT-B-3", UsageError, "open_clip has no network 'ViT-B-3'"),
        ("open_clip:ViT-B-32/opena", UsageError, "no weights 'opena'"),
        ("open_clip:ViT-B-32", ModelError, "does not say which weights"),
    ],
)
def test_names_that_are_refused(reporter: Any, name: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        load_model(name, reporter=reporter)


def test_a_model_with_a_tag_is_no_path() -> None:
    assert parse_model("open_clip:ViT-B-32/openai").weights is None
    check_weights("open_clip:ViT-B-32/openai", "DEFAULT")
    with pytest.raises(UsageError, match="there are no weights 'openai'") as caught:
        check_weights("open_clip:ViT-B-32", "openai")
    assert "--model open_clip:ViT-B-32/TAG" in caught.value.fix


def test_a_sentence_that_is_too_long_is_refused(reporter: Any) -> None:
    loaded = load_model(NAME, reporter=reporter)
    assert loaded.text is not None
    loaded.text(["cat " * 18])
    with pytest.raises(UsageError, match="has 21 tokens, and open_clip:hf-hub:me/tiny reads 20"):
        loaded.text(["cat " * 19])
    with pytest.raises(UsageError) as caught:
        load_model(NAME, prompts=Prompts(("a", "b"), (("cat " * 19,), ("b",)), ""), reporter=reporter)
    assert caught.value.where == "--prompts"


def test_a_tokenizer_that_cannot_be_had_is_told(hub: Hub, reporter: Any) -> None:
    hub.add("me/other", files(RESNET | {"text_cfg": TEXT | {"hf_tokenizer_name": "me/absent"}}))
    loaded: LoadedModel = load_model("open_clip:hf-hub:me/other", reporter=reporter)
    assert loaded.text is not None
    with pytest.raises(ModelError, match="the tokenizer of open_clip:hf-hub:me/other is unavailable"):
        loaded.text(["a cat"])


def run(*words: str) -> tuple[int, dict[str, Any]]:
    code = main([*words, "--output", "out", "--force", "--quiet", "--workers", "0", "--device", "cpu"])
    return code, json.loads(Path("out/manifest.json").read_text()) if code in (0, 3) else {}


@pytest.mark.parametrize("name", ["me/tiny", "me/vit"])
def test_an_image_is_compared_with_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = str(SAMPLES / "chelsea.png")
    words = ["gradcam", image, "--model", f"open_clip:hf-hub:{name}", "--objective", "text:a photo of a cat"]
    code, manifest = run(*words, "--save-arrays")
    assert code == 0
    (output,) = manifest["images"][0]["outputs"]
    assert output["target"]["label"] == 'similar to "a photo of a cat"'
    mine = make(RESNET if name == "me/tiny" else VIT)
    loaded_input = torch.from_numpy(_input_of(image))
    with torch.no_grad():
        z, t = mine.encode_image(loaded_input)[0], mine.encode_text(tokens("a photo of a cat"))[0]
    assert output["target"]["similarity"] == pytest.approx(float(torch.cosine_similarity(z, t, dim=0)), abs=1e-5)
    assert manifest["run"]["config"]["objective"] == "text:a photo of a cat"


def _input_of(image: str) -> np.ndarray[Any, Any]:
    import open_clip

    settings = open_clip.transform.PreprocessCfg(size=64, **PREPROCESS)
    found = open_clip.transform.image_transform_v2(settings, is_train=False)(Image.open(image).convert("RGB"))
    return np.asarray(found[None].numpy())


def test_gradients_occlusion_and_cams_answer_a_sentence_as_autograd_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = str(SAMPLES / "chelsea.png")
    words = ["all", image, "--model", NAME, "--objective", "text:a cat", "--save-arrays"]
    layer = ("--gradcam-layer", "visual.layer1")
    code, manifest = run(*words, "--method", "gradient,occlusion,gradcam,rise", "--saliency-masks", "20", *layer)
    assert code == 0
    arrays = np.load(tmp_path / "out" / manifest["images"][0]["arrays"]["path"])
    mine = make(RESNET)
    x = torch.from_numpy(_input_of(image)).requires_grad_()
    kept: dict[str, Tensor] = {}
    mine.visual.layer1.register_forward_hook(lambda _m, _i, out: kept.update(maps=out))
    z, t = mine.encode_image(x)[0], mine.encode_text(tokens("a cat"))[0].detach()
    slopes, weights = torch.autograd.grad(torch.cosine_similarity(z, t, dim=0), [x, kept["maps"]])
    cam = (kept["maps"] * weights.mean((2, 3), keepdim=True)).sum(1).clamp(min=0)[0].detach().numpy()
    assert (cam > 0).sum() > 10
    by_method = {one["method"]: one["array"] for one in manifest["images"][0]["outputs"] if one.get("array")}
    np.testing.assert_allclose(arrays[by_method["gradcam"]][0], cam, rtol=1e-3, atol=1e-7)
    largest = slopes.abs().amax(1)[0].numpy()
    assert np.corrcoef(np.abs(arrays[by_method["gradient"]]).ravel(), largest.ravel())[0, 1] > 0.999


def test_sentences_are_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a photo of a cat\na photo of a cup\na rocket\n")
    image = str(SAMPLES / "chelsea.png")
    words = ["gradcam", image, "--model", NAME, "--prompts", "prompts.txt", "--target", "a rocket"]
    code, manifest = run(*words)
    assert code == 0
    assert manifest["images"][0]["outputs"][0]["target"]["label"] == "a rocket"
    assert {one["label"] for one in manifest["images"][0]["predictions"]} >= {"a photo of a cat", "a rocket"}
    assert manifest["run"]["config"]["prompts"] == "prompts.txt"
    first = manifest["run"]["objective_sha256"]
    Path("prompts.txt").write_text("a photo of a dog\na photo of a cup\na rocket\n")
    assert run(*words)[1]["run"]["objective_sha256"] != first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", NAME], "knows no classes"),
        (["--model", NAME, "--target", "cat"], "knows no classes"),
        (["--model", NAME, "--objective", "text:"], "is not whole"),
        (["--model", NAME, "--objective", "text:cat", "--target", "1"], "there is one thing to explain"),
        (["--model", NAME, "--objective", "text:cat", "--prompts", "two.txt"], "does not compare images with text"),
        (["--model", NAME, "--prompts", "one.txt"], "one.txt: this describes 1 class"),
        (["--model", NAME, "--prompts", "absent.txt"], "absent.txt"),
        (["--objective", "text:cat"], "efficientnet_lite0 does not compare images with text"),
        (["--prompts", "two.txt"], "efficientnet_lite0 reads no sentences"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.txt").write_text("a cat\n")
    Path("two.txt").write_text("a cat\na dog\n")
    assert run("gradcam", str(SAMPLES / "chelsea.png"), *words)[0] == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert not Path("out/manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("a.txt", "a cat\n\n a dog \n", {"a cat": ["a cat"], "a dog": ["a dog"]}),
        ("a.csv", "class,prompt\ncat,a cat\ndog,a dog\ncat,my cat\n", {"cat": ["a cat", "my cat"], "dog": ["a dog"]}),
        ("a.csv", "cat,a cat\ndog,a dog\n", {"cat": ["a cat"], "dog": ["a dog"]}),
        ("a.json", '["a cat", "a dog"]', {"a cat": ["a cat"], "a dog": ["a dog"]}),
        ("a.json", '{"cat": ["a", "b"], "dog": "c"}', {"cat": ["a", "b"], "dog": ["c"]}),
    ],
)
def test_files_of_prompts(tmp_path: Path, name: str, text: str, classes: dict[str, list[str]]) -> None:
    (tmp_path / name).write_text(text)
    found = read_prompts(tmp_path / name)
    assert dict(zip(found.names, map(list, found.sentences), strict=True)) == classes


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "", "describes no classes"),
        ("a.txt", "a cat\na dog\na cat\n", "a.txt:3: 'a cat' stands here a second time"),
        ("a.csv", "cat,a cat\ndog\n", "a.csv:2: this row has no class and sentence"),
        ("a.json", "{", "no JSON of prompts"),
        ("a.json", '{"cat": 1, "dog": "a dog"}', "no object of sentences by class"),
        ("a.json", '{"cat": ["a", 1], "dog": "a dog"}', "class 'cat' has a sentence that is no text"),
        ("a.json", '{"cat": "a", "cat": "b"}', "class 'cat' stands there twice"),
        ("a.json", '{"cat": " ", "dog": "b"}', "a name or a sentence that is no text"),
        ("a.json", '{"cat": "\\ud800", "dog": "b"}', "a name or a sentence that is no text"),
    ],
)
def test_files_of_prompts_that_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        read_prompts(tmp_path / name)
    assert said in caught.value.what
    assert caught.value.where == "--prompts"
