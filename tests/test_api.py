"""The Python API: what it gives, and that it touches nothing."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import notebook
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import cnnviz_cli
from cnnviz_cli import Preprocessing
from cnnviz_cli.api.network import preserve_global_state
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.method import methods
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.run.explain import Explainer

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_images"
TINY = Preprocessing(12, 12, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SIDE = 12
SMOOTH = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def network(kind: type[nn.Module] = tiny.Plain) -> nn.Module:
    """A tiny network as a user has it: float32, its parameters trainable, in eval mode."""
    return tiny.build(kind).float().requires_grad_()


def photo(seed: int = 0, size: tuple[int, int] = (20, 16)) -> Image.Image:
    """Noise of that width and height."""
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(levels)


def explain(net: Any, images: Any, *arguments: Any, **more: Any) -> cnnviz_cli.Explanations:
    return cnnviz_cli.explain(net, images, *arguments, **{"preprocessing": TINY, **more})


# ---- what it gives


def test_a_gradcam_is_the_one_worked_out_by_hand() -> None:
    net, batch = network(), tiny.pictures(2).float()
    found = explain(net, batch, targets=[1])
    conv1, conv2 = net.get_submodule("conv1"), net.get_submodule("conv2")
    # The default layer's maps are those behind its rectifier.
    maps = conv2(net.get_submodule("pool")(conv1(batch).relu())).relu().detach().requires_grad_()
    score = net.get_submodule("fc")(maps.mean((2, 3)))[:, 1]
    (slopes,) = torch.autograd.grad(score.sum(), maps)
    expected = (slopes.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach().numpy()
    for image, map_ in zip(found, expected, strict=True):
        np.testing.assert_allclose(image["gradcam"].map, map_, rtol=1e-4, atol=1e-6)
    probabilities = net(batch).softmax(1).detach().numpy()
    assert [one.probability for one in found[1].predictions] == pytest.approx(sorted(probabilities[1])[::-1], rel=1e-5)
    assert found[0, "gradcam"].target.probability == pytest.approx(probabilities[0, 1], rel=1e-5)
    assert found[0, "gradcam"].target.label == "1"


def test_the_pictures_and_arrays_are_the_commands(tmp_path: Path) -> None:
    source = SAMPLES / "chelsea.png"
    asked = ["--target", "282", "--layer", "stages.4"]
    assert main(["gradcam", str(source), "-q", "--save-arrays", "-o", str(tmp_path), *asked]) == 0
    found = cnnviz_cli.explain("efficientnet_lite0", source, targets=282, layers="stages.4", batch_size=1)
    one = found[0, "gradcam"]
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (stored,) = np.load(folder / "arrays.npz").values()
    assert np.array_equal(stored[0], one.map)
    with Image.open(folder / "gradcam.png") as drawn:
        ours = np.asarray(one.picture.convert("RGB"), np.int16)
        theirs = np.asarray(drawn.convert("RGB"), np.int16)
    # All but the caption, where the command names the weights and the file below its folder.
    assert ours.shape[1] == theirs.shape[1]
    below = min(len(ours), len(theirs)) - 120
    assert np.array_equal(ours[-below:], theirs[-below:])


def test_a_network_in_memory_gives_what_its_name_gives() -> None:
    model = load_model("efficientnet_lite0", reporter=Reporter())
    images = [SAMPLES / "rocket.jpg"]
    by_name = cnnviz_cli.explain("efficientnet_lite0", images)
    in_memory = cnnviz_cli.explain(model.net, images, preprocessing=model.preprocessing, labels="imagenet")
    assert np.array_equal(by_name[0, "gradcam"].map, in_memory[0, "gradcam"].map)
    assert by_name[0].predictions == in_memory[0].predictions
    assert by_name[0].predictions[0].label == "missile"


def test_a_path_a_picture_and_an_array_are_the_same(tmp_path: Path) -> None:
    net, picture = network(), photo()
    picture.save(tmp_path / "photo.png")
    several = [tmp_path / "photo.png", str(tmp_path / "photo.png"), picture, np.asarray(picture)]
    found = explain(net, several, ["gradcam", "gradient"])
    for method in ("gradcam", "gradient"):
        first, *others = (image[method].map for image in found)
        for other in others:
            np.testing.assert_allclose(first, other, rtol=1e-4, atol=1e-6)
    assert [image.name for image in found] == [*map(str, several[:2]), "image 2", "image 3"]
    assert found[0].photo.tobytes() == picture.tobytes()
    assert found[0].seen.size == (SIDE, SIDE)
    (alone,) = explain(net, picture)
    np.testing.assert_allclose(alone["gradcam"].map, found[2, "gradcam"].map, rtol=1e-4, atol=1e-6)


def test_grey_and_transparent_pictures_are_seen_as_files_are() -> None:
    net = network()
    grey = np.random.default_rng(1).integers(0, 256, (16, 20), np.uint8)
    as_array, as_picture = explain(net, [grey, Image.fromarray(grey)])
    assert np.array_equal(as_array["gradcam"].map, as_picture["gradcam"].map)
    clear = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    (found,) = explain(net, clear)
    assert np.asarray(found.photo).min() == 255


def test_a_tensor_that_was_a_picture_is_shown_as_one() -> None:
    net, picture = network(), photo(3, (SIDE, SIDE))
    pixels, _, _ = TINY.prepare(picture)
    (from_tensor,) = explain(net, pixels[None])
    (from_picture,) = explain(net, picture)
    assert from_tensor.photo.tobytes() == picture.tobytes()
    np.testing.assert_allclose(from_tensor["gradcam"].map, from_picture["gradcam"].map, rtol=1e-5, atol=1e-7)
    (noise,) = explain(net, pixels[None] + 40)
    assert noise.photo.getcolors() == [(SIDE * SIDE, (128, 128, 128))]
    (broken,) = explain(net, torch.zeros(1, 3, SIDE, SIDE), mean=0.5, std=0.5)
    assert broken.photo.getcolors() == [(SIDE * SIDE, (128, 128, 128))]


def test_a_tensor_says_the_size_of_the_input() -> None:
    (image,) = cnnviz_cli.explain(network(), torch.rand(1, 3, 30, 40), "gradient")
    assert image["gradient"].map.shape == (30, 40)
    assert image.photo.size == (40, 30)


def test_a_grey_network_takes_grey_tensors_and_photographs() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    found = cnnviz_cli.explain(net.eval(), torch.rand(2, 1, 9, 9), mean=0.0, std=1.0)
    assert [image["gradcam"].map.shape for image in found] == [(9, 9)] * 2
    assert found[0].photo.mode == "RGB"
    (image,) = cnnviz_cli.explain(net, photo(), input_size=9)
    assert image["gradcam"].map.shape == (9, 9)


def test_every_method_that_applies_comes_with_all() -> None:
    with pytest.warns(UserWarning, match=r"^attention-rollout, legrad and transformer-attribution are left out: "):
        found = explain(network(), photo(), "all", steps=4, samples=3, masks=8, draws=8)
    attention = {"attention-rollout", "legrad", "transformer-attribution"}
    assert {one.method for one in found[0]} == {method.name for method in methods()} - attention
    for one in found[0]:
        assert one.picture.width > 0
        assert one.arrays


def test_methods_that_do_not_apply_are_left_out_of_all_with_a_warning() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = explain(SMOOTH, photo(), "all", steps=4, samples=3, masks=8, draws=8)
    assert all(one.filename == __file__ and " left out: " in str(one.message) for one in heard)
    (why,) = (str(one.message) for one in heard if "guided-backprop" in str(one.message))
    assert "left out: this network has no rectif" in why
    names = {one.method for one in found[0]}
    assert "gradcam" in names
    assert "guided-backprop" not in names


def test_several_layers_and_classes_are_selected() -> None:
    found = explain(network(), photo(), layers=["conv1", "conv2"], targets=["a", 3], labels=list("abcde"))[0]
    assert len(found) == 4
    (one,) = found.select("gradcam", layer="conv1", target="d")
    assert one.layer == "conv1"
    assert one.target
    assert (one.target.index, one.target.label) == (3, "d")
    assert len(found.select(target=0)) == 2
    assert found.select("gradient") == ()
    with pytest.raises(cnnviz_cli.UsageError, match="4 results"):
        found["gradcam"]
    with pytest.raises(KeyError, match=r"no 'gradcm' here\. Did you mean 'gradcam'"):
        found["gradcm"]


def test_a_class_is_explained_once_though_named_twice() -> None:
    net, picture = network(), photo()
    first = explain(net, picture)[0].predictions[0].index
    assert len(explain(net, picture, targets=["top1", first])[0]) == 1


def test_options_reach_the_methods_that_read_them() -> None:
    net, picture = network(), photo()
    one = explain(net, picture, "smoothgrad", samples=1, noise=0.0)[0, "smoothgrad"]
    plain = explain(net, picture, "gradient")[0, "gradient"]
    np.testing.assert_allclose(one.map, plain.map, rtol=1e-5, atol=1e-7)
    against = explain(net, picture, targets=0, contrast=1)[0, "gradcam"]
    alone = explain(net, picture, targets=0)[0, "gradcam"]
    assert not np.array_equal(against.map, alone.map)
    assert against.contrast
    assert (against.contrast.index, alone.contrast) == (1, None)
    assert against.entry()[1].contrast == "1"
    assert len(explain(net, picture, targets=[0, 1], contrast=1)[0]) == 1
    drawn = explain(net, picture, palette="viridis", scale="fixed:0,1")[0, "gradcam"]
    assert drawn.picture.tobytes() != explain(net, picture)[0, "gradcam"].picture.tobytes()


def test_a_network_with_one_score_is_asked_for_no_and_yes() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    batch = torch.rand(1, 3, SIDE, SIDE)
    yes = float(net(batch).detach().sigmoid())
    named = (None, ["not positive", "positive"])
    for labels, names in (named, (["cat"], ["not cat", "cat"]), (["dog", "cat"], ["dog", "cat"])):
        (image,) = explain(net, batch, targets=[0, 1], labels=labels)
        found = {one.label: one.probability for one in image.predictions}
        assert found == {names[0]: pytest.approx(1 - yes), names[1]: pytest.approx(yes)}
        assert [one.target.index for one in image] == [0, 1]
        assert image.select(target=0)[0].range != image.select(target=1)[0].range
        # A name is never another class's number.
        (alone,) = explain(net, batch, targets=names[1], labels=labels)[0]
        assert alone.target.index == 1
    with pytest.raises(cnnviz_cli.UsageError, match="there are 3 labels, and the network has 1 class"):
        explain(net, batch, labels=list("abc"))


def test_classes_that_do_not_exclude_each_other_have_probabilities_by_themselves() -> None:
    net, batch = network(), tiny.pictures(1).float()
    (image,) = explain(net, batch, multilabel=True, score="probability", targets=2)
    expected = net(batch)[0, 2].sigmoid().item()
    assert image["gradcam"].target.probability == pytest.approx(expected, rel=1e-6)


def test_random_draws_hang_on_the_picture_and_the_seed_alone() -> None:
    net, pictures = network(), [photo(1), photo(2)]
    both = explain(net, pictures, "smoothgrad", samples=3)
    alone = explain(net, pictures[1], "smoothgrad", samples=3, batch_size=1)
    np.testing.assert_allclose(both[1, "smoothgrad"].map, alone[0, "smoothgrad"].map, rtol=1e-5, atol=1e-7)
    other = explain(net, pictures[1], "smoothgrad", samples=3, seed=1)
    assert not np.allclose(other[0, "smoothgrad"].map, alone[0, "smoothgrad"].map)


def test_batches_are_halved_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = Explainer.explain_batch

    def short(explainer: Explainer, batch: Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 1:
            raise MemoryError
        return real(explainer, batch, *rest, **more)

    monkeypatch.setattr(Explainer, "explain_batch", short)
    with pytest.warns(UserWarning, match="out of memory with a batch of 3; continuing with batches of 1"):
        assert len(explain(network(), [photo(n) for n in range(3)])) == 3
    assert sizes == [3, 1, 1, 1]
    monkeypatch.setattr(Explainer, "explain_batch", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(cnnviz_cli.MemoryShortError):
        explain(network(), photo())


# ---- results


@pytest.fixture(scope="module")
def result() -> cnnviz_cli.ExplainedImage:
    return explain(
        network(),
        photo(0, (40, 20)),
        ["gradcam", "gradient", "feature-maps", "deconvnet", "guided-backprop"],
        labels=list("abcde"),
        layers="conv2",
    )[0]


def test_results_cannot_be_changed(result: cnnviz_cli.ExplainedImage) -> None:
    one = result["gradcam"]
    with pytest.raises(AttributeError):
        one.layer = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        one.map[0, 0] = 1
    with pytest.raises(TypeError):
        one.statistics["x"] = 1.0  # type: ignore[index]
    with pytest.raises(TypeError):
        one.arrays["x"] = one.map  # type: ignore[index]


def test_maps_have_the_shape_of_what_they_are(result: cnnviz_cli.ExplainedImage) -> None:
    assert result["gradcam"].map.shape == (6, 6)
    assert result["gradcam"].map.dtype == np.float32
    assert result["gradient"].map.shape == (SIDE, SIDE)
    assert result["feature-maps"].map.shape == (6, 6, 6)
    assert result["guided-backprop"].map.shape[-2:] == (SIDE, SIDE)
    with pytest.raises(cnnviz_cli.UsageError, match="no single map"):
        _ = result["deconvnet"].map
    assert any(name.endswith(".projections") for name in result["deconvnet"].arrays)


def test_a_map_on_the_photograph_lies_where_the_network_looked(result: cnnviz_cli.ExplainedImage) -> None:
    one = result["gradcam"]
    whole = one.map_on_photo()
    assert whole.shape == (20, 40)
    # A square of 20 x 20 from the middle was resized to the input.
    assert np.isnan(whole[:, :10]).all()
    assert np.isnan(whole[:, 30:]).all()
    part = torch.from_numpy(one.map.copy())[None, None]
    expected = nn.functional.interpolate(part, (20, 20), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(whole[:, 10:30], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(cnnviz_cli.UsageError, match="no single map"):
        result["deconvnet"].map_on_photo()


def test_states_and_advice_come_with_the_result() -> None:
    net = network()
    with torch.no_grad():
        net.get_submodule("conv2").weight.zero_()
        net.get_submodule("conv2").bias.fill_(-1)
    one = explain(net, photo(), layers="relu2")[0, "gradcam"]
    assert one.state == "flat"
    assert "nothing to see" in one.advice
    assert one.range == (0.0, 0.0)
    assert "flat" in repr(one)


def test_statistics_are_plain_numbers() -> None:
    one = explain(network(), photo(), "integrated-gradients", steps=8)[0, "integrated-gradients"]
    assert one.statistics
    assert all(type(value) is float for value in one.statistics.values())


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG"), ("JPEG", "JPEG")])
def test_saving_follows_the_suffix(result: cnnviz_cli.ExplainedImage, tmp_path: Path, suffix: str, kind: str) -> None:
    for what in (result, result["gradcam"]):
        path = what.save(tmp_path / f"x.{suffix}")
        with Image.open(path) as written:
            assert (written.format, written.size) == (kind, what.picture.size)
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_are_saved_as_npz(result: cnnviz_cli.ExplainedImage, tmp_path: Path) -> None:
    stored = np.load(result["gradcam"].save(str(tmp_path / "x.npz")))
    assert np.array_equal(stored["map"][0], result["gradcam"].map)


def test_what_cannot_be_saved_says_why(result: cnnviz_cli.ExplainedImage, tmp_path: Path) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match=re.escape("'x.bmp': figures are written as .png, .webp, .jpg")):
        result.save(tmp_path / "x.bmp")
    with pytest.raises(cnnviz_cli.OutputError, match="No such file"):
        result["gradcam"].save(tmp_path / "none" / "x.png")
    (tmp_path / "x.png").mkdir()
    with pytest.raises(cnnviz_cli.OutputError):
        result["gradcam"].save(tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_pictures_show_themselves(result: cnnviz_cli.ExplainedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    for what in (result, result["gradcam"]):
        with Image.open(BytesIO(what._repr_png_())) as picture:
            assert picture.size == what.picture.size
    seen: list[int] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: seen.append(id(self)))
    result.show()
    result["gradcam"].show()
    assert seen == [id(result.picture), id(result["gradcam"].picture)]


def test_in_a_notebook_pictures_are_shown_below_the_cell(
    result: cnnviz_cli.ExplainedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    shell = type("Shell", (), {"kernel": object()})()
    fake = type(sys)("IPython")
    display = type(sys)("IPython.display")
    fake.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    result["gradcam"].show()
    assert shown == [result["gradcam"]]


def test_results_say_what_they_are(result: cnnviz_cli.ExplainedImage) -> None:
    top = result.predictions[0]
    assert repr(result["gradcam"]) == f"<Explanation gradcam, conv2, {top.label}: {result['gradcam'].state}>"
    assert repr(result) == f"<ExplainedImage image 0: {top.label} {top.probability:.2f}, 5 explanations>"
    found = explain(network(), [photo(), photo(1)])
    assert repr(found) == "<Explanations of 2 images>"
    assert len(found[0:1]) == 1
    assert [image.name for image in found] == ["image 0", "image 1"]


# ---- what it leaves alone


def surroundings() -> dict[str, Any]:
    """All that is global and might be changed."""
    cuda = torch.backends.cuda.matmul.allow_tf32
    cudnn = torch.backends.cudnn
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "python": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "flags": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, cuda),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "functions": torch._C._len_torch_function_stack(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }


def inside(net: nn.Module) -> dict[str, Any]:
    """All of a network that might be changed; tensors by their bits, place and identity."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        "tensors": {
            name: (
                id(one),
                one.data_ptr(),
                one.detach().clone().view(-1).tolist(),
                one.stride(),
                one.dtype,
                one.device,
                one.requires_grad,
                None if one.grad is None else (id(one.grad), one.grad.tolist()),
                one._version,
            )
            for name, one in tensors.items()
        },
        "modes": [module.training for module in net.modules()],
        "hooks": [
            [list(value) for key, value in sorted(vars(module).items()) if "hooks" in key and value is not None]
            for module in net.modules()
        ],
        "attributes": [sorted(vars(module)) for module in net.modules()],
        "forwards": [type(module).forward for module in net.modules()],
    }


