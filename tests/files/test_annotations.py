"""What people have marked: which points shapes cover, how each kind of file is read, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.geometry import Framing, ResizeCrop, contain, cover, stretch
from cnnviz_cli.files.annotations import regions, shapes
from cnnviz_cli.files.annotations.folders import Annotations, open_annotations
from cnnviz_cli.files.annotations.regions import (
    UNNAMED,
    MarkedRegion,
    find_region,
    regions_by_label,
    words_of,
    words_of_class,
)
from cnnviz_cli.files.annotations.shapes import Box, Drawn, ImageAnnotation, MarkedObject, Polygon, Runs, unpack_counts
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.models.input.preprocessing import Preprocessing

SHAPE = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]], np.uint8)  # 4 wide, 3 high
ROWS = SHAPE.tolist()
COUNTS = [0, 1, 3, 2, 1, 2, 3]  # the same, column by column


def named(name: str) -> Source:
    return Source("/photos", name, name)


def seen(size: tuple[int, int]) -> Framing:
    """An image of that size, shown as it is."""
    return Framing(size, 1, stretch(size))


def covered(shape: shapes.Shape, size: tuple[int, int]) -> list[list[int]]:
    across, down = stretch(size).centres_in(size)
    return shape.covers(across, down).astype(int).tolist()


def annotation(*marked: tuple[str, shapes.Shape], size: tuple[int, int] | None = None) -> ImageAnnotation:
    return ImageAnnotation(size, tuple(MarkedObject(label, (shape,)) for label, shape in marked), "")


def region(path: Path, name: str, framing: Framing, names: Iterable[str] = ()) -> MarkedRegion:
    read = open_annotations(path)
    found = read.annotation_of(named(name))
    assert found is not None
    return find_region(found, framing, frozenset(names), read.labels)


# --- shapes ------------------------------------------------------------------------------------------------


def test_a_box_covers_the_pixels_whose_centres_it_holds() -> None:
    assert covered(Box(1, 1, 3, 3), (4, 3)) == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    assert covered(Box(0.5, 0, 1.5, 1), (3, 1)) == [[1, 0, 0]]  # the left edge is its own, the right one is not
    assert covered(Box(-9, -9, 99, 99), (2, 1)) == [[1, 1]]
    assert covered(Box(1, 1, 1, 3), (2, 3)) == [[0, 0]] * 3


def test_a_polygon_of_a_box_covers_what_the_box_does() -> None:
    ring = Polygon(np.array([[1, 1], [3, 1], [3, 3], [1, 3]], np.float64))
    assert covered(ring, (4, 3)) == covered(Box(1, 1, 3, 3), (4, 3))
    half = Polygon(np.array([[0.5, 0], [1.5, 0], [1.5, 1], [0.5, 1]], np.float64))
    assert covered(half, (3, 1)) == covered(Box(0.5, 0, 1.5, 1), (3, 1))


def test_a_triangle_and_a_star_by_hand() -> None:
    triangle = Polygon(np.array([[0, 0], [4, 4], [0, 4]], np.float64))  # the diagonal's centres are its left edge's
    assert covered(triangle, (4, 4)) == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    bow = Polygon(np.array([[0, 0], [4, 4], [4, 0], [0, 4]], np.float64))  # crosses itself in the middle
    assert covered(bow, (4, 4)) == [[0, 0, 0, 1], [1, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1]]


def odd_crossings(corners: Sequence[Sequence[float]], x: float, y: float) -> bool:
    """Whether a ray from a point to the left crosses the polygon an odd number of times."""
    within = False
    for at, (x1, y1) in enumerate(corners):
        x2, y2 = corners[(at + 1) % len(corners)]
        if (y1 <= y) != (y2 <= y) and x1 + (y - y1) * (x2 - x1) / (y2 - y1) <= x:
            within = not within
    return within


@pytest.mark.parametrize("portion", [1, 40, shapes._PAIRS])
def test_polygons_are_those_of_a_slow_ray(portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_PAIRS", portion)
    rng = np.random.default_rng(3)
    for corners in (3, 4, 9, 30):
        ring = rng.uniform(-3, 15, (corners, 2))
        ring[0] = ring[0].round() + 0.5  # a corner at a centre
        expected = [[odd_crossings(ring.tolist(), x + 0.5, y + 0.5) for x in range(13)] for y in range(11)]
        found = np.array(covered(Polygon(ring), (13, 11)))
        assert (found == np.array(expected)).all()
        assert found.any()


@pytest.mark.parametrize("ring", [[[1, 1]], [[0, 0], [3, 3]], [[0, 1], [4, 1], [2, 1]]])
def test_a_polygon_without_an_area_covers_nothing(ring: list[list[float]]) -> None:
    assert not np.any(covered(Polygon(np.array(ring, np.float64)), (4, 3)))


def test_runs_go_down_columns() -> None:
    runs = Runs(np.array(COUNTS, np.int64), (4, 3))
    assert covered(runs, (4, 3)) == ROWS
    assert covered(runs, (4, 3)) == covered(Drawn(SHAPE > 0), (4, 3))
    across, down = contain((4, 3), (8, 8)).centres_in((4, 3))  # twice as large, a row on top and below outside of it
    expected = np.pad(SHAPE.repeat(2, 0).repeat(2, 1), ((1, 1), (0, 0)))
    assert (runs.covers(across, down) == expected).all()
    assert (Drawn(SHAPE > 0).covers(across, down) == expected).all()


def pack(counts: Sequence[int]) -> str:
    """COCO's packing, written once more from its definition."""
    text = ""
    for at, count in enumerate(counts):
        rest = count - (counts[at - 2] if at > 2 else 0)
        more = True
        while more:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)
            text += chr(48 + digit + (32 if more else 0))
    return text


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        # pycocotools' own: encode of a mask of 9 x 7 with a box and a corner, and the demo of its documentation
        ("01f02^O00000005", [0, 1, 22, 3, 4, 3, 4, 3, 4, 3, 4, 3, 9]),
        ("", []),
    ],
)
def test_packed_runs_of_cocos_own(text: str, counts: list[int]) -> None:
    assert unpack_counts(text).tolist() == counts
    assert pack(counts) == text


