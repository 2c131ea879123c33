"""A folder shown to a network that answers a known template: patches, values, percentiles and projections by hand."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.needs import INPUT, Gradient
from cnnviz_cli.core.objectives import Negated, StrongestChannel, Sum, TargetLogit
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.strongest import StrongestPatches
from cnnviz_cli.core.unit_objectives import Channel, Direction, Energy
from cnnviz_cli.run import feature_pass
from cnnviz_cli.run.against import Asked, Comparison, Folder, FolderPass, compare
from cnnviz_cli.run.patches import PatchCutter, Place, box_of
from cnnviz_cli.run.session import Session

SIDE, COUNT = 32, 14
AS_IT_IS = {"input_size": (SIDE, SIDE), "resize": "squash", "mean": (0.0,) * 3, "std": (1.0,) * 3, "device": "cpu"}
LAYER = "relu"


class Heard(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say


def session(**more: Any) -> Session:
    flags = {
        ("model",): "nets:templates",
        ("allow_code",): True,
        **{(name,): one for name, one in (AS_IT_IS | more).items()},
    }
    return Session.load("dream", load_settings("dream", flags, None, {}), Reporter())


def place_of(number: int) -> tuple[int, int]:
    """Row and column at which an image has the template: the corners among them."""
    corners = [(0, 0), (0, 27), (27, 0), (27, 27)]
    return corners[number] if number < 4 else (3 * number % 28, 7 * number % 28)


def planted(number: int) -> NDArray[np.uint8]:
    """Dark noise, and in it the template, the stronger the higher the number."""
    image = np.random.default_rng(number).integers(100, 110, (SIDE, SIDE, 3), dtype=np.uint8).astype(float)
    row, column = place_of(number)
    pattern = nets.TEMPLATE.numpy()[:, :, None]
    image[row : row + 5, column : column + 5] = 127 + (60 + 4 * number) * pattern
    return np.rint(image).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(COUNT):
        place = folder / ("odd" if number % 2 else "even") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(planted(number)).save(place)
    return folder


def by_hand(image: NDArray[np.uint8], channel: int) -> NDArray[np.float64]:
    """(28, 28) a map of the network, by loops in float64."""
    net = nets.templates()
    weight, bias = (one.detach().double().numpy()[channel] for one in (net.conv.weight, net.conv.bias))
    pixels = image.astype(np.float64).transpose(2, 0, 1) / 255
    found = np.array([[(weight * pixels[:, r : r + 5, c : c + 5]).sum() + bias for c in range(28)] for r in range(28)])
    return np.maximum(found, 0)


def shown(asked: Asked, folder: Folder, one: Session) -> Comparison:
    return compare(one, folder, asked, Reporter())


def test_the_nine_patches_are_those_that_were_planted(photos: Path) -> None:
    one = session()
    folder = Folder.open(photos, one.settings)
    beside = shown(Asked(channels=((LAYER, 0), (LAYER, 1))), folder, one)
    found = beside.examples(LAYER, 0)
    numbers = [COUNT - 1 - number for number in range(9)]
    assert [example.name for example in found] == [f"{'odd' if n % 2 else 'even'}/{n}.png" for n in numbers]
    assert [(example.row, example.column) for example in found] == [place_of(n) for n in numbers]
    for number, example in zip(numbers, found, strict=True):
        assert example.value == pytest.approx(by_hand(planted(number), 0).max(), rel=1e-5)
    assert {example.value for example in beside.examples(LAYER, 1)} == {0.0}
    assert beside.about.images == COUNT
    assert beside.about.name == "photos"


def test_scores_and_percentiles_are_those_of_slow_arithmetic(photos: Path) -> None:
    one = session()
    objectives = (
        Channel(LAYER, 3), Channel(LAYER, 0, place_of(6)), Channel(LAYER, 2, "centre"), Energy(LAYER),
        Direction(LAYER, (1.0, 0.0, 0.0, 1.0)), TargetLogit(rank=0),
        Sum(((1.0, Channel(LAYER, 3)), (-2.0, TargetLogit(rank=0)))),
    )  # fmt: skip
    beside = shown(Asked(objectives=objectives), Folder.open(photos, one.settings), one)
    maps = np.array([[by_hand(planted(number), channel) for channel in range(4)] for number in range(COUNT)])
    net = nets.templates()
    weight, bias = (part.detach().double().numpy() for part in (net.fc.weight, net.fc.bias))
    logits = maps.mean((2, 3)) @ weight.T + bias
    likeliest = logits.max(1)
    direction = (maps[:, 0] + maps[:, 3]).mean((1, 2)) / 2**0.5
    expected = [
        maps[:, 3].mean((1, 2)), maps[:, 0, *place_of(6)], maps[:, 2, 14, 14], (maps**2).mean((1, 2, 3)) / 2, direction,
        likeliest, maps[:, 3].mean((1, 2)) - 2 * likeliest,
    ]  # fmt: skip
    for objective, scores in zip(objectives, expected, strict=True):
        at = objectives.index(objective)
        assert sorted(beside.found.scores[at]) == pytest.approx(sorted(scores), rel=1e-4, abs=1e-5)
        ordered = np.sort(scores)
        gap = int(np.diff(ordered).argmax())  # between two that rounding does not bring together
        middle = float((ordered[gap] + ordered[gap + 1]) / 2)
        share = (sum(score < middle for score in scores) + sum(score == middle for score in scores) / 2) / COUNT
        assert beside.percentile(objective, middle) == pytest.approx(100 * share, rel=1e-5)
        assert beside.percentile(objective, float(ordered[-1]) + 1) == 100
        assert beside.best(objective) == pytest.approx(ordered[-1], rel=1e-4, abs=1e-5)
    level = beside.found.scores[1]
    assert beside.percentile(objectives[1], 0.0) == pytest.approx(50 * level.count(0.0) / COUNT, rel=1e-5)


def test_of_the_weakest_the_least_is_the_best(photos: Path) -> None:
    one = session()
    beside = shown(Asked(((LAYER, 2),), (Channel(LAYER, 2),), -1), Folder.open(photos, one.settings), one)
    lowest = [by_hand(planted(number), 2).min() for number in range(COUNT)]
    found = [beside.value_of(example) for example in beside.examples(LAYER, 2)]
    assert found == pytest.approx(sorted(lowest)[:9], rel=1e-5)
    means = [by_hand(planted(number), 2).mean() for number in range(COUNT)]
    assert beside.best(Channel(LAYER, 2)) == pytest.approx(min(means), rel=1e-5)


def test_no_order_no_division_and_no_worker_changes_a_byte(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = session(workers=2)
    folder = Folder.open(photos, one.settings)
    asked = Asked(tuple((LAYER, channel) for channel in range(4)), (Channel(LAYER, 3), TargetLogit(rank=0)))

    def states(*parts: tuple[Any, ...]) -> str:
        whole = StrongestPatches()
        for part in parts:
            fold = StrongestPatches()
            FolderPass(one, asked).add_all(replace(folder, sources=part), fold, Reporter())
            whole.merge(fold)
        return json.dumps(whole.to_state())

    expected = states(folder.sources)
    shuffled = random.Random(3).sample(folder.sources, COUNT)
    assert states(tuple(shuffled)) == expected
    assert states(tuple(shuffled[:5]), tuple(shuffled[5:])) == expected
    monkeypatch.setattr(feature_pass, "MIN_FOR_WORKERS", 2)
    assert states(tuple(shuffled)) == expected


def test_what_cannot_be_shown_is_counted_and_named(photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    one, heard = session(), Heard()
    folder = Folder.open(photos, one.settings)
    beside = compare(one, folder, Asked(channels=((LAYER, 0),)), heard)
    assert (beside.about.images, beside.about.unread) == (COUNT, 1)
    assert beside.found.unread == ("broken.png",)
    assert any("broken.png" in line for line in heard.lines)
    assert heard.lines[0] == f"{COUNT + 1} images of photos: shown to the network"


def test_the_digest_is_that_of_names_and_bytes(photos: Path) -> None:
    settings = session().settings
    before = Folder.open(photos, settings).sha256
    (photos / "even" / "0.png").touch()
    assert Folder.open(photos, settings).sha256 == before
    (photos / "even" / "0.png").rename(photos / "even" / "00.png")
    renamed = Folder.open(photos, settings).sha256
    Image.fromarray(planted(1)).save(photos / "even" / "00.png")
    assert len({before, renamed, Folder.open(photos, settings).sha256}) == 3


def cut(one: Session, folder: Folder, channel: int, number: int, **more: Any) -> Any:
    beside = shown(Asked(channels=((LAYER, channel),)), folder, one)
    found = beside.examples(LAYER, channel)[number]
    place = Place(found.name, found.sha256, found.value, (found.row, found.column))
    return PatchCutter(one, folder.by_name, weakest=False, **more).cut(LAYER, channel, place)


def test_boxes_are_what_a_position_sees_and_patches_show_it(photos: Path) -> None:
    one = session()
    folder = Folder.open(photos, one.settings)
    for number in range(9):
        record, patch = cut(one, folder, 0, number)
        row, column = place_of(COUNT - 1 - number)
        assert record.box == (column, row, column + 5, row + 5)
        assert record.at == (row, column)
        image = planted(COUNT - 1 - number)[row : row + 5, column : column + 5]
        shown_there = np.asarray(patch.picture.resize((5, 5), Image.Resampling.BOX), dtype=float)
        assert np.abs(shown_there - image).mean() < 12
        assert patch.place == (0, 0, 5, 5)


def test_a_larger_file_gives_the_same_box_in_its_own_pixels(photos: Path) -> None:
    for number in range(COUNT):
        place = photos / ("odd" if number % 2 else "even") / f"{number}.png"
        Image.fromarray(planted(number)).resize((4 * SIDE, 2 * SIDE), Image.Resampling.NEAREST).save(place)
    one = session()
    record, _ = cut(one, Folder.open(photos, one.settings), 0, 0)
    row, column = place_of(COUNT - 1)
    assert record.box == (4 * column, 2 * row, 4 * (column + 5), 2 * (row + 5))


def test_projections_are_those_of_the_deconvolutional_network(photos: Path) -> None:
    one = session()
    folder = Folder.open(photos, one.settings)
    beside = shown(Asked(channels=((LAYER, 0),)), folder, one)
    found = beside.examples(LAYER, 0)[0]
    pixels = one.model.preprocessing.normalize([planted(COUNT - 1)])
    cutter = PatchCutter(one, folder.by_name, weakest=False)
    projected = cutter._project(Channel(LAYER, 0, (found.row, found.column)), pixels, found.sha256)
    # The template's channel has the highest peak there, so that the deconvolution's first map is this one.
    peak = Gradient(INPUT, StrongestChannel(LAYER, 0, "peak"), cutter._rule)
    theirs = one.observe(pixels, [peak], digests=[found.sha256]).evidence[peak][0].numpy()
    assert np.allclose(found.value * projected, theirs, rtol=1e-5, atol=1e-7)
    row, column = place_of(COUNT - 1)
    inside = projected[:, row : row + 5, column : column + 5]
    assert np.allclose(inside, nets.TEMPLATE.numpy()[None], atol=1e-6)
    assert np.count_nonzero(projected) == np.count_nonzero(inside)


def test_what_is_projected_is_the_position_and_of_the_weakest_its_opposite(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, asked = session(), []
    folder = Folder.open(photos, one.settings)
    found = shown(Asked(channels=((LAYER, 0),)), folder, one).examples(LAYER, 0)[0]
    inner = Session.observe

    def record(self: Session, batch: Any, needs: Any, **more: Any) -> Any:
        asked.extend(needs)
        return inner(self, batch, needs, **more)

    monkeypatch.setattr(Session, "observe", record)
    place = Place(found.name, found.sha256, found.value, (found.row, found.column))
    for weakest in (False, True):
        PatchCutter(one, folder.by_name, weakest=weakest).cut(LAYER, 0, place)
    of = Channel(LAYER, 0, place_of(COUNT - 1))
    assert [need.of for need in asked] == [of, Negated(of)]
    assert {need.through for need in asked} == {"guide"}  # nothing is pooled by the maximum


def test_an_image_that_is_another_now_is_no_patch(photos: Path) -> None:
    one = session()
    folder = Folder.open(photos, one.settings)
    place = Place("odd/13.png", "0" * 64, 1.0, (0, 0))
    with pytest.raises(ImageError, match="has changed"):
        PatchCutter(one, folder.by_name, weakest=False).cut(LAYER, 0, place)
    with pytest.raises(ImageError, match="is gone"):
        PatchCutter(one, folder.by_name, weakest=False).cut(LAYER, 0, replace(place, source="odd/99.png"))


def test_tiny_fields_are_shown_with_something_round_them() -> None:
    info = session().context.layers[LAYER]
    assert box_of(info, (3, 4), (SIDE, SIDE)) == (4, 3, 9, 8)
    assert box_of(info, (3, 4), (140, 140)) == (1.5, 0.5, 11.5, 10.5)
    assert box_of(replace(info, field=None), (3, 4), (20, 30)) == (0, 0, 20, 30)


def test_scores_that_are_not_finite_are_no_answer(photos: Path) -> None:
    one = session()
    with torch.no_grad():
        one.net.get_parameter("fc.bias").fill_(float("nan"))
    folder = Folder.open(photos, one.settings)
    with pytest.raises(UsageError, match="no image in 'photos'"):
        shown(Asked(objectives=(TargetLogit(rank=0),)), folder, one)


def test_what_a_unit_at_its_ceiling_projects_to_is_not_blank(photos: Path) -> None:
    one = session()
    folder = Folder.open(photos, one.settings)
    found = shown(Asked(channels=((LAYER, 0),)), folder, one).examples(LAYER, 0)[0]
    place = Place(found.name, found.sha256, found.value, (found.row, found.column))
    _, plain = PatchCutter(one, folder.by_name).cut(LAYER, 0, place)
    one.net.relu = torch.nn.Hardtanh(0.0, 0.25)
    _, patch = PatchCutter(one, folder.by_name).cut(LAYER, 0, place)
    assert (plain.at_ceiling, patch.at_ceiling) == (False, True)
    assert plain.projection is not None
    assert patch.projection is not None
    assert np.asarray(patch.projection).std() > 10
    assert np.array_equal(np.asarray(patch.projection), np.asarray(plain.projection))