class Writing(tiny.Residual):
    """Writes down what it sees, draws random numbers, counts its runs, and is trained; fails when it is told to."""

    def __init__(self, fails_after: int | None = None) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(()))
        self.seen: Tensor | None = None
        self.fails_after = fails_after

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        self.seen = x
        np.random.rand()
        random.random()
        if self.fails_after is not None and self.runs > self.fails_after:
            raise RuntimeError("in the middle of it")
        return super().forward(x) + 0 * torch.rand(1)


def lived_in(net: nn.Module) -> nn.Module:
    """A network in the middle of its training: gradients, hooks, one layer frozen, one part in eval mode."""
    net = net.float().train().requires_grad_()
    net(torch.rand(4, 3, SIDE, SIDE)).sum().backward()
    net.get_submodule("bn1").eval()
    net.get_submodule("conv1").requires_grad_(False)
    net.register_forward_hook(lambda *_: None)
    net.get_submodule("fc").register_forward_pre_hook(lambda *_: None)
    net.get_submodule("conv2").register_full_backward_hook(lambda *_: None)
    return net.to(memory_format=torch.contiguous_format)


MANY = ["gradcam", "gradient", "deconvnet", "feature-maps", "smoothgrad", "scorecam", "guided-backprop", "lrp"]


def test_nothing_is_changed() -> None:
    net = lived_in(Writing())
    before, around = inside(net), surroundings()
    explain(net, [photo(), photo(1)], MANY, samples=2)
    assert inside(net) == before
    assert surroundings() == around