def test_packed_runs_are_unpacked() -> None:
    rng = np.random.default_rng(1)
    for most in (3, 40, 2_000, 70_000_000):
        counts = rng.integers(0, most, 50).tolist()
        assert unpack_counts(pack(counts)).tolist() == counts


def test_pycocotools_packs_and_unpacks_the_same() -> None:
    peer = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(7)
    for height, width, density in ((1, 1, 1.0), (7, 9, 0.5), (60, 80, 0.02), (224, 300, 0.6), (3, 500, 0.0)):
        mask = (rng.random((height, width)) < density).astype(np.uint8)
        made = peer.encode(np.asfortranarray(mask))
        counts = unpack_counts(made["counts"].decode())
        runs = Runs(counts, (width, height))
        assert (np.array(covered(runs, (width, height))) == mask).all()
        plain = peer.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
        assert plain["counts"] == made["counts"]


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_pycocotools_draws_polygons_alike_but_for_their_outline() -> None:
    """It rounds to fifths of a pixel and fills what it has rounded; so only pixels at an outline may differ."""
    peer = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(5)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        ring = np.stack([80 + 60 * np.cos(angles), 60 + 45 * np.sin(angles)], 1)
        theirs = peer.decode(peer.frPyObjects([ring.ravel().tolist()], 120, 160))[:, :, 0]
        ours = np.array(covered(Polygon(ring), (160, 120)))
        differ = np.argwhere(ours != theirs)
        ends = np.roll(ring, -1, axis=0)
        for y, x in differ:  # each lies within a pixel of the outline
            point, along = np.array([x + 0.5, y + 0.5]), ends - ring
            share = (((point - ring) * along).sum(1) / (along**2).sum(1)).clip(0, 1)[:, None]
            assert np.linalg.norm(ring + share * along - point, axis=1).min() < 1
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.98


# --- what the network sees ---------------------------------------------------------------------------------


def test_a_region_lies_where_the_crop_has_it() -> None:
    # 8 x 4, its left half marked; covered by 4 x 4 is the middle, so the left half of what is seen
    found = find_region(
        annotation(("", Box(0, 0, 4, 4))), Framing((8, 4), 1, cover((8, 4), (4, 4), (4, 4))), frozenset(), None
    )
    assert found.inside.tolist() == [[True, True, False, False]] * 4
    # resized to half: a box of two columns is one
    half = find_region(
        annotation(("", Box(2, 0, 4, 4))), Framing((8, 4), 1, ResizeCrop((4, 2), (4, 2))), frozenset(), None
    )
    assert half.inside.tolist() == [[False, True, False, False]] * 2
    # padded: nothing is marked outside of the image, whatever the box says
    padded = find_region(
        annotation(("", Box(-5, -5, 99, 99))), Framing((8, 4), 1, contain((8, 4), (4, 4))), frozenset(), None
    )
    assert padded.inside.tolist() == [[False] * 4, [True] * 4, [True] * 4, [False] * 4]


def test_several_objects_count_together() -> None:
    both = annotation(("", Box(0, 0, 1, 1)), ("", Box(2, 0, 4, 1)), ("", Drawn(np.array([[0, 0, 0, 1]]) > 0)))
    assert find_region(both, seen((4, 1)), frozenset(), None).inside.tolist() == [[True, False, True, True]]


@pytest.mark.parametrize(
    ("box", "why"),
    [
        (Box(0, 0, 2, 4), "'cat' lies outside of what the network sees of it"),
        (Box(4, 1, 4.001, 1.001), "'cat' is smaller than a pixel of the network's input"),
        (Box(9, 9, 12, 12), "'cat' lies outside of it, which has 8 x 4 pixels"),
        (Box(-3, 1, 0, 2), "'cat' lies outside of it, which has 8 x 4 pixels"),
    ],
)
def test_a_region_that_is_not_seen_is_none(box: Box, why: str) -> None:
    framing = Framing((8, 4), 1, cover((8, 4), (4, 4), (4, 4)))
    with pytest.raises(ImageError) as caught:
        find_region(annotation(("cat", box)), framing, frozenset(), None)
    assert caught.value.what == why


