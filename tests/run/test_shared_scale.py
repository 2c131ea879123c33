"""``--scale run`` in several processes: one range for the maps of all shards, and the bytes of an undivided run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from run.resuming import Listener, files_of, listed, photographs, run

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.panels import Heatmap, PixelMap, SignedMap
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.journal import Journal, parse_json, to_compact_json
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.resume import Ledger
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import scales
from cnnviz_cli.run.image_data import TaskName
from cnnviz_cli.run.rerun import conclude_if_done
from cnnviz_cli.run.scales import WidestRanges


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tiny_network: None) -> None:  # noqa: ARG001
    """No shard waits for another that is not at work."""
    monkeypatch.setattr(scales, "_START_SECONDS", 0.0)


def shared(
    out: Path, sources: list[Source], shard: Shard = SINGLE_SHARD, heard: Listener | None = None, **how: Any
) -> Any:
    return run(out, sources, heard, shard=shard, **{"scale": "run", "batch_size": "1", **how})


def state_of(out: Path, index: int, count: int = 2) -> Path:
    return out / Shard(index, count).fold_state


def merged_files(out: Path) -> dict[str, bytes]:
    """What a merged run has in common with an undivided one."""
    return {name: data for name, data in files_of(out).items() if not (name.startswith("manifest.") and "-of-" in name)}


KINDS = (Heatmap, SignedMap, PixelMap)
ENTRY = st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", None]), st.floats(-1e30, 1e30), st.integers(0, 99))


@given(st.lists(ENTRY, max_size=12), st.integers(1, 4), st.randoms(use_true_random=False))
def test_ranges_are_the_same_however_the_images_are_divided(entries: list[Any], parts: int, random: Any) -> None:
    def items() -> list[Any]:
        task = TaskName("family", "method")
        values = (
            np.random.default_rng(seed).normal(size=(1, 4, 4)).astype(np.float32) * peak for _, _, peak, seed in entries
        )
        return [
            ([task], [[KINDS[kind](found, layer=layer)]])
            for (kind, layer, _, _), found in zip(entries, values, strict=True)
        ]

    whole = WidestRanges()
    for item in items():
        whole.add(item)
    divided = [WidestRanges() for _ in range(parts)]
    for item in random.sample(items(), len(entries)):
        random.choice(divided).add(item)
    while len(divided) > 1:
        one, other = (divided.pop(random.randrange(len(divided))) for _ in range(2))
        one.merge(WidestRanges.from_state(parse_json(to_compact_json(other.to_state()))))
        divided.append(one)
    assert divided[0].to_state() == whole.to_state()
    assert divided[0].finish() == whole.finish()


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_shards_draw_what_an_undivided_run_draws(order: tuple[int, ...], tmp_path: Path, sources: list[Source]) -> None:
    shared(tmp_path / "one", sources)
    out, count = tmp_path / "out", len(order)
    *first, last = order
    for index in first:
        assert shared(out, sources, Shard(index, count), heard := Listener()).status == "interrupted"
        assert heard.done_ == []
        assert "nothing was drawn" in heard.warned[-1]
        missing = ", ".join(str(other) for other in sorted(order[order.index(index) + 1 :]))
        assert f"shard{'s' if ',' in missing else ''} {missing} of {count}" in heard.warned[-1]
    assert shared(out, sources, Shard(last, count)).status in ("ok", "partial")
    assert merge_shards(out).missing > 0
    for index in first:
        shared(out, sources, Shard(index, count))
    assert merge_shards(out).missing == 0
    assert merged_files(out) == files_of(tmp_path / "one")
    assert verify(out) == []
    states = {state_of(out, index, count).read_bytes() for index in range(count)}
    assert len(states) == count
    assert not list(out.rglob(".cnnviz-*"))


def test_the_scale_is_that_of_all_shards(tmp_path: Path, sources: list[Source]) -> None:
    """Else the tests above would pass with each shard's own."""
    out = tmp_path / "out"
    for index in (0, 1, 0):
        shared(out, sources, Shard(index, 2))
    ends = [json.loads(state_of(out, index).read_bytes())["state"][0][4] for index in range(2)]
    assert ends[0] != ends[1]
    for index in range(2):
        images = json.loads((out / Shard(index, 2).manifest).read_bytes())["images"]
        assert {output["scale"][1] for image in images for output in image["outputs"] if output["scale"]} == {max(ends)}