@pytest.mark.parametrize("runs", [0, 1, 2, 4, 7])
def test_nothing_is_changed_where_the_network_fails(runs: int) -> None:
    net = lived_in(Writing())
    net.runs.zero_()
    net.fails_after = runs
    before, around = inside(net), surroundings()
    with pytest.raises((cnnviz_cli.ModelError, cnnviz_cli.UsageError), match="in the middle of it"):
        explain(net, [photo(n) for n in range(12)], MANY, samples=2, batch_size=1)
    assert inside(net) == before
    assert surroundings() == around


def test_nothing_is_changed_where_a_later_picture_fails(tmp_path: Path) -> None:
    net = lived_in(tiny.Residual())
    before, around = inside(net), surroundings()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(cnnviz_cli.ImageError, match="not an image") as caught:
        explain(net, [photo(), tmp_path / "broken.png"], batch_size=1)
    assert caught.value.where == str(tmp_path / "broken.png")
    assert caught.value.__notes__[0] == f"in {tmp_path / 'broken.png'}"
    assert inside(net) == before
    assert surroundings() == around


def test_nothing_is_changed_where_a_method_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import cnnviz_cli.run.session as run

    def interrupted(*arguments: Any, **more: Any) -> Any:
        real(*arguments, **more)
        raise KeyboardInterrupt

    real = run.observe
    net = lived_in(tiny.Residual())
    before, around = inside(net), surroundings()
    monkeypatch.setattr(run, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explain(net, photo(), MANY, samples=2)
    assert inside(net) == before
    assert surroundings() == around


def test_settings_of_torch_come_back() -> None:
    kept, net = torch.get_default_dtype(), network()
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    try:
        torch.set_default_dtype(torch.float64)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = True, False, True
        around = surroundings()
        found = explain(net, photo(), MANY, samples=2)
        assert surroundings() == around
    finally:
        torch.set_default_dtype(kept)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = flags
    assert np.array_equal(found[0, "gradcam"].map, explain(net, photo(), MANY, samples=2)[0, "gradcam"].map)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_mode_does_not_matter(mode: Callable[[], Any]) -> None:
    net, picture = network(), photo()
    plain = explain(net, picture, MANY, samples=2)[0]
    with mode():
        around = surroundings()
        found = explain(net, picture, MANY, samples=2)[0]
        assert surroundings() == around
    for one, other in zip(plain, found, strict=True):
        for name in one.arrays:
            assert np.array_equal(one.arrays[name], other.arrays[name]), one


def test_a_network_made_and_fed_in_inference_mode_can_be_explained() -> None:
    with torch.inference_mode():
        net = copy.deepcopy(network())
        batch = torch.rand(1, 3, SIDE, SIDE)
        (inner,) = explain(net, batch, MANY, samples=2)
    (outer,) = explain(net, batch, MANY, samples=2)
    assert np.array_equal(inner["gradient"].map, outer["gradient"].map)


def test_a_network_in_training_says_what_it_says_in_evaluation() -> None:
    trained = lived_in(tiny.Residual())
    evaluated = copy.deepcopy(trained).eval()
    assert np.array_equal(explain(trained, photo())[0, "gradcam"].map, explain(evaluated, photo())[0, "gradcam"].map)


def test_weights_lie_in_memory_once() -> None:
    from cnnviz_cli.api.network import make_twin

    net = network()
    twin = make_twin(net)
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert one.data_ptr() == other.data_ptr()
        assert one is not other


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_another_precision_is_left_as_it_is(kind: torch.dtype) -> None:
    net = network().to(kind)
    before = inside(net)
    one = explain(net, photo())[0, "gradcam"]
    assert one.map.dtype == np.float32
    assert inside(net) == before
    reference = explain(copy.deepcopy(net).float(), photo())[0, "gradcam"]
    assert np.array_equal(one.map, reference.map)


def test_tied_computed_and_wrapped_weights_are_copied_right() -> None:
    net = network()
    net.get_submodule("conv2").register_parameter("twice", net.get_submodule("conv1").weight)
    parametrizations.weight_norm(net.get_submodule("fc"))
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(net.get_submodule("conv1"))
    net(torch.rand(1, 3, SIDE, SIDE))  # the older weight_norm leaves a weight that deepcopy refuses
    before = inside(net)
    (image,) = explain(nn.DataParallel(net), torch.rand(1, 3, SIDE, SIDE), layers="conv2")
    assert image["gradcam"].layer == "conv2"
    assert inside(net) == before


def test_a_compiled_network_is_explained_as_what_was_compiled() -> None:
    net = network()
    compiled = torch.compile(net, backend="eager")
    assert np.array_equal(explain(compiled, photo())[0, "gradcam"].map, explain(net, photo())[0, "gradcam"].map)


def test_how_a_network_runs_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_how: object) -> None:
        raise RuntimeError("no shapes today")

    net = network()
    plain = explain(net, photo(), "rise", masks=4)[0, "rise"].map
    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.warns(UserWarning, match=r"runs uncompiled, since torch cannot compile it \(no shapes today\)"):
        found = explain(net, photo(), "rise", masks=4, compile=True)[0, "rise"].map
    assert np.array_equal(found, plain)
    unfolded = explain(net, photo(), "rise", masks=4, fold=False)[0, "rise"].map
    np.testing.assert_allclose(unfolded, plain, atol=1e-4)