def test_an_annotation_of_another_resolution_is_scaled() -> None:
    """An image that was resized after it was annotated; its sides are rounded."""
    for size in ((8, 4), (16, 8), (401, 200), (799, 400)):
        share = size[0] / 8
        found = find_region(
            annotation(("", Box(4 * share, 0, 8 * share, size[1])), size=size), seen((8, 4)), frozenset(), None
        )
        assert found.inside.tolist() == [[False] * 4 + [True] * 4] * 4
    with pytest.raises(ImageError, match=r"of 8 x 8 pixels, other proportions than its own 8 x 4"):
        find_region(annotation(("", Box(0, 0, 1, 1)), size=(8, 8)), seen((8, 4)), frozenset(), None)


# --- upright and stored ------------------------------------------------------------------------------------


@pytest.fixture(params=range(1, 9))
def turned(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """A photograph of 12 x 8 with each EXIF orientation, and the pixels that are stored in it."""
    stored = np.zeros((8, 12, 3), np.uint8)
    stored[1:4, 2:9] = 255  # off the middle, in both directions
    exif = Image.Exif()
    exif[0x0112] = request.param
    path = tmp_path / "photo.png"
    Image.fromarray(stored).save(path, exif=exif)
    return path, stored


def boxes_of(white: np.ndarray[Any, Any]) -> Box:
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def shapes_of(white: np.ndarray[Any, Any]) -> list[shapes.Shape]:
    """The same region as a box, a polygon, runs and a mask."""
    box = boxes_of(white)
    ring = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
    flat = white.T.ravel()
    ends = np.flatnonzero(np.diff(flat.astype(int), prepend=0)).tolist()
    counts = np.diff([0, *ends, len(flat)])
    return [box, Polygon(np.array(ring)), Runs(counts.astype(np.int64), white.shape[::-1]), Drawn(white)]


@pytest.mark.parametrize("mode", ["crop", "squash", "pad"])
@pytest.mark.parametrize("of_stored", [False, True], ids=["upright", "stored"])
def test_an_annotation_is_of_the_upright_or_the_stored_image(
    turned: tuple[Path, np.ndarray[Any, Any]], mode: Any, of_stored: bool
) -> None:
    """The annotated region is where the network sees white, for all eight orientations."""
    path, stored = turned
    read = read_image(path)
    quarter = read.orientation >= 5
    assert read.size == ((8, 12) if quarter else (12, 8))
    preprocessing = Preprocessing(8, 8, (0.5,) * 3, (0.5,) * 3, "nearest", mode)
    crop, _ = preprocessing.crop_image(read.image)
    expected = np.asarray(crop).min(2) == 255
    framing = Framing(read.size, read.orientation, preprocessing.resize_crop(read.image.size))
    white = (stored if of_stored else np.asarray(read.image)).min(2) == 255
    if of_stored and not quarter:
        white = np.asarray(read.image).min(2) == 255  # sizes do not tell, so it is about the upright one
    for shape in shapes_of(white):
        found = find_region(annotation(("", shape), size=white.shape[::-1]), framing, frozenset(), None)
        assert found.inside.tolist() == expected.tolist(), type(shape)
    assert 0 < expected.sum() < expected.size


def test_only_a_turned_image_has_another_stored_one() -> None:
    one = annotation(("", Box(0, 0, 10, 4)), size=(8, 4))
    with pytest.raises(ImageError, match="other proportions"):
        find_region(one, Framing((4, 8), 3, stretch((4, 8))), frozenset(), None)
    assert find_region(one, Framing((4, 8), 6, stretch((4, 8))), frozenset(), None).inside.all()


def test_of_an_image_that_is_almost_square_the_exact_size_decides() -> None:
    """The left edge of the stored image is the upper one of the upright image."""
    one = annotation(("", Box(0, 0, 1, 100)), size=(101, 100))
    found = find_region(one, Framing((100, 101), 6, stretch((100, 101))), frozenset(), None)
    assert found.inside[0].all()
    assert not found.inside[1:].any()


def test_without_a_size_an_annotation_is_of_the_upright_image() -> None:
    framing = Framing((2, 4), 6, stretch((2, 4)))
    found = find_region(annotation(("", Box(0, 0, 2, 1))), framing, frozenset(), None)
    assert found.inside.tolist() == [[True, True]] + [[False, False]] * 3


# --- which objects belong to a class -----------------------------------------------------------------------

CAT, DOG = ("tiger cat", Box(0, 0, 1, 1)), ("Dog", Box(1, 0, 2, 1))


@pytest.mark.parametrize(
    ("names", "known", "inside", "labels", "of_class"),
    [
        ({"dog"}, None, [False, True, False], ("Dog",), True),
        ({"tiger cat", "cat"}, None, [True, False, False], ("tiger cat",), True),
        ({"cat"}, None, [True, True, False], ("Dog", "tiger cat"), False),  # not a part of a name
        ({"hen"}, {"tiger cat", "Dog"}, [True, True, False], ("Dog", "tiger cat"), False),
        (set(), None, [True, True, False], ("Dog", "tiger cat"), False),
    ],
)
def test_objects_belong_to_a_class_by_their_names(
    names: set[str], known: set[str] | None, inside: list[bool], labels: tuple[str, ...], of_class: bool
) -> None:
    found = find_region(annotation(CAT, DOG), seen((3, 1)), names, known)
    assert (found.inside.tolist(), found.labels, found.of_class) == ([inside], labels, of_class)


def test_a_class_that_others_of_the_set_show_is_not_judged_by_another_object() -> None:
    with pytest.raises(ImageError, match="marked in other images, and not in this one"):
        find_region(annotation(CAT, DOG), seen((3, 1)), {"hen"}, {"tiger cat", "Dog", "hen"})


def test_names_are_compared_by_words() -> None:
    assert words_of("Tabby, tabby  cat") == {"tabby, tabby cat", "tabby", "tabby cat"}
    assert words_of("dining_table") == {"dining table"}
    assert words_of(" , ") == {","}
    labels = Labels(("tench", "tabby, tabby cat", "crane (2)"), {"n02123045": 1, "n01": 0})
    assert words_of_class(labels, 1) == {"tabby, tabby cat", "tabby", "tabby cat", "n02123045"}
    assert words_of_class(labels, 2) == {"crane"}


# --- COCO --------------------------------------------------------------------------------------------------


def coco(folder: Path, *objects: dict[str, Any], **other: Any) -> Path:
    data = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 4, "height": 3}, {"id": "x", "file_name": "sub/b.jpg"}],
        "annotations": [{"image_id": 7, "category_id": 18} | one for one in objects],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "car_(vehicle)", "synonyms": ["car", "auto"]}],
    } | other
    path = folder / "instances.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def square(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


