"""Several processes on one list: each picture once, whatever their number, and one manifest at the end."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run.resuming import BROKEN, Listener, files_of, run

from cnnviz_cli.core.errors import OutputError, UsageError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.file_names import FolderNames
from cnnviz_cli.files.output.journal import Journal
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard, find_shards
from cnnviz_cli.files.output.sink import Sink

pytestmark = pytest.mark.usefixtures("tiny_network")


def parts(count: int) -> list[Shard]:
    return [Shard(index, count) for index in range(count)]


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 40))
def test_shards_partition_every_list_into_whole_batches(length: int, count: int, batch: int) -> None:
    taken = [shard.positions(length, batch) for shard in parts(count)]
    assert sorted(at for mine in taken for at in mine) == list(range(length))
    batches = [len({at // batch for at in mine}) for mine in taken]
    assert sum(batches) == -(-length // batch)  # none is divided
    assert max(batches) - min(batches) <= 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_merged_shards_are_one_undisturbed_run(order: tuple[int, ...], tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "one", sources, batch_size="1")
    out = tmp_path / "out"
    for index in order:
        heard = Listener()
        run(out, sources, heard, shard=Shard(index, 3), batch_size="1")
        assert heard.done_ == [source.name for source in sources[index::3]]
        assert not (out / "manifest.json").exists()
    merged = merge_shards(out)
    assert (merged.shards, merged.missing, merged.summary.failed) == (3, 0, 1)
    assert (out / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()
    own = {f"manifest.{index}-of-3.json" for index in order}
    assert files_of(out).keys() == files_of(tmp_path / "one").keys() | own
    assert json.loads((out / "run.1-of-3.json").read_text())["images"] == 2
    one = json.loads((out / "manifest.1-of-3.json").read_bytes())
    assert [image["source"] for image in one["images"]] == [source.name for source in sources[1::3]]


def test_a_change_of_their_number_loses_nothing(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "one", sources, batch_size="1")
    out = tmp_path / "out"
    for shards in ([Shard(0, 2)], parts(3), [SINGLE_SHARD], parts(2), parts(4)):
        done = []
        for shard in shards:
            heard = Listener()
            run(out, sources, heard, shard=shard, batch_size="1")
            done += heard.done_
        if shards[0] == Shard(0, 2) and len(shards) == 1:
            assert len(done) == 4
        elif shards == parts(3):
            assert sorted(done) == sorted([*(source.name for source in sources[1::2] if source.name != BROKEN), BROKEN])
        else:
            assert done == [BROKEN]
        if shards[-1].label and len(shards) > 1:
            assert merge_shards(out).shards == len(shards)
            assert (out / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sets(st.integers(0, 3))), max_size=4), st.randoms(use_true_random=False)
)
def test_any_history_of_divisions_does_each_picture_once(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, set[int]]], random: object
) -> None:
    ledger = importlib.import_module("cnnviz_cli.files.output.resume")
    folder = tmp_path_factory.mktemp("history")
    (folder / "in").mkdir()
    names = [f"{number}.png" for number in range(9)]
    for name in names:
        (folder / "in" / name).write_bytes(name.encode())
    inputs = [(source, FolderNames().folder_for(source.name)) for source in listed(folder / "in")]
    done: list[str] = []
    for count, indices in [*history, (2, {0, 1})]:
        for index in sorted(indices & set(range(count)), key=lambda _: random.random()):  # type: ignore[attr-defined]
            shard = Shard(index, count)
            mine = [inputs[at] for at in shard.positions(len(inputs), 1)]
            with ledger.Ledger(Sink(folder), shard) as held:
                held.begin(header(), names, mine)
                for at, (source, _) in enumerate(mine):
                    if held.is_due(at):
                        done.append(source.name)
                        held.append(bare(source))
                held.finish(interrupted=False)
    assert sorted(done) == names
    assert merge_shards(folder).missing == 0


def listed(folder: Path) -> list[Source]:
    from run.resuming import listed as found

    return found(folder)


def header() -> object:
    from files.test_manifest import MODEL, RUN, TOOL

    return importlib.import_module("cnnviz_cli.files.output.resume").RunHeader({"a": 1}, TOOL, RUN, MODEL)


def bare(source: Source) -> ImageRecord:
    from hashlib import sha256

    digest = sha256(source.path.read_bytes()).hexdigest()
    return ImageRecord(
        source=source.name, sha256=digest, width=1, height=1, status="ok", error=None, predictions=[], outputs=[]
    )


def test_what_is_missing_is_named(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources, shard=Shard(1, 3), batch_size="1")
    merged = merge_shards(out)
    assert merged.missing == 5
    assert merged.first_missing == [source.name for at, source in enumerate(sources) if at % 3 != 1]
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert (manifest["run"]["status"], len(manifest["images"])) == ("interrupted", 2)


def test_shards_of_other_lists_and_settings_are_refused(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources, shard=Shard(0, 2))
    run(out, sources[:-1], shard=Shard(1, 2))
    with pytest.raises(UsageError, match=r"manifest\.0-of-2\.jsonl and .* not about the same list"):
        merge_shards(out)
    run(out, sources, shard=Shard(1, 2))
    assert merge_shards(out).missing == 0
    with pytest.raises(UsageError, match=r"one process|journal"):
        merge_shards(tmp_path / "in")
    run(out, sources, shard=Shard(1, 2), palette="viridis", force=True)
    with pytest.raises(UsageError, match="same settings") as caught:
        merge_shards(out)
    assert "palette: auto -> viridis" in caught.value.fix


def test_nobody_works_beside_another_division_and_nothing_is_merged_meanwhile(
    tmp_path: Path, sources: list[Source]
) -> None:
    out = tmp_path / "out"
    run(out, sources, shard=Shard(1, 2))
    sink = Sink(out)
    with Journal(sink, Shard(0, 2).journal):
        run(out, sources, shard=Shard(1, 2))
        for shard in (SINGLE_SHARD, Shard(1, 3)):
            with pytest.raises(OutputError, match="shard 0 of 2 is working on this output folder"):
                run(out, sources, shard=shard)
        with pytest.raises(OutputError, match="shard 0 of 2"):
            merge_shards(out)
        with pytest.raises(OutputError, match="another process is working on shard 0 of 2 of this output folder"):
            run(out, sources, shard=Shard(0, 2))


def test_a_shard_sweeps_only_its_own(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources, shard=Shard(0, 2))
    peers, own = out / ".cnnviz-1-of-2-0123456789ab.tmp", out / ".cnnviz-0-of-2-0123456789ab.tmp"
    peers.touch()
    own.touch()
    run(out, sources, shard=Shard(0, 2))
    assert (peers.exists(), own.exists()) == (True, False)


def test_only_real_shards_have_journals(tmp_path: Path) -> None:
    for name in ("manifest.2-of-2.jsonl", "manifest.0-of-1.jsonl", "manifest.01-of-3.jsonl", "manifest.inputs-0.jsonl"):
        (tmp_path / name).touch()
    assert find_shards(tmp_path) == []
    (tmp_path / "manifest.1-of-3.jsonl").touch()
    (tmp_path / "manifest.jsonl").touch()
    assert find_shards(tmp_path) == [SINGLE_SHARD, Shard(1, 3)]
    for index, count in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="no shard"):
            Shard(index, count)