def test_shards_that_run_at_once_wait_for_each_other(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(tmp_path / "one", sources)
    out, heard, others = tmp_path / "out", Listener(), [Shard(1, 3), Shard(2, 3)]
    monkeypatch.setattr(scales, "_START_SECONDS", 60.0)

    def others_go_on(_seconds: float) -> None:
        if others:
            shared(out, sources, others.pop())

    monkeypatch.setattr(scales.time, "sleep", others_go_on)
    shared(out, sources, Shard(0, 3), heard)
    assert "waiting for the maps of shards 1, 2 of 3, for a scale that all share" in heard.said
    assert merge_shards(out).missing == 0
    assert merged_files(out) == files_of(tmp_path / "one")


def test_a_shard_waits_as_long_as_the_missing_one_is_worked_at(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, turns = tmp_path / "out", []
    out.mkdir()
    peer = Journal(Sink(out), Shard(1, 2).journal)

    def sleep(_seconds: float) -> None:
        turns.append(1)
        if len(turns) == 5:
            peer.close()  # dies, and leaves nothing

    monkeypatch.setattr(scales.time, "sleep", sleep)
    assert shared(out, sources, Shard(0, 2), heard := Listener()).status == "interrupted"
    assert len(turns) == 5
    assert sum("waiting" in text for text in heard.said) == 1
    assert "shard 1 of 2 has not computed theirs" in heard.warned[-1]


def test_shards_of_two_runs_do_not_wait_for_each_other(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other is at work, has left a state that does not count, and waits as well."""
    shared(tmp_path / "other", sources[:-1], Shard(1, 2))
    out, turns = tmp_path / "out", []
    out.mkdir()

    def sleep(_seconds: float) -> None:
        turns.append(1)
        assert len(turns) == 1, "it still waits"
        state_of(out, 1).write_bytes(state_of(tmp_path / "other", 1).read_bytes())

    monkeypatch.setattr(scales.time, "sleep", sleep)
    with Journal(Sink(out), Shard(1, 2).journal):
        assert shared(out, sources, Shard(0, 2), heard := Listener()).status == "interrupted"
    assert turns
    assert "has not computed theirs for the same list and settings" in heard.warned[-1]


def test_waiting_ends_with_a_signal(tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scales, "_START_SECONDS", 60.0)
    monkeypatch.setattr(scales.time, "sleep", sleep)
    out = tmp_path / "out"
    assert shared(out, sources, Shard(0, 2), heard := Listener()).status == "interrupted"
    assert any("nothing was drawn" in text for text in heard.warned)
    names = {path.name for path in out.iterdir() if not path.name.startswith("manifest.inputs")}
    assert names == {"manifest.0-of-2.json", "manifest.0-of-2.jsonl", "run.0-of-2.json", "run.0-of-2.scale.json"}


@pytest.mark.parametrize("late", [False, True])
def test_a_shard_that_dies_is_run_again(
    late: bool, tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has left what it found, or before it has drawn."""
    shared(tmp_path / "one", sources)
    out = tmp_path / "out"
    shared(out, sources, Shard(0, 2))

    def die(*_arguments: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "set_scale" if late else "fold_states", die)
        with pytest.raises(RuntimeError):
            shared(out, sources, Shard(1, 2))
    assert state_of(out, 1).exists() == late
    assert (shared(out, sources, Shard(0, 2)).status == "interrupted") == (not late)
    for index in (1, 0):
        shared(out, sources, Shard(index, 2))
    assert merge_shards(out).missing == 0
    assert merged_files(out) == files_of(tmp_path / "one")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_shard_that_ends_while_it_draws_draws_again(
    stop: type[BaseException], tmp_path: Path, sources: list[Source]
) -> None:
    shared(tmp_path / "one", sources)
    out = tmp_path / "out"
    shared(out, sources, Shard(0, 2))
    shared(out, sources, Shard(1, 2))

    def ends(count: int) -> None:
        if count == 2:
            raise stop

    if stop is RuntimeError:
        with pytest.raises(RuntimeError):
            shared(out, sources, Shard(0, 2), Listener(ends))
    else:
        assert shared(out, sources, Shard(0, 2), Listener(ends)).status == "interrupted"
    shared(out, sources, Shard(0, 2))
    assert merge_shards(out).missing == 0
    assert merged_files(out) == files_of(tmp_path / "one")


def test_a_run_whose_images_are_all_done_writes_nothing_anew(tmp_path: Path) -> None:
    sources = [source for source in photographs(tmp_path / "in") if source.name != "3.png"]
    out = tmp_path / "out"
    for index in (0, 1, 0):
        shared(out, sources, Shard(index, 2))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png") if path.is_file()}
    kept = {path: path.read_bytes() for path in out.glob("*.json*") if path.name != "run.0-of-2.json"}
    heard = Listener()
    assert shared(out, sources, Shard(0, 2), heard).status == "ok"
    assert heard.done_ == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.read_bytes() for path in kept} == kept
    shared(tmp_path / "one", sources)
    assert merge_shards(out).missing == 0
    heard = Listener()
    assert (
        shared(out, sources, heard=heard).status == "ok"
    )  # by one process, which takes over what the shards have done
    assert heard.done_ == []
    assert merged_files(out) == files_of(tmp_path / "one")


def test_a_shard_without_images_lets_the_others_draw(tmp_path: Path) -> None:
    sources = photographs(tmp_path / "in", 6)
    shared(tmp_path / "one", sources, batch_size="3")
    out = tmp_path / "out"
    assert shared(out, sources, Shard(2, 3), batch_size="3").status == "ok"
    for index in (0, 1, 0):
        shared(out, sources, Shard(index, 3), batch_size="3")
    assert shared(out, sources, Shard(2, 3), batch_size="3").status == "ok"
    assert merge_shards(out).missing == 0
    assert merged_files(out) == files_of(tmp_path / "one")


def shards_disagree(out: Path) -> bool:
    """Whether merging is refused, since figures were drawn with different scales."""
    try:
        merge_shards(out)
    except UsageError as error:
        return "do not share one scale" in error.what
    return False


def test_an_image_that_changes_the_scale_of_all_is_told_where_they_are_merged(tmp_path: Path) -> None:
    sources, out = photographs(tmp_path / "in"), tmp_path / "out"
    for index in (0, 1, 0):
        shared(out, sources, Shard(index, 2))
    changes = np.random.default_rng(7)
    for _ in range(20):  # until a map of shard 1 reaches further than any before
        Image.fromarray(changes.integers(0, 255, (14, 16, 3), dtype=np.uint8)).save(tmp_path / "in" / "5.png")
        before = (out / Shard(1, 2).journal).read_bytes()
        shared(out, sources, Shard(1, 2))
        drawn = [
            line
            for line in (out / Shard(1, 2).journal).read_bytes()[len(before) :].splitlines()
            if b'"scale":"' in line
        ]
        if shards_disagree(out):
            break
    else:
        pytest.fail("no image has changed the scale")
    assert drawn
    assert len(shared(out, sources, Shard(0, 2), heard := Listener()).first) == len(heard.done_) > 0
    assert merge_shards(out).missing == 0
    shared(tmp_path / "one", listed(tmp_path / "in"))
    assert merged_files(out) == files_of(tmp_path / "one")


def test_figures_of_two_scales_are_never_taken_for_one_run(tmp_path: Path) -> None:
    """An undivided run that was interrupted while it drew with a new scale does all of it again."""
    sources, out = [source for source in photographs(tmp_path / "in") if source.name != "3.png"], tmp_path / "out"
    shared(out, sources)
    Image.new("RGB", (16, 14), "red").save(tmp_path / "in" / "0.png")

    def stops(count: int) -> None:
        if count == 1:
            raise KeyboardInterrupt

    assert shared(out, sources, heard=Listener(stops)).status == "interrupted"
    shared(out, sources, heard=(heard := Listener()))
    assert len(heard.done_) == len(sources)
    shared(tmp_path / "one", sources)
    assert files_of(out) == files_of(tmp_path / "one")


OTHERS: dict[str, dict[str, Any]] = {
    "other settings": {"palette": "viridis"},
    "batches of another size": {"batch_size": "2"},
    "another list": {"fewer": True},
    "another number of shards": {"count": 3},
    "another shard": {"index": 0},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_state_of_another_run_is_not_taken(what: str, tmp_path: Path, sources: list[Source]) -> None:
    how = dict(OTHERS[what])
    count, index = how.pop("count", 2), how.pop("index", 1)
    given = sources[:-1] if how.pop("fewer", False) else sources
    shared(tmp_path / "other", given, Shard(index, count), **how)
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(state_of(tmp_path / "other", index, count), state_of(out, 1))
    assert shared(out, sources, Shard(0, 2)).status == "interrupted"
    shutil.copy(state_of(tmp_path / "other", index, count), state_of(out, 1))
    shared(out, sources, Shard(1, 2))
    assert shared(out, sources, Shard(0, 2)).status == "ok"
    shared(tmp_path / "one", sources)
    merge_shards(out)
    assert merged_files(out) == files_of(tmp_path / "one")


def entry(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    found = json.loads(data)
    change(found)
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def numbers(low: Any, high: Any) -> Callable[[dict[str, Any]], object]:
    return lambda found: found["state"][0].__setitem__(slice(3, 5), [low, high])


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "cut": lambda data: data[:-9],
    "nested without end": lambda _data: b"[" * 100_000,
    "nested as a state": lambda _data: b'{"cnnviz":"fold","state":' + b"[" * 100_000,
    "no UTF-8": lambda data: b"\xff" + data,
    "a NUL": lambda data: data + b"\0",
    "blanks": lambda data: data.replace(b":", b": "),
    "a key that stands twice": lambda data: data.replace(b'"state":', b'"state":[],"state":'),
    "a wider range": lambda data: entry(data, numbers(-9.0, 9.0)),
    "infinities": lambda data: entry(data, numbers(float("-inf"), float("inf"))),
    "no numbers": lambda data: entry(data, numbers("0", [1])),
    "a word for a state": lambda data: entry(data, lambda found: found.update(state="abcde")),
    "no state": lambda data: entry(data, lambda found: found.pop("state")),
    "a list": lambda _data: b"[1]\n",
}


def without_state_1(out: Path, sources: list[Source]) -> bytes:
    """Two shards of which one has drawn; gives the state that the other has left, which is gone."""
    for index in (0, 1):
        shared(out, sources, Shard(index, 2))
    data = state_of(out, 1).read_bytes()
    state_of(out, 1).unlink()
    return data


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_state_is_not_taken(what: str, tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    data = without_state_1(out, sources)
    state_of(out, 1).write_bytes(HOSTILE[what](data))
    assert shared(out, sources, Shard(0, 2)).status == "interrupted"
    state_of(out, 1).write_bytes(data)
    assert shared(out, sources, Shard(0, 2)).status != "interrupted"


@pytest.mark.parametrize("what", ["a link", "a pipe", "a folder"])
def test_what_is_no_file_is_no_state(what: str, tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    data = without_state_1(out, sources)
    (tmp_path / "elsewhere").write_bytes(data)
    make = {"a link": lambda at: at.symlink_to(tmp_path / "elsewhere"), "a pipe": os.mkfifo, "a folder": Path.mkdir}[
        what
    ]
    make(state_of(out, 1))  # type: ignore[operator]
    assert shared(out, sources, Shard(0, 2)).status == "interrupted"


@pytest.mark.parametrize(
    "state",
    [
        7,
        [[]],
        [["m", "a", "Heatmap", 0.0]],
        [["m", 7, "Heatmap", 0.0, 1.0]],
        [[None, "a", "Heatmap", 0.0, 1.0]],
        [["m", "a", "Heatmap", 0, 1]],
        [["m", "a", "Heatmap", 1.0, 0.0]],
        [["m", "a", "Heatmap", True, 1.0]],
        [["m", "a", "Heatmap", float("nan"), 1.0]],
        [["m", "a", "Heatmap", 0.0, float("inf")]],
        [["m", "a", "Heatmap", -1.7e308, 1.7e308]],
        [["m", "a", "Heatmap", 0.0, 1.0]] * 2,
        [["m", "b", "Heatmap", 0.0, 1.0], ["m", "a", "Heatmap", 0.0, 1.0]],
        {"m": 1},
    ],
)
def test_only_what_ranges_give_are_ranges(state: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        WidestRanges.from_state(state)


def test_another_programs_file_is_not_replaced(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    state_of(out, 0).write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="was not written by cnnviz"):
        shared(out, sources, Shard(0, 2))
    assert state_of(out, 0).read_text() == '{"mine": 1}'
    shared(out, sources, Shard(1, 2))  # which writes elsewhere


def test_force_forgets_what_was_found(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    for index in (0, 1):
        shared(out, sources, Shard(index, 2))
    run(out, sources, scale="run", batch_size="1", force=True)
    assert not list(out.glob("run.*.scale.json"))


def test_what_is_drawn_with_the_scale_of_all_is_known_without_a_network(tmp_path: Path) -> None:
    sources = [source for source in photographs(tmp_path / "in") if source.name != "3.png"]
    out = tmp_path / "out"
    flags = {"output": str(out), "batch_size": "1", "device": "cpu", "workers": "0", "scale": "run"}
    loaded = load_settings("gradcam", {(name,): value for name, value in flags.items()}, None, {})

    def concluded(index: int) -> str | None:
        found = conclude_if_done("gradcam", loaded, sources, Listener(), shard=Shard(index, 2))
        return found and found.status

    for index in (0, 1):
        shared(out, sources, Shard(index, 2))
    assert (concluded(0), concluded(1)) == (None, "ok")
    shared(out, sources, Shard(0, 2))
    assert (concluded(0), concluded(1)) == ("ok", "ok")
    data = state_of(out, 1).read_bytes()
    state_of(out, 1).unlink()
    assert (concluded(0), concluded(1)) == (None, None)
    state_of(out, 1).write_bytes(data)
    assert (concluded(0), concluded(1)) == ("ok", "ok")