@pytest.mark.parametrize(
    "one",
    [
        {"segmentation": {"size": [3, 4], "counts": COUNTS}, "iscrowd": 1},
        {"segmentation": {"size": [3, 4], "counts": pack(COUNTS)}},
        {"segmentation": [square(0, 0, 1, 1), square(1, 1, 3, 3)], "bbox": [0, 0, 4, 3]},
    ],
    ids=["runs", "packed", "polygons"],
)
def test_instances_are_read(tmp_path: Path, one: dict[str, Any]) -> None:
    found = region(coco(tmp_path, one), "a.jpg", seen((4, 3)), ["dog"])
    assert found.inside.astype(int).tolist() == ROWS
    assert (found.labels, found.of_class) == (("dog",), True)


def test_a_box_counts_where_there_is_no_segmentation(tmp_path: Path) -> None:
    for segmentation in ({}, {"segmentation": []}):
        path = coco(tmp_path, {"bbox": [1, 1, 2, 2.0]} | segmentation)
        assert region(path, "a.jpg", seen((4, 3))).inside.astype(int).tolist() == covered(Box(1, 1, 3, 3), (4, 3))


def test_images_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    read = open_annotations(coco(tmp_path, {"bbox": [0, 0, 1, 1]}, {"bbox": [0, 0, 1, 1], "image_id": "x"}))
    there = [name for name in ("a.jpg", "b.jpg", "sub/b.jpg", "sub/a.jpg", "aa.jpg") if read.place_of(named(name))]
    assert there == ["a.jpg", "sub/b.jpg", "sub/a.jpg"]
    assert read.annotation_of(named("b.jpg")) is None
    assert read.labels == {"dog", "car_(vehicle), car, auto"}
    assert read.sha256 == read.digest_of(named("a.jpg")) != ""
    assert pickle.loads(pickle.dumps(read)).labels == read.labels


def test_a_category_is_called_by_its_synonyms_too(tmp_path: Path) -> None:
    path = coco(tmp_path, {"bbox": [0, 0, 1, 1], "category_id": 1}, {"bbox": [1, 0, 1, 1]})
    assert region(path, "a.jpg", seen((4, 3)), ["auto"]).inside.sum() == 1