def test_without_folding_every_pass_runs_the_networks_own_normalisations(monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[int] = []
    normalise = nn.BatchNorm2d.forward

    def counted(self: nn.BatchNorm2d, given: Tensor) -> Tensor:
        images.append(len(given))
        return normalise(self, given)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", counted)
    passed = {}
    for fold in (True, False):
        images.clear()
        explain(network(tiny.Residual), photo(), "smoothgrad", samples=30, fold=fold)
        passed[fold] = sum(images)
    # The network is looked at in any case, and tried where it may be folded; 30 samples pass two normalisations.
    assert passed[True] < 30
    assert passed[False] >= 2 * 30


# ---- errors


def errors() -> Iterator[tuple[str, dict[str, Any], str, str]]:
    """Arguments that do not fit, what is said, and what the notes say."""
    yield "method", {"methods": "gradcamm"}, "there is no method 'gradcamm'", "Did you mean 'gradcam'"
    yield "family", {"methods": "saliency"}, "there is no method 'saliency'", "its default is 'gradient'"
    yield "no method", {"methods": []}, "there are no methods", "methods='all'"
    yield "layer", {"layers": "convv1"}, "no layer 'convv1'", "Did you mean 'conv1'"
    yield "unread layers", {"methods": "gradient", "layers": "conv1"}, "no chosen method reads 'layers'", "gradcam"
    yield "class", {"targets": "tabby"}, "no class 'tabby'", "in the argument targets"
    yield "truth", {"targets": "true"}, "only the command looks up", "targets='tabby'"
    yield "contrast with the truth", {"contrast": "True"}, "only the command looks up", "in the argument contrast"
    yield "option", {"palete": "jet"}, "there is no option 'palete'", "Did you mean 'palette'"
    yield "flag's name", {"target": 1}, "there is no option 'target'", "Did you mean 'targets'"
    yield "flag's layer", {"layer": "conv1"}, "there is no option 'layer'", "It is called layers here"
    yield "unread option", {"steps": 3}, "no chosen method reads 'steps'", "integrated-gradients"
    yield "value", {"palette": "jett"}, "jett", "jet"
    yield "precision", {"precision": "fp8"}, "'precision' must be fp32, bf16 or fp16", "in the argument precision"
    yield "device", {"device": "cuda:99"}, "CUDA|cuda:99", "device cpu or auto|cuda:0"
    yield "run's scale", {"scale": "run"}, "only the command has", "scale='fixed:0,1'"
    yield (
        "labels",
        {"labels": ["a", "b"]},
        "there are 2 labels, and the network has 5 classes",
        "in the argument labels",
    )
    yield "labels' name", {"labels": "coco"}, "not 'coco'", "splitlines"
    yield "preprocessing", {"preprocessing": 3}, "cannot be read from a int", "weights.transforms()"
    yield "weights", {"weights": "DEFAULT"}, "has its weights", "Leave out weights"
    yield (
        "size",
        {"preprocessing": None, "input_size": "wide"},
        "'input_size' must be a side",
        "in the argument input_size",
    )


@pytest.mark.parametrize(("arguments", "what", "note"), [one[1:] for one in errors()], ids=[one[0] for one in errors()])
def test_mistakes_are_named_with_a_way_out(arguments: dict[str, Any], what: str, note: str) -> None:
    around = surroundings()
    with pytest.raises(cnnviz_cli.CnnvizError, match=what) as raised:
        explain(network(), photo(), **arguments)
    assert re.search(note, "\n".join(raised.value.__notes__))
    assert surroundings() == around


@pytest.mark.parametrize(
    ("images", "what"),
    [
        ([], "there are no images"),
        (3, "images cannot be of type int"),
        ([3], "image 0 is of type int"),
        (np.zeros((4, 4, 3), bool), r"image 0 is an array \(4, 4, 3\) of bool"),
        (np.full((4, 4, 3), -0.5), "image 0 is an array of floats with negative values"),
        (np.full((4, 4, 3), np.nan), "image 0: 48 of its 48 values are NaN or infinite"),
        (np.zeros((3, 4, 4), np.uint8), r"\(3, 4, 4\) of uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\) of uint8"),
        (torch.zeros(SIDE, SIDE), r"a normalised batch \(B, C, H, W\) of floats, and this is \(12, 12\) float32"),
        (torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), "uint8"),
        (torch.zeros(0, 3, SIDE, SIDE), r"\(0, 3, 12, 12\)"),
        (torch.zeros(1, 4, SIDE, SIDE), "reads 3 channels, and the tensor has 4"),
        ("no/such.png", "cannot be read"),
    ],
)
def test_what_is_no_picture_is_refused(images: Any, what: str) -> None:
    with pytest.raises(cnnviz_cli.CnnvizError, match=what):
        explain(network(), images)


