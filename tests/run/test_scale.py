"""One scale for a run, or one that is given: the colours, the manifest, and what lies on the disk meanwhile."""

from __future__ import annotations

import errno
import gc
import importlib
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run.test_execute import SAMPLES, Heard, local_run, manifest_of, reading

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import OutputError, Terminated, UsageError
from cnnviz_cli.core.figure_settings import Scale, parse_scale
from cnnviz_cli.core.panels import Heatmap, InputProjection, Panel, PixelMap, SignedMap
from cnnviz_cli.core.records import Output
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.sink import DiskQueue, Sink
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import describe_run
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.image_data import TaskName
from cnnviz_cli.run.pipeline import MapScales
from cnnviz_cli.run.present import comparison_names
from cnnviz_cli.run.scales import WidestRanges

pytestmark = pytest.mark.usefixtures("networks_once")

spooling = importlib.import_module("cnnviz_cli.files.output.sink")


def run(out: Path, heard: Heard | None = None, places: list[Path] | None = None, **settings: Any) -> None:
    flags = {(name,): value for name, value in {"output": str(out), "workers": "0", **settings}.items()}
    found = find_images(places or [SAMPLES], recursive=False)
    local_run.execute("gradcam", load_settings("gradcam", flags, None, {}), found, heard or Heard())