BOX = {"bbox": [0, 0, 1, 1]}
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "this is no JSON"),
        ("[" * 100_000, "this is no JSON"),
        ('{"images": 1e', "this is no JSON"),
        ("9" * 5000, "this is no JSON"),
        ("[]", "no instances of COCO"),
        ("{}", 'there is no list of "images"'),
        ('{"images": [], "annotations": {}}', 'there is no list of "annotations"'),
        ('{"images": [1], "annotations": []}', "image 0 has no id"),
        ('{"images": [{"id": 1, "file_name": 5}], "annotations": []}', "image 0 has no file_name"),
        ('{"images": [{"id": NaN}], "annotations": []}', "NaN is no number"),
        (
            '{"images": [{"id": 1, "file_name": "a", "width": -1, "height": 2}], "annotations": []}',
            "no numbers of pixels",
        ),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}', "stands twice"),
        ('{"images": [], "annotations": [{"image_id": 1}]}', "of no image that is among the images"),
        ('{"images": [], "annotations": [3]}', "of no image that is among the images"),
        ('{"images": [{"image_id": 1}], "annotations": []}', "image 0 has no id"),
        ('{"image_id": 1, "images": [], "annotations": []}', "no instances of COCO"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category 0 has no name"),
        ('{"images": [], "annotations": [], "categories": [{"id": {}, "name": "a"}]}', "category 0 has no id"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a\\ud800"}]}',
            "the name of category 0 is no text",
        ),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=what) as caught:
        open_annotations(path)
    assert caught.value.where == "--annotations"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("one", "what"),
    [
        ({}, "neither a segmentation nor a bbox"),
        (BOX | {"category_id": 5}, "not among the categories"),
        (BOX | {"category_id": [5]}, "not among the categories"),
        ({"bbox": [0, 0, 1]}, "is not .left, top, width, height."),
        ({"bbox": [0, 0, 1, -1]}, "is not .left, top, width, height."),
        ({"bbox": [0, 0, 1, 1e300]}, "is not .left, top, width, height."),
        ({"bbox": [0, 0, 1, True]}, "is not .left, top, width, height."),
        ({"bbox": [0, 0, 1, 10**400]}, "is not .left, top, width, height."),
        ({"segmentation": "cat"}, "neither polygons nor run lengths"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [[1, 2, 3]]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [[]]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [[1, 2, 3, "x"]]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [[1, 2, 3, 1e300]]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [[1, 2, 3, None]]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [[1, 2, 3, 10**400]]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [[[1, 2], [3, 4]]]}, "a polygon of annotation 0 is not"),
        ({"segmentation": [{"x": 1}]}, "a polygon of annotation 0 is not"),
        ({"segmentation": {"counts": [12]}}, "have no size"),
        ({"segmentation": {"counts": [12], "size": [0, 4]}}, "have no size"),
        ({"segmentation": {"counts": [12], "size": [10**6, 10**6]}}, "more than are read"),
        ({"segmentation": {"counts": [12], "size": [4, 3]}}, "of 3 x 4 pixels, and its image is not"),
        ({"segmentation": {"counts": [11], "size": [3, 4]}}, "do not add up"),
        ({"segmentation": {"counts": [13, -1], "size": [3, 4]}}, "do not add up"),
        ({"segmentation": {"counts": [12.0], "size": [3, 4]}}, "no whole numbers"),
        ({"segmentation": {"counts": [[12]], "size": [3, 4]}}, "no whole numbers"),
        ({"segmentation": {"counts": [2**63 - 1, 2**63 - 1, 14], "size": [3, 4]}}, "do not add up"),
        ({"segmentation": {"counts": [10**30], "size": [3, 4]}}, "no whole numbers"),
        ({"segmentation": {"counts": None, "size": [3, 4]}}, "no whole numbers"),
        ({"segmentation": {"counts": "P", "size": [3, 4]}}, "no packed run lengths"),
        ({"segmentation": {"counts": "é", "size": [3, 4]}}, "cannot be read"),
        ({"segmentation": {"counts": "PPPPPPPPP0", "size": [3, 4]}}, "longer than any image"),
        ({"segmentation": {"counts": "", "size": [3, 4]}}, "do not add up"),
    ],
)
def test_damaged_instances_are_refused(tmp_path: Path, one: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        open_annotations(coco(tmp_path, one))
    assert str(caught.value).startswith("instances.json: ")


HOSTILE: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, 10**400, 2**63, "", "x", "\x1b[2J\n", "a" * 10_000, [], {}, [[]], [None],
    [1e308] * 8, {"size": [3, 4]},
    {"size": [3, 4], "counts": "0" * 99}, [["0", "1", "2", "3"]], [[1, [2]]], {"a": {"b": []}},
]  # fmt: skip


def replaced(data: Any, by: Any) -> Iterator[Any]:
    """The same JSON many times, each time with another of its values replaced."""
    yield by
    if isinstance(data, dict):
        for key, held in data.items():
            yield from ({**data, key: other} for other in replaced(held, by))
    if isinstance(data, list):
        for at, held in enumerate(data):
            yield from ([*data[:at], other, *data[at + 1 :]] for other in replaced(held, by))


@pytest.mark.parametrize("by", HOSTILE, ids=range(len(HOSTILE)))
def test_any_value_of_instances_may_be_anything(tmp_path: Path, by: Any) -> None:
    """Each is read, or refused in one line."""
    objects: list[dict[str, Any]] = [
        {"segmentation": {"size": [3, 4], "counts": COUNTS}, "iscrowd": 1},
        {"segmentation": {"size": [3, 4], "counts": pack(COUNTS)}},
        {"segmentation": [square(1, 1, 3, 3)]},
        {"bbox": [0, 0, 1, 1]},
    ]
    refused: list[str] = []
    for data in replaced(json.loads(coco(tmp_path, *objects).read_text(encoding="utf-8")), by):
        path = written(tmp_path / "x.json", json.dumps(data))
        try:
            read = open_annotations(path)
            found = read.annotation_of(named("a.jpg"))
            if found is not None:
                find_region(found, seen((4, 3)), {"dog"}, read.labels)
        except (UsageError, ImageError) as error:
            refused.append(str(error))
    assert len(refused) > 5
    assert all(len(line) < 300 and line.isprintable() for line in refused)