def test_a_truncated_picture_of_pillows_is_refused(tmp_path: Path) -> None:
    photo(0, (200, 200)).save(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    with Image.open(BytesIO(data[: len(data) // 2])) as half, pytest.raises(cnnviz_cli.ImageError, match="decoded"):
        explain(network(), half)


@pytest.mark.parametrize(
    "make", [lambda: torch.rand(1, 3, SIDE, SIDE).to_sparse(), lambda: torch.rand(1, 3, SIDE, SIDE, device="meta")]
)
def test_a_tensor_without_dense_numbers_is_refused(make: Callable[[], Tensor]) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match="has to hold its numbers"):
        explain(network(), make())


def test_threads_leave_torchs_settings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second thread begins while the first is inside, and ends after it."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with preserve_global_state():
            torch.backends.cudnn.deterministic = True
            first.join()

    def enter() -> None:
        with preserve_global_state():
            torch.backends.cudnn.deterministic = True
            other.start()
            begun.wait()
            time.sleep(0.1)

    first, other = threading.Thread(target=enter), threading.Thread(target=second)
    first.start()
    first.join()
    other.join()
    assert not torch.backends.cudnn.deterministic


def test_a_tensor_is_not_resized() -> None:
    with pytest.raises(cnnviz_cli.UsageError, match="is the network's input already"):
        explain(network(), torch.zeros(1, 3, SIDE, SIDE), resize="pad")


def test_networks_that_cannot_be_explained_say_why() -> None:
    class Locked(tiny.Plain):
        def __init__(self) -> None:
            super().__init__()
            self.file = (ROOT / "README.md").open()

    locked = Locked()
    with pytest.raises(cnnviz_cli.ModelError, match="this Locked cannot be copied"):
        explain(locked, photo())
    locked.file.close()
    with pytest.raises(cnnviz_cli.UsageError, match="no module of Flatten has maps"):
        explain(nn.Flatten(), photo())
    with torch.device("meta"), pytest.raises(cnnviz_cli.ModelError, match="a shape and no values"):
        explain(tiny.Plain(), photo())
    with pytest.raises(cnnviz_cli.UsageError, match="no classifier"):
        explain(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2)), photo())
    with pytest.raises(cnnviz_cli.UsageError, match=r"an nn.Module or a name, not a dict"):
        explain({}, photo())
    with pytest.raises(cnnviz_cli.UsageError, match="no model 'resnet51'"):
        explain("resnet51", photo())


def test_scores_that_are_not_finite_are_refused() -> None:
    net = network()
    with torch.no_grad():
        net.get_submodule("fc").bias.fill_(float("nan"))
    with pytest.raises(cnnviz_cli.ModelError, match="not finite in fp32"):
        explain(net, photo())


def test_a_method_that_does_not_apply_is_an_error_if_it_was_named() -> None:
    with pytest.raises(cnnviz_cli.UsageError, match="no rectifier"):
        explain(SMOOTH, photo(), "guided-backprop")


# ---- types, documents, start-up


def test_every_name_is_there_and_listed() -> None:
    for name in cnnviz_cli.__all__:
        assert getattr(cnnviz_cli, name) is not None
        assert name in dir(cnnviz_cli)
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        _ = cnnviz_cli.explian  # type: ignore[attr-defined]


def test_asking_for_an_error_class_imports_no_torch() -> None:
    code = "import sys, cnnviz_cli; cnnviz_cli.UsageError; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_docstring_names_every_setting() -> None:
    from cnnviz_cli.api.arguments import SETTINGS
    from cnnviz_cli.config.settings import Settings

    text = cnnviz_cli.explain.__doc__ or ""
    for name in SETTINGS:
        assert name in Settings.model_fields
        assert f"``{name}``" in text


def snippets(document: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_every_snippet_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(SAMPLES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    room: dict[str, Any] = {}
    blocks = snippets("api.md")
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "api.md", "exec"), room)
    assert {path.name for path in tmp_path.iterdir()} >= {"cat.png", "cat.webp", "cat.npz"}
    assert room["cat"].map.shape == (15, 15)
    assert room["cat"].map_on_photo().shape == (300, 451)


def test_the_notebook_is_current_and_its_cells_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = json.loads(notebook.NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in stored] == list(notebook.CELLS)
    monkeypatch.chdir(SAMPLES)
    room: dict[str, Any] = {}
    for cell in stored:
        if cell["cell_type"] == "code":
            outputs = notebook.run("".join(cell["source"]), room, lambda picture, _width: picture.copy())
            assert [one.get("text", list(one.get("data", ()))) for one in outputs] == [
                one.get("text", list(one.get("data", ()))) for one in cell["outputs"]
            ]


SNIPPET = """
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import cnnviz_cli
from cnnviz_cli import ExplainedImage, Explanation, Explanations, Prediction, explain


def looks(net: nn.Module, paths: list[Path]) -> list[NDArray[np.float32]]:
    found: Explanations = explain(net, paths, methods=["gradcam"], targets=[1, "cat"], labels=["a", "b"], steps=3)
    image: ExplainedImage = found[0]
    one: Explanation = found[0, "gradcam"]
    target: Prediction | None = one.target
    picture: Image.Image = one.picture
    saved: Path = one.save("x.png")
    print(image.name, target.label if target else "", picture.size, saved, one.statistics["x"] + 1.0)
    return [each["gradcam"].map for each in found]


explain("resnet18", np.zeros((2, 2, 3), np.uint8), "gradcam", layers="layer4", device="cpu")
explain(nn.Flatten(), torch.zeros(1, 3, 2, 2))
try:
    explain("resnet18", "x.png")
except cnnviz_cli.UsageError as error:
    print(error.what, error.fix)
"""

WRONG = {
    'explain(3, "x.png")': "arg-type",
    'explain("resnet18", "x.png", precision="fp8")': "arg-type",
    'explain("resnet18", "x.png")[0].nonsense': "attr-defined",
    'explain("resnet18", "x.png")[0, 1]': "index",
    "cnnviz_cli.explian": "attr-defined",
}


def test_a_strict_checker_accepts_a_users_code_and_finds_mistakes(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(SNIPPET, encoding="utf-8")
    head = ["import cnnviz_cli", "from cnnviz_cli import explain"]
    (tmp_path / "bad.py").write_text("\n".join([*head, *WRONG]), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary"]
    command += [str(tmp_path / "good.py"), str(tmp_path / "bad.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    found = re.findall(r"(good|bad)\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    expected = [("bad", str(line), code) for line, code in enumerate(WRONG.values(), len(head) + 1)]
    assert found == expected, done.stdout + done.stderr