def maps(out: Path) -> list[Output]:
    return [output for image in manifest_of(out).images for output in image.outputs if output.method]


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Four small photographs."""
    (tmp_path / "in").mkdir()
    places = [tmp_path / "in" / name for name in ("a.png", "b.png", "c.png", "d.png")]
    for number, place in enumerate(places):
        Image.new("RGB", (40, 40), (60 * number, 90, 200)).save(place)
    return places


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "out"
    run(out, target="top2")
    return out


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared") / "out"
    run(out, target="top2", scale="run", batch_size="2")
    return out


def test_by_itself_each_map_ends_at_its_highest_value(own: Path) -> None:
    found = maps(own)
    assert len({output.scale for output in found}) == len(found) == 10
    assert all(output.range and output.scale == (0, output.range[1]) for output in found)
    assert manifest_of(own).run.config["scale"] == "image"


def test_one_scale_of_the_run_reaches_the_highest_value_of_all(own: Path, shared: Path) -> None:
    highest = max(output.range[1] for output in maps(own) if output.range)
    for output, before in zip(maps(shared), maps(own), strict=True):
        assert output.scale == pytest.approx((0, highest), rel=1e-5)
        assert output.range == pytest.approx(before.range, rel=1e-4, abs=1e-6)  # the raw map's, as ever
        assert output.path == before.path
    assert manifest_of(shared).run.config["scale"] == "run"
    assert verify(shared) == []


def test_the_runs_scale_draws_what_the_same_numbers_given_would(shared: Path, tmp_path: Path) -> None:
    low, high = maps(shared)[0].scale or (0, 0)
    run(tmp_path / "out", target="top2", scale=f"fixed:{low!r},{high!r}", batch_size="2")
    for output in maps(shared):
        with Image.open(shared / output.path) as one, Image.open(tmp_path / "out" / output.path) as other:
            assert one.width == other.width
            height = min(one.height, other.height)  # their legends may take another number of lines
            unlike = (np.asarray(one)[:height] != np.asarray(other)[:height]).any((1, 2))
        source = next(image for image in manifest_of(shared).images if output.path.startswith(image.source))
        assert unlike.any()  # the legend: whose scale it is
        assert np.flatnonzero(unlike).min() > (source.height or 0)


def test_a_given_range_is_recorded_and_drawn(own: Path, tmp_path: Path) -> None:
    run(tmp_path / "out", target="top2", scale="fixed:-0.5,2")
    found = maps(tmp_path / "out")
    assert {output.scale for output in found} == {(-0.5, 2.0)}
    assert [output.range for output in found] == [output.range for output in maps(own)]
    assert all(a.sha256 != b.sha256 for a, b in zip(found, maps(own), strict=True))


def test_nothing_is_left_of_what_waited_on_the_disk(shared: Path) -> None:
    images = {image.source for image in manifest_of(shared).images}
    assert names(shared) == images | {"manifest.json", "manifest.jsonl", "run.json"}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated, RuntimeError])
def test_a_first_pass_that_ends_early_leaves_nothing_behind(
    kind: type[BaseException], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, calls, lying, heard = Explainer.explain_batch, [], [], Heard()

    def observe(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            lying.append(names(tmp_path / "out"))
            raise kind
        return genuine(*arguments, **named)

    monkeypatch.setattr(Explainer, "explain_batch", observe)
    if kind is RuntimeError:
        with pytest.raises(RuntimeError):
            run(tmp_path / "out", heard, photos, scale="run", batch_size="2")
        assert names(tmp_path / "out") == {"manifest.jsonl"}
        assert heard.warned == []
    else:
        run(tmp_path / "out", heard, photos, scale="run", batch_size="2")
        manifest = manifest_of(tmp_path / "out")
        assert (manifest.run.status, manifest.images) == ("interrupted", [])
        assert names(tmp_path / "out") == {"manifest.json", "manifest.jsonl", "run.json"}
        assert verify(tmp_path / "out") == []
        (warning,) = heard.warned
        assert "nothing was drawn" in warning
        assert "--scale image" in warning
    assert lying == [{"manifest.jsonl"}]  # not even while it is there has the file a name


def test_a_second_pass_that_is_interrupted_keeps_what_it_finished(photos: list[Path], tmp_path: Path) -> None:
    def stop(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    heard = Heard(stop)
    run(tmp_path / "out", heard, photos, scale="run")
    assert [image.source for image in manifest_of(tmp_path / "out").images] == ["a.png", "b.png"]
    assert heard.warned == []
    assert names(tmp_path / "out") == {"a.png", "b.png", "manifest.json", "manifest.jsonl", "run.json"}


def test_a_disk_that_refuses_is_an_output_error(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dump(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spooling.pickle, "dump", dump)
    with pytest.raises(OutputError, match="the disk is full"):
        run(tmp_path / "out", None, photos, scale="run")


def test_the_spool_gives_back_what_was_put_in_order(tmp_path: Path) -> None:
    items = [{"a": np.arange(4)}, ["x"], 3]
    with DiskQueue(Sink(tmp_path)) as spool:
        for item in items:
            spool.put(item)
        first, *rest = spool
        assert list(tmp_path.iterdir()) == []
    assert first["a"].tolist() == [0, 1, 2, 3]
    assert rest == items[1:]
    with pytest.raises(OutputError):
        DiskQueue(Sink(tmp_path / "missing"))


def test_photographs_are_not_kept_for_the_second_pass(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, alive, most = reading.read_image, [], []

    def read_image(source: Source, *how: Any) -> Any:
        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        photo = genuine(source, *how)
        alive.append(weakref.ref(photo.image))
        return photo

    monkeypatch.setattr(reading, "read_image", read_image)
    run(tmp_path / "out", None, photos, scale="run", batch_size="2")
    assert len(most) == 8
    assert max(most) == 0


def test_failures_of_either_pass_are_records_in_their_places(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos[1].write_bytes(b"this is no picture")
    genuine: Callable[..., Any] = reading.read_image
    times: dict[str, int] = {}

    def read_image(source: Source, *how: Any) -> Any:
        times[source.name] = times.get(source.name, 0) + 1
        if (source.name, times[source.name]) == ("c.png", 2):
            Image.new("RGB", (40, 40)).save(source.path)
        if (source.name, times[source.name]) == ("d.png", 2):
            source.path.write_bytes(b"gone")
        return genuine(source, *how)

    monkeypatch.setattr(reading, "read_image", read_image)
    run(tmp_path / "out", None, photos, scale="run")
    images = manifest_of(tmp_path / "out").images
    assert [(image.source, image.status) for image in images] == [
        ("a.png", "ok"),
        ("b.png", "failed"),
        ("c.png", "failed"),
        ("d.png", "failed"),
    ]
    assert images[2].error == "the file changed during the run"


def gradcam() -> TaskName:
    return TaskName("gradcam", "gradcam")


RAMP = np.linspace(0, 1, 1000, dtype=np.float32).reshape(1, 20, 50)


def test_scales_widen_for_each_method_layer_and_kind() -> None:
    ranges = WidestRanges()
    other = TaskName("saliency", "gradient")
    for method, panel in (
        (gradcam(), Heatmap(RAMP, layer="a")),
        (gradcam(), Heatmap(3 * RAMP, layer="a")),
        (gradcam(), Heatmap(2 * RAMP, layer="a")),
        (gradcam(), Heatmap(9 * RAMP, layer="b")),
        (other, SignedMap(RAMP - 5)),
        (other, PixelMap(7 * RAMP)),
    ):
        ranges.add(([method], [[panel]]))
    scales = MapScales("run", ranges.finish())
    found: list[tuple[Any, Panel]] = [
        (gradcam(), Heatmap(RAMP, layer="a")),
        (gradcam(), Heatmap(RAMP, layer="b")),
        (other, SignedMap(RAMP)),
        (other, PixelMap(RAMP)),
    ]
    low = float(np.sort(np.abs(RAMP - 5).ravel())[994])
    high = float(np.sort((7 * RAMP).ravel())[994])
    expected = [(0, 3), (0, 9), (-low, low), (0, high)]
    for (method, panel), ends in zip(found, expected, strict=True):
        scale = scales.scale_of(method, panel)
        assert scale is not None
        assert (scale.low, scale.high) == pytest.approx(ends)
    assert scales.scale_of(gradcam(), Heatmap(RAMP, layer="c")) is None
    assert scales.scale_of(other, InputProjection(RAMP)) is None


def test_maps_that_cannot_be_read_do_not_widen_the_scale() -> None:
    ranges = WidestRanges()
    huge = RAMP * np.float32(1e30)
    huge[0, 0, 0] = np.inf
    for values, peak in ((huge, 1), (RAMP * 0, -1), (RAMP * 0 + 50, 50)):
        ranges.add(([gradcam()], [[Heatmap(values, np.float32(peak))]]))
    assert ranges.finish() == {}
    ranges.add(([gradcam()], [[Heatmap(RAMP, np.float32(1))]]))
    assert MapScales("run", ranges.finish()).scale_of(gradcam(), Heatmap(RAMP)) == Scale(0, 1, "the run's")


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("fixed:0,1", (0, 1)),
        ("fixed:-1.5e-3,+.5", (-0.0015, 0.5)),
        ("fixed:-2,-1.", (-2, -1)),
    ],
)
def test_a_fixed_scale_is_read(text: str, ends: tuple[float, float]) -> None:
    found = parse_scale(load_settings("gradcam", {("scale",): text}, None, {}).scale)
    assert found is not None
    assert (found.low, found.high) == ends
    assert MapScales(text).scale_of(gradcam(), Heatmap(RAMP)) == found


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("fixed:1,0", "the lower number first"),
        ("fixed:1,1", "the lower number first"),
        ("fixed:0,1e999", "two finite numbers"),
        ("fixed:-1e308,1e308", "two finite numbers"),
        ("fixed:nan,1", "must be image, run or fixed:LO,HI"),
        ("fixed:0", "must be image, run or fixed:LO,HI"),
        ("fixed:0,1,2", "must be image, run or fixed:LO,HI"),
        ("fixed:0, 1", "must be image, run or fixed:LO,HI"),
        ("{what}", "must be image, run or fixed:LO,HI"),
        ("Image", "must be image, run or fixed:LO,HI"),
        ("", "must be image, run or fixed:LO,HI"),
    ],
)
def test_no_other_scale_is_taken(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        load_settings("gradcam", {("scale",): text}, None, {})
    with pytest.raises(ValueError, match=what):
        parse_scale(text)


def test_a_sheet_never_takes_a_pictures_name() -> None:
    def first(count: int, *taken: str) -> list[str]:
        return [name for name, _ in zip(comparison_names("gradcam", taken), range(count), strict=False)]

    assert first(2) == ["gradcam.compare.png", "gradcam.compare-2.png"]
    assert first(2, "gradcam.Compare.png", "gradcam.compare-3.png") == [
        "gradcam.compare-2.png",
        "gradcam.compare-4.png",
    ]


def test_each_image_has_its_sheet_first_and_a_dry_run_foretells_it(own: Path) -> None:
    for image in manifest_of(own).images:
        sheet, *others = image.outputs
        assert sheet.path == f"{image.source}/gradcam.compare.png"
        assert (sheet.family, sheet.method, sheet.layer, sheet.target) == ("gradcam", None, None, None)
        assert (sheet.range, sheet.scale, sheet.state) == (None, None, "ok")
        with Image.open(own / sheet.path) as picture:
            assert picture.size == (sheet.width, sheet.height)
        assert len(others) == 2
    settings = load_settings("gradcam", {("target",): "top2"}, None, {})
    sketch = describe_run("gradcam", settings, find_images([SAMPLES], recursive=False), Heard())
    assert "camera.png/gradcam.compare.png" in sketch.outputs
    alone = describe_run(
        "gradcam", load_settings("gradcam", {}, None, {}), find_images([SAMPLES], recursive=False), Heard()
    )
    assert alone.outputs == ["camera.png/gradcam.png"]


def test_all_has_the_overview_first_and_a_sheet_for_each_family(tmp_path: Path) -> None:
    flags = {("output",): str(tmp_path / "out"), ("workers",): "0", ("target",): "top2", ("scale",): "run"}
    places = find_images([SAMPLES / "coffee.png"], recursive=False)
    local_run.execute("all", load_settings("all", flags, None, {}), places, Heard())
    (image,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["images"]
    assert [output["path"].split("/")[1] for output in image["outputs"] if output["method"] is None] == [
        "overview.png",
        "saliency.compare.png",
        "gradcam.compare.png",
    ]
    assert image["outputs"][0]["family"] == "overview"