def test_what_would_take_for_ever_is_left_out() -> None:
    many = annotation(*[("", Box(0, 0, 1, 1))] * (regions.MAX_OBJECTS + 1))
    with pytest.raises(ImageError, match="10,001 shapes are marked in it, more than 10,000"):
        find_region(many, seen((4, 3)), frozenset(), None)
    jagged = annotation(("", Polygon(np.zeros((regions.MAX_CORNERS + 1, 2)))))
    with pytest.raises(ImageError, match="its polygons have 200,001 corners"):
        find_region(jagged, seen((4, 3)), frozenset(), None)


# --- tables of boxes ---------------------------------------------------------------------------------------


def written(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "content",
    [
        "a.jpg,1,1,3,3,dog\na.jpg,0,0,1,1,dog\n",
        "image,left,top,right,bottom,label\na.jpg,1,1,3,3,dog\na.jpg,0,0,1,1,dog\n",
        "class;x1;y1;x2;y2;filename\ndog;1.0;1;3;3;a.jpg\ndog;0;0;1;1;a.jpg\n",
    ],
)
def test_a_table_of_boxes_is_read(tmp_path: Path, content: str) -> None:
    found = region(written(tmp_path / "x.csv", content), "a.jpg", seen((4, 3)), ["dog"])
    assert found.inside.astype(int).tolist() == ROWS
    assert (found.labels, found.of_class) == (("dog",), True)


def test_boxes_need_no_label(tmp_path: Path) -> None:
    read = open_annotations(written(tmp_path / "x.csv", "a.jpg,1,1,3,3\n"))
    assert read.labels == frozenset()
    assert find_region(read.annotation_of(named("a.jpg")), seen((4, 3)), {"dog"}, read.labels).labels == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "has no rows"),
        ("a.jpg,1,2\n", "x.csv:1: this row needs an image and four edges"),
        ("a.jpg,1,2,3,4\n,1,2,3,4\n", "x.csv:2: this row needs an image"),
        ("image,left,top,right,bottom\na.jpg,1,2,x,4\n", "x.csv:2: '1, 2, x, 4' are not"),
        ("a.jpg,3,2,1,4\n", "are not the left, top, right and bottom"),
        ("a.jpg,3,2,nan,4\n", "are not the left, top, right and bottom"),
        ("a.jpg,3,2,1e99,4\n", "are not the left, top, right and bottom"),
        ('a.jpg,"3\n', "this is no table"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, content: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        open_annotations(written(tmp_path / "x.csv", content))


# --- VOC ---------------------------------------------------------------------------------------------------

# As the development kit has it, with the parts of a person, which are none of the objects.
VOC = """<annotation>
  <folder>VOC2012</folder><filename>2007_000027.jpg</filename>
  <source><database>The VOC2007 Database</database></source>
  <size><width>4</width><height>3</height><depth>3</depth></size>
  <segmented>0</segmented>
  <object><name>dog</name><pose>Unspecified</pose><truncated>1</truncated><difficult>1</difficult>
    <bndbox><xmax>3</xmax><xmin>2</xmin><ymax>3</ymax><ymin>2</ymin></bndbox>
    <part><name>head</name><bndbox><xmin>4</xmin><ymin>1</ymin><xmax>4</xmax><ymax>1</ymax></bndbox></part>
  </object>
  <object><name>person</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1.0</xmax><ymax>1</ymax></bndbox></object>
</annotation>"""


@pytest.mark.parametrize("folder", ["", "Annotations"])
def test_voc_is_read(tmp_path: Path, folder: str) -> None:
    """VOC counts from 1, and its last row and column are within."""
    written(tmp_path / folder / "2007_000027.xml", VOC)
    everything = region(tmp_path, "2007_000027.jpg", seen((4, 3)))
    assert everything.inside.astype(int).tolist() == ROWS
    assert (everything.labels, everything.of_class) == (("dog", "person"), False)
    dog = region(tmp_path, "2007_000027.jpg", seen((4, 3)), ["dog"])
    assert dog.inside.astype(int).tolist() == covered(Box(1, 1, 3, 3), (4, 3))
    read = open_annotations(tmp_path)
    assert read.annotation_of(named("other.jpg")) is None
    assert (read.sha256, read.labels, read.digest_of(named("other.jpg"))) == (None, None, None)
    assert len(read.digest_of(named("2007_000027.jpg")) or "") == 64
    assert pickle.loads(pickle.dumps(read)) == read


def test_a_folder_of_voc_has_folders_as_the_images_have(tmp_path: Path) -> None:
    written(tmp_path / "cats/1.xml", VOC)
    read = open_annotations(tmp_path)
    assert [read.place_of(named(name)) for name in ("cats/1.jpg", "dogs/1.jpg")] == [str(tmp_path / "cats/1.xml"), None]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_voc_may_be_encoded_otherwise(tmp_path: Path, encoding: str) -> None:
    declared = "" if encoding.startswith("utf") else f"<?xml version='1.0' encoding='{encoding}'?>"
    (tmp_path / "a.xml").write_bytes((declared + VOC.replace("dog", "köter")).encode(encoding))
    assert region(tmp_path, "a.png", seen((4, 3)), ["köter"]).of_class


LAUGHS = "<!DOCTYPE a [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{at} '{f'&a{at - 1};' * 10}'>" for at in range(1, 12))
LEAK = "<!DOCTYPE a [<!ENTITY name SYSTEM 'file:///etc/passwd'>]>"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "this is no XML"),
        ("<annotation>", "this is no XML"),
        ("<a/><b/>", "this is no XML"),
        ("<?xml version='1.0' encoding='klingon'?><a/>", "this is no XML"),
        (LAUGHS + "]><annotation><object><name>&a11;</name></object></annotation>", "it has a document type"),
        (LEAK + VOC.replace("dog", "&name;"), "it has a document type"),
        ("<!DOCTYPE a SYSTEM 'http://localhost/x.dtd'>" + VOC, "it has a document type"),
        (VOC.replace("dog", "&name;"), "this is no XML"),
        ("<a>" * 100_000, "32 deep"),
        (VOC.replace("<xmin>2</xmin>", ""), "object 1 has no xmin"),
        (VOC.replace("<xmin>1</xmin>", ""), "object 2 has no xmin"),
        (VOC.replace("<xmin>2</xmin>", "<xmin>x</xmin>"), "the xmin of object 1, 'x', is no number of pixels"),
        (VOC.replace("<xmin>2</xmin>", "<xmin>nan</xmin>"), "is no number of pixels"),
        (VOC.replace("<xmin>2</xmin>", "<xmin>1e30</xmin>"), "is no number of pixels"),
        (VOC.replace("<xmin>2</xmin>", "<xmin>9</xmin>"), "ends before it starts"),
        (VOC.replace("<width>4<", "<width>-4<"), "its size, -4 x 3, is no number of pixels"),
        (VOC.replace("<width>4<", "<width>4.5<"), "is no number of pixels"),
    ],
)
def test_hostile_xml_is_refused(tmp_path: Path, content: str, what: str) -> None:
    read = open_annotations(written(tmp_path / "a.xml", content).parent)
    with pytest.raises(ImageError, match=what) as caught:
        read.annotation_of(named("a.jpg"))
    assert caught.value.what.startswith("its annotation cannot be read: ")
    assert str(tmp_path) not in caught.value.what
    assert len(caught.value.what) < 250


