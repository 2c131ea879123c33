"""`cnnviz_cli.explain` of networks that return maps, boxes and embeddings."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import located
import numpy as np
import pytest
import tiny
import torch
from located import SIDE
from PIL import Image
from torch import nn

import cnnviz_cli
from cnnviz_cli import ImageError, Preprocessing, UsageError

PLAIN = Preprocessing(SIDE, SIDE, (0.0,) * 3, (1.0,) * 3)
LABELS = ["nothing", "cat", "dog"]


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def tensor(*photos: Image.Image) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) / 255 for one in photos])


def explain(net: Any, images: Any, *methods: Any, **more: Any) -> cnnviz_cli.Explanations:
    return cnnviz_cli.explain(net, images, *methods, **{"preprocessing": PLAIN, **more})


def test_regions_of_a_network_in_memory() -> None:
    (image,) = explain(located.segmenter(), photo(), ["gradcam", "gradient"], targets=["cat", "dog"], labels=LABELS)
    assert [one.label for one in image.predictions] == ["dog", "nothing", "cat"]
    assert sum(one.share or 0 for one in image.predictions) == pytest.approx(1, abs=1e-5)
    cat, dog = image.select("gradcam")
    assert (cat.target.label, cat.target.probability) == ("cat", None)
    assert (dog.target.label, dog.target.share) == ("dog", image.predictions[0].share)
    assert image.select("gradcam", target="dog") == (dog,)
    assert repr(image).startswith("<ExplainedImage image 0: dog ")
    assert "% of the image" in repr(image)
    assert repr(cat) == f"<Explanation gradcam, relu, cat: {cat.state}>"
    assert dog.picture.size > (SIDE, SIDE)
    image.picture.load()
    (one,) = explain(located.segmenter(), photo(), objective="segment:dog", labels=LABELS)
    np.testing.assert_array_equal(one["gradcam"].map, dog.map)


def test_boxes_of_a_network_in_memory() -> None:
    (image,) = explain(located.detector(), photo(), targets="top3", labels=LABELS)
    first, second, third = image.select("gradcam")
    assert [one.target.title for one in (first, second, third)] == ["dog, box 1", "nothing, box 2", "dog, box 3"]
    assert image.select(target="dog") == (first, third)
    assert image.select(target="dog, box 3") == (third,)
    assert first.target == image.predictions[0]
    left, top, right, bottom = first.target.box
    assert (right - left, bottom - top) == (4, 4)
    assert repr(third) == f"<Explanation gradcam, score, dog, box 3: {third.state}>"
    (one,) = explain(located.detector(), photo(), objective="box:3", labels=LABELS)
    np.testing.assert_array_equal(one["gradcam"].map, third.map)
    # Without names boxes have numbers.
    (bare,) = explain(located.detector(), photo())
    assert bare.predictions[0].label == "2"


def test_a_picture_without_finds() -> None:
    black = Image.new("RGB", (SIDE, SIDE))
    with pytest.raises(ImageError, match="image 1: the network finds nothing in it") as caught:
        explain(located.detector(), [photo(), black])
    assert "--" not in str(caught.value.fix)
    (image,) = explain(located.detector(), black, "feature-maps")
    assert (image.predictions, repr(image)) == ((), "<ExplainedImage image 0: nothing found, 1 explanations>")
    image.picture.load()
    (found,) = explain(located.detector(), black, min_score=0.0)
    assert all(one.probability < 0.5 for one in found.predictions)


def test_a_similarity_of_a_network_in_memory(tmp_path: Path) -> None:
    photo(2).save(tmp_path / "other.png")
    found = explain(located.embedder(), [photo(0), photo(2)], objective=f"similarity:{tmp_path / 'other.png'}")
    assert [one.predictions[0].label for one in found] == ["similar to other.png"] * 2
    assert found[1].predictions[0].similarity == pytest.approx(1, abs=1e-6)
    assert 0 < found[0].predictions[0].similarity < 1
    assert found[0, "gradcam"].target == found[0].predictions[0]
    assert "similar to other.png" in repr(found[0])
    with pytest.raises(UsageError, match="there is one thing to explain"):
        explain(located.embedder(), photo(), objective=f"similarity:{tmp_path / 'other.png'}", targets=["1"])


def test_embeddings_are_what_the_last_layer_reads_where_that_is_wanted(tmp_path: Path) -> None:
    photo(2).save(tmp_path / "other.png")
    net, objective = tiny.build(tiny.Plain).float(), f"similarity:{tmp_path / 'other.png'}"
    values = {
        what: explain(net, photo(), objective=objective, embedding=what)[0].predictions[0].similarity
        for what in ("features", "output")
    }
    bare = deepcopy(net)
    bare.fc = nn.Identity()
    for what, part in (("features", bare), ("output", net)):
        one, other = part(tensor(photo(), photo(2)))
        assert values[what] == pytest.approx(float(nn.functional.cosine_similarity(one, other, 0)), abs=1e-5)


def test_a_tensor_is_explained_as_its_picture_is(tmp_path: Path) -> None:
    photo(2).save(tmp_path / "other.png")
    inside = np.zeros((SIDE, SIDE), np.uint8)
    inside[:, 8:] = 255
    Image.fromarray(inside).save(tmp_path / "mask.png")
    for net, more in (
        (located.segmenter(), {}),
        (located.segmenter(), {"region": tmp_path / "mask.png"}),
        (located.detector(), {"targets": "top2"}),
        (located.embedder(), {"objective": f"similarity:{tmp_path / 'other.png'}"}),
    ):
        pictures = explain(net, [photo(0), photo(1)], "gradient", **more)
        tensors = explain(net, tensor(photo(0), photo(1)), "gradient", **more)
        for one, other in zip(pictures, tensors, strict=True):
            assert one.predictions == other.predictions
            for left, right in zip(one, other, strict=True):
                np.testing.assert_allclose(left.map, right.map, rtol=1e-5, atol=1e-8)


def test_a_mask_lies_over_a_tensor_as_it_is(tmp_path: Path) -> None:
    """Photographs would be cropped by this preprocessing, tensors have been."""
    inside = np.zeros((SIDE, SIDE), np.uint8)
    inside[:, :4] = 255
    Image.fromarray(inside).save(tmp_path / "mask.png")
    cropped = Preprocessing(2 * SIDE, SIDE, (0.0,) * 3, (1.0,) * 3)
    more = {"preprocessing": cropped, "region": tmp_path / "mask.png", "targets": [1]}
    (image,) = explain(located.segmenter(), tensor(photo()), "gradient", **more)
    found = image["gradient"].map > 0
    assert found[:, :4].any()
    assert not found[:, 4:].any()
    with pytest.raises(ImageError, match="image 0: nothing of its mask is within what the network sees"):
        explain(located.segmenter(), photo(), **more)


def test_a_mask_that_is_drawn_anew_is_read_anew(tmp_path: Path) -> None:
    inside = np.zeros((SIDE, SIDE), np.uint8)
    inside[:, :8] = 255
    maps = []
    for drawn in (inside, 255 - inside):
        Image.fromarray(drawn).save(tmp_path / "mask.png")
        (image,) = explain(located.segmenter(), photo(), "gradient", region=tmp_path / "mask.png", targets=[1])
        maps.append(image["gradient"].map > 0)
    assert not (maps[0] & maps[1]).any()
    # How much the network takes for it is no news of what was drawn, and stands in `target`.
    _, caption = image["gradient"].entry()
    assert (caption.target, caption.detail) == ("1", "within its mask")
    assert image["gradient"].target.share is not None
    with pytest.raises(ImageError, match=r"image 0: it has no mask: there is no 'image 0\.png'"):
        explain(located.segmenter(), photo(), region=tmp_path)


@pytest.mark.parametrize("kind", ["segmenter", "detector", "embedder"])
def test_nothing_of_the_network_is_changed(kind: str, tmp_path: Path) -> None:
    photo(2).save(tmp_path / "other.png")
    net = getattr(located, kind)().requires_grad_()
    net.train()
    state, limit = tiny.state_of(net), getattr(net, "score_thresh", None)
    more: dict[str, Any] = {"embedder": {"objective": f"similarity:{tmp_path / 'other.png'}"}}.get(kind, {})
    if kind == "detector":
        more = {"min_score": 0.1}
    explain(net, photo(), ["gradcam", "gradient", "feature-maps"], **more)
    with pytest.raises(UsageError):
        explain(net, photo(), contrast=1, **{**more, "objective": "segment:99"})
    assert tiny.state_of(net) == state
    assert getattr(net, "score_thresh", None) == limit


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("segmenter", {"objective": "box:1"}, "returns maps of class scores, so there is no box to explain"),
        ("segmenter", {"objective": "segment:cow", "labels": LABELS}, "the model has no class 'cow'"),
        ("segmenter", {"objective": "segment:1", "targets": ["2"]}, "says what is explained already"),
        ("segmenter", {"contrast": 1}, "for the classes of a classifier"),
        ("segmenter", {"score": "probability"}, "for the classes of a classifier"),
        ("segmenter", {"labels": LABELS[:2]}, "there are 2 labels, and the network has 3 classes"),
        ("segmenter", {"region": "none.png"}, "none.png"),
        ("detector", {"objective": "box:2", "targets": "top3"}, "says what is explained already"),
        ("detector", {"targets": ["dog"], "labels": LABELS}, "boxes are told by their rank"),
        ("detector", {"labels": "imagenet"}, "labels"),
        ("embedder", {"objective": "similarity:none.png"}, "none.png"),
        ("embedder", {"min_score": 0.5}, "is for box"),
    ],
)
def test_mistakes(kind: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        explain(getattr(located, kind)(), photo(), **more)
    assert not caught.value.where.startswith("--")
