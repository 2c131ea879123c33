"""One pass over a folder: what it gives of each image is what the network gives of it, whatever company it has."""

from __future__ import annotations

import importlib
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run.made_up_study import LAYER
from run.resuming import Listener, listed, photographs, tiny_model
from torch.nn import functional

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.network import NetworkError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.rows import ALIGNMENT, RowPieces, aligned_empty, rows_of
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.feature_store import FeatureStore, SeenImage
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.store_files import remove_stores
from cnnviz_cli.run import feature_pass
from cnnviz_cli.run.feature_pass import Crops, FeaturePass, SeenBatch, Unseen
from cnnviz_cli.run.session import Session


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in", 8)


def session(out: Path, **more: Any) -> Session:
    flags = {("output",): str(out), ("batch_size",): "3", ("device",): "cpu", ("workers",): "0"}
    flags |= {(name,): one for name, one in more.items()}
    return Session.load("gradcam", load_settings("gradcam", flags, None, {}), Reporter())


def seen_of(one: Session, sources: list[Source], **how: Any) -> dict[int, tuple[Any, ...]]:
    """By number the maps, scores, view and size of each image."""
    found: dict[int, tuple[Any, ...]] = {}
    scores = how.pop("scores", True)
    only = how.pop("only", lambda _at: True)
    for batch in FeaturePass(one, [LAYER], scores=scores, **how).over(sources, Reporter(), only=only):
        if isinstance(batch, Unseen):
            found[batch.at] = (batch.why,)
            continue
        for number, at in enumerate(batch.at):
            logits = None if batch.scores is None else batch.scores[number].clone()
            found[at] = batch.maps[LAYER][number].clone(), logits, batch.views[number], batch.sizes[number]
    return found


def test_maps_and_scores_are_those_of_the_network(tmp_path: Path, sources: list[Source]) -> None:
    one = session(tmp_path / "out")
    found = seen_of(one, sources)
    assert sorted(found) == list(range(len(sources)))
    kept: list[torch.Tensor] = []
    one.net.get_submodule(LAYER).register_forward_hook(lambda _net, _inputs, output: kept.append(output.clone()))
    for at, source in enumerate(sources):
        if source.name == "3.png":
            assert "image" in found[at][0]
            continue
        pixels, view, _ = one.model.preprocessing.prepare(Image.open(source.path).convert("RGB"))
        with torch.no_grad():
            logits = one.net(pixels[None])[0]
        maps, scores, seen, size = found[at]
        torch.testing.assert_close(maps, kept[-1][0])
        torch.testing.assert_close(scores, logits)
        assert (seen, size) == (view, (16, 14))