def test_xml_is_read_within_bounds(tmp_path: Path) -> None:
    with (tmp_path / "a.xml").open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(ImageError, match="larger than 16 MiB"):
        open_annotations(tmp_path).annotation_of(named("a.jpg"))


def test_a_size_of_nothing_is_not_told(tmp_path: Path) -> None:
    written(tmp_path / "a.xml", VOC.replace("<width>4<", "<width>0<").replace("<height>3<", "<height>0<"))
    found = open_annotations(tmp_path).annotation_of(named("a.jpg"))
    assert found is not None
    assert found.size is None


# --- masks -------------------------------------------------------------------------------------------------


def saved(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def of_classes(indices: list[list[int]]) -> Image.Image:
    image = Image.fromarray(np.array(indices, np.uint8), "P")
    image.putpalette([level for colour in range(256) for level in (colour, 255 - colour, colour // 2)])
    return image


def test_masks_are_read(tmp_path: Path) -> None:
    saved(Image.fromarray(SHAPE * 255), tmp_path / "m/sub/a.png")
    found = region(tmp_path / "m", "sub/a.jpg", seen((4, 3)), ["dog"])
    assert found.inside.astype(int).tolist() == ROWS
    assert (found.labels, found.of_class) == ((), False)
    large = region(tmp_path / "m", "sub/a.jpg", seen((8, 6)))  # the mask is of the image at half its size
    assert (large.inside == SHAPE.repeat(2, 0).repeat(2, 1)).all()


def test_the_indices_of_a_palette_are_classes(tmp_path: Path) -> None:
    """Index 255 is VOC's for outlines, which belong to nothing."""
    path = saved(of_classes([[0, 1, 2, 255], [0, 1, 2, 255]]), tmp_path / "m/a.png").parent
    assert region(path, "a.jpg", seen((4, 2)), ["cat"]).inside.tolist() == [[False, True, True, False]] * 2
    written(path / "labels.txt", "nothing\ndog\ncat\nhen\n")
    cat = region(path, "a.jpg", seen((4, 2)), ["cat"])
    assert (cat.inside.tolist(), cat.labels, cat.of_class) == ([[False, False, True, False]] * 2, ("cat",), True)
    with pytest.raises(ImageError, match="marked in other images"):
        region(path, "a.jpg", seen((4, 2)), ["hen"])
    assert region(path, "a.jpg", seen((4, 2)), ["nothing"]).labels == ("cat", "dog")
    written(path / "labels.txt", "nothing\n\n")
    written(path / "labels.json", "{")
    assert open_annotations(path).labels == frozenset()
    (path / "labels.txt").unlink()
    with pytest.raises(UsageError, match=r"labels\.json: this is no JSON") as caught:
        open_annotations(path)
    assert caught.value.where == "--annotations"


def test_what_a_mask_lacks_is_said(tmp_path: Path) -> None:
    folder = saved(Image.new("L", (4, 3)), tmp_path / "m/a.png").parent
    with pytest.raises(ImageError, match="nothing is marked in it"):
        region(folder, "a.jpg", seen((4, 3)))
    saved(Image.new("L", (4, 3)), folder / "a.tif")
    with pytest.raises(ImageError, match=r"several annotations: a\.png and a\.tif"):
        region(folder, "a.jpg", seen((4, 3)))
    (folder / "b.png").write_bytes(hostile.FILES["bomb.png"][0]())
    with pytest.raises(ImageError, match="its mask: "):
        region(folder, "b.jpg", seen((4, 3)))


# --- which kind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gone.json", "does not exist"),
        ("x.bin", "holds no annotations of a kind that is read"),
        ("folder", "neither .xml files nor masks"),
        ("pipe.json", "it is a pipe"),
        ("nul\0.json", "cannot be read|does not exist"),
    ],
)
def test_other_places_are_refused_in_one_sentence(tmp_path: Path, name: str, what: str) -> None:
    import os

    (tmp_path / "x.bin").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UsageError, match=what) as caught:
        open_annotations(tmp_path / name)
    assert caught.value.where == "--annotations"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(513 * 2**20)
    with pytest.raises(UsageError, match="larger than 512 MiB"):
        open_annotations(tmp_path / "x.json")


def test_all_kinds_answer_alike(tmp_path: Path) -> None:
    kinds: list[Annotations] = [
        open_annotations(coco(tmp_path, BOX)),
        open_annotations(written(tmp_path / "x.csv", "a.jpg,0,0,1,1\n")),
        open_annotations(written(tmp_path / "voc/a.xml", VOC).parent),
        open_annotations(saved(Image.fromarray(SHAPE * 255), tmp_path / "m/a.png").parent),
    ]
    for read in kinds:
        found = read.annotation_of(named("a.jpg"))
        assert found is not None
        assert found.sha256 == read.digest_of(named("a.jpg"))
        assert find_region(found, seen((4, 3)), frozenset(), read.labels).inside.any()
        assert read.place_of(named("z.jpg")) is None


# --- each label by itself ----------------------------------------------------------------------------------


def test_each_label_is_a_region_of_its_own() -> None:
    marked = annotation(
        ("Cat", Box(0, 0, 1, 1)), ("dog", Box(1, 1, 3, 2)), ("cat_", Box(3, 2, 4, 3)), ("", Box(0, 2, 2, 3))
    )
    found = regions_by_label(marked, seen((4, 3)))
    assert list(found) == sorted(["Cat", "dog", UNNAMED])  # of spellings the first in the alphabet
    assert found["Cat"].astype(int).tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert found["dog"].astype(int).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert found[UNNAMED].astype(int).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]