def test_the_company_of_an_image_is_that_of_the_whole_list(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: shards and resumed passes show whole batches."""
    one = session(tmp_path / "out")
    whole, alone = seen_of(one, sources), {}
    genuine, shown = FeaturePass._show, []
    monkeypatch.setattr(FeaturePass, "_show", lambda *given: (shown.append(1), genuine(*given))[1])
    for at in range(len(sources)):
        alone |= seen_of(one, sources, only=lambda number, at=at: number == at)
        assert len(shown) == at + 1  # no batch but its own
    assert whole.keys() == alone.keys()
    for at, found in whole.items():
        assert all(
            torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(found, alone[at], strict=True)
        )


def test_workers_and_the_layer_alone_change_nothing(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = seen_of(session(tmp_path / "out"), sources)
    monkeypatch.setattr(feature_pass, "MIN_FOR_WORKERS", 2)
    helped = seen_of(session(tmp_path / "out", workers="2"), sources)
    shallow = seen_of(session(tmp_path / "out"), sources, scores=False)
    for at, found in whole.items():
        if len(found) > 1:
            assert torch.equal(found[0], helped[at][0])
            torch.testing.assert_close(found[0], shallow[at][0])
            assert shallow[at][1] is None


def test_images_of_other_sizes_pass_by_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    draws = np.random.default_rng(1)
    for number, (width, height) in enumerate([(64, 64), (64, 64), (96, 64), (64, 96), (64, 64)]):
        Image.fromarray(draws.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    usual = session(tmp_path / "out")
    preprocessing = replace(usual.model.preprocessing, mode="full", most=128)
    one = replace(usual, model=replace(usual.model, preprocessing=preprocessing))
    found = seen_of(one, listed(folder))
    assert [tuple(found[at][0].shape) for at in range(5)] == [
        (6, 32, 32),
        (6, 32, 32),
        (6, 32, 48),
        (6, 48, 32),
        (6, 32, 32),
    ]


def test_what_one_image_does_to_the_network_is_that_image_s_failure(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = session(tmp_path / "out")
    genuine = FeaturePass._pass

    def fragile(self: FeaturePass, inputs: Any, digests: Any, *, scores: bool) -> Any:
        if bad in digests:
            raise NetworkError("it fell over")
        return genuine(self, inputs, digests, scores=scores)

    whole = seen_of(one, sources)
    seen = next(iter(FeaturePass(one, [LAYER]).over(sources, Reporter())))
    assert isinstance(seen, SeenBatch)
    bad = seen.digests[1]
    monkeypatch.setattr(FeaturePass, "_pass", fragile)
    found = seen_of(one, sources)
    assert found[1] == ("it fell over",)
    torch.testing.assert_close(found[0][0], whole[0][0])
    with torch.no_grad():
        one.net.fc.bias[0] = torch.nan
    monkeypatch.setattr(FeaturePass, "_pass", genuine)
    assert {found[0] for at, found in seen_of(one, sources).items() if at != 3} == {
        "the network's answers are not finite"
    }


def test_crops_are_cut_from_what_the_network_sees(tmp_path: Path, sources: list[Source]) -> None:
    one = session(tmp_path / "out")
    crops = Crops(share=0.5, stride=0.5)
    seen = next(iter(FeaturePass(one, [LAYER], crops=crops).over(sources, Reporter())))
    assert isinstance(seen, SeenBatch)
    side = int(seen.inputs.shape[2])
    half, quarter = side // 2, side // 4
    starts = [0, quarter, half]
    for image in range(2):
        assert len(seen.boxes[image]) == len(seen.crops_of(LAYER, image)) == 9
        for number, (top, left) in enumerate((y, x) for y in starts for x in starts):
            part = seen.inputs[image : image + 1, :, top : top + half, left : left + half]
            enlarged = functional.interpolate(part, (side, side), mode="bilinear", align_corners=False)
            maps = one.layers_reader([LAYER])(enlarged, ["x"])[LAYER]
            torch.testing.assert_close(seen.crops_of(LAYER, image)[number], maps[0])
            view = seen.views[image]
            assert seen.boxes[image][number] == view.to_image((left, top, left + half, top + half))
    assert Crops().windows(224, 224)[0] == (0, 0, 94)
    assert max(top + side for top, _, side in Crops().windows(224, 224)) == 224
    assert Crops(share=1.0).windows(20, 10) == [(0, 0, 10), (10, 0, 10)]


def test_chunks_do_not_depend_on_how_rows_came_about() -> None:
    matrix = np.random.default_rng(0).normal(size=(23, 5)).astype(np.float32)
    cut = RowPieces(lambda: [matrix[:1], matrix[1:9], matrix[9:9], matrix[9:]], matrix.shape)
    for size in (1, 4, 23, 50):
        whole, parts = list(rows_of(matrix).chunks(size)), list(cut.chunks(size))
        assert [len(one) for one in parts] == [len(one) for one in whole]
        assert np.array_equal(np.concatenate(parts), matrix)
        assert all(one.ctypes.data % ALIGNMENT == 0 and not one.flags.writeable for one in (*whole, *parts))
    with pytest.raises(ValueError, match="no chunk has 0 rows"):
        next(cut.chunks(0))
    assert aligned_empty((3, 2)).shape == (3, 2)


def fill(store: FeatureStore, numbers: range, rows: int = 2) -> None:
    for at in numbers:
        store.write(at, {"rows": np.full((rows, 8), at, np.float32)}, SeenImage(f"{at:064d}", (4, 3), (0, 0, 4, 3)))


def test_rows_of_several_parts_are_in_the_order_of_the_list(tmp_path: Path) -> None:
    sink, about = Sink(tmp_path), {"network": "a"}
    with FeatureStore(sink, "x", about, {"rows": 8}, 10, Shard(0, 2)) as first:
        fill(first, range(0, 3))
        fill(first, range(6, 9), rows=3)
    with FeatureStore(sink, "x", about, {"rows": 8}, 10, Shard(1, 2)) as second:
        second.fail(5, SeenImage("", why="broken"))
        fill(second, range(3, 5))
        assert second.missing == 1
        fill(second, range(9, 10))
        rows = np.concatenate(list(second.rows("rows").chunks(4)))
        assert rows[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9]
        assert second.seen.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert second.counts("rows").tolist() == [2, 2, 2, 2, 2, 3, 3, 3, 2]
        assert second.values("rows", 7).tolist() == [[7.0] * 8] * 3
        assert second.about(5).why == "broken"
        assert second.about(8).sha256 == f"{8:064d}"
    with FeatureStore(sink, "x", {"network": "b"}, {"rows": 8}, 10, SINGLE_SHARD) as other:
        assert other.missing == 10
    remove_stores(sink)
    assert list(tmp_path.iterdir()) == []


def test_rows_without_a_line_and_lines_without_rows_count_for_nothing(tmp_path: Path) -> None:
    sink, data, index = Sink(tmp_path), tmp_path / "run.x.whole.rows.f32", tmp_path / "run.x.whole.jsonl"
    with FeatureStore(sink, "x", {}, {"rows": 8}, 6, SINGLE_SHARD) as store:
        fill(store, range(4))
    whole, lines = data.read_bytes(), index.read_bytes()
    data.write_bytes(whole + b"half a row")
    index.write_bytes(lines + b'{"at":5,"ro')
    with FeatureStore(sink, "x", {}, {"rows": 8}, 6, SINGLE_SHARD) as store:
        assert data.read_bytes() == whole
        assert index.read_bytes() == lines
        assert store.missing == 2
    data.write_bytes(whole[:-1])
    with FeatureStore(sink, "x", {}, {"rows": 8}, 6, SINGLE_SHARD) as store:
        assert store.missing == 3
        fill(store, range(3, 6))
        assert [one[0] for one in np.concatenate(list(store.rows("rows").chunks(2)))] == [
            0,
            0,
            1,
            1,
            2,
            2,
            3,
            3,
            4,
            4,
            5,
            5,
        ]
    for bad in (b'{"at":-1,"rows":{"rows":[0,1]}}', b'{"at":0,"rows":{"rows":[0,-1]}}', b"[]", b'{"at":9,"why":"x"}'):
        index.write_bytes(lines[: lines.index(b"\n") + 1] + bad + b"\n")
        with FeatureStore(sink, "x", {}, {"rows": 8}, 6, SINGLE_SHARD) as store:
            assert store.missing == 6


def test_memory_does_not_grow_with_the_rows_and_hardly_with_the_images(tmp_path: Path) -> None:
    """Thirty bytes an image, where its rows have three hundred thousand."""

    def peak(count: int, rows: int) -> int:
        tracemalloc.start()
        with FeatureStore(Sink(tmp_path), f"x{count}", {}, {"rows": 8}, count, SINGLE_SHARD) as store:
            fill(store, range(count), rows)
            total = sum(float(chunk.sum()) for chunk in store.rows("rows").chunks(256))
            assert total == 8 * rows * count * (count - 1) / 2
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(20, 100)
    few, many = peak(50, 10_000), peak(200, 10_000)  # 16 and 64 MB
    assert many < few + 500_000
    assert peak(8000, 1) - peak(2000, 1) < 6000 * 250


def test_a_pass_holds_no_more_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was shown is let go before the next batch is shown."""
    sources = photographs(tmp_path / "in", 12)
    alive: list[int] = []
    genuine, held = FeaturePass._show, list[Any]()

    def watched(self: FeaturePass, items: Any, images: Any) -> Any:
        import gc
        import weakref

        gc.collect()
        alive.append(sum(one() is not None for one in held))
        seen = genuine(self, items, images)
        held.append(weakref.ref(seen.maps[LAYER]))
        return seen

    monkeypatch.setattr(FeaturePass, "_show", watched)
    for seen in FeaturePass(session(tmp_path / "out"), [LAYER]).over(sources, Listener()):
        del seen
    assert max(alive) <= 1