def test_objects_without_a_label_join_those_that_are_called_so() -> None:
    found = regions_by_label(annotation(("", Box(0, 0, 1, 1)), (UNNAMED, Box(1, 0, 2, 1))), seen((4, 3)))
    assert list(found) == [UNNAMED]
    assert found[UNNAMED].sum() == 2


def test_a_label_outside_of_what_is_seen_is_there_and_empty() -> None:
    framing = Framing((8, 4), 1, cover((8, 4), (4, 4), (4, 4)))  # the middle four of eight columns
    found = regions_by_label(annotation(("left", Box(0, 0, 2, 4)), ("middle", Box(2, 0, 3, 4))), framing)
    assert not found["left"].any()
    assert found["middle"].astype(int).tolist() == [[1, 0, 0, 0]] * 4


def test_regions_by_label_are_turned_with_their_image() -> None:
    """Stored 4 wide and 3 high, shown a quarter to the right: 3 wide and 4 high."""
    marked = annotation(("cat", Drawn(SHAPE > 0)), size=(4, 3))
    found = regions_by_label(marked, Framing((3, 4), 6, stretch((3, 4))))
    assert (found["cat"] == np.rot90(SHAPE > 0, -1)).all()


def test_where_nothing_is_marked_there_is_no_region() -> None:
    with pytest.raises(ImageError, match="nothing is marked in it"):
        regions_by_label(annotation(), seen((4, 3)))
    with pytest.raises(ImageError, match="other proportions"):
        regions_by_label(annotation(("cat", Box(0, 0, 1, 1)), size=(9, 2)), seen((4, 3)))
