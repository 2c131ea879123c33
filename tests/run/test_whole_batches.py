"""Shards of any number and batches of any size give the bytes of one undisturbed process."""

from __future__ import annotations

import importlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from run.resuming import Listener, files_of, photographs, run, tiny_model
from torch import Tensor

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import Shard


class Company(tiny.Plain):
    """Its scores depend on how many images pass together and on which, so that moving one to another batch shows."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * (1 + x.mean() + 0.01 * len(x)))


@pytest.fixture(autouse=True)
def company(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_arguments: Any, **_named: Any) -> Any:
        model = tiny_model()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = Company().eval().requires_grad_(False)
        return replace(model, net=net)

    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", load)


@pytest.fixture
def listed(tmp_path: Path) -> list[Source]:
    """Files, one of them broken, and an archive with a broken member: 19 in all, more than two batches of 8."""
    photographs(tmp_path / "in", 10)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        for number in range(9):
            picture = tmp_path / f"{number}.png"
            Image.new("RGB", (15, 13), (20 * number, 100, 255 - 9 * number)).save(picture)
            packed.writestr(f"deep/{number}.png", b"broken" if number == 4 else picture.read_bytes())
            picture.unlink()
    return find_images([tmp_path / "in", tmp_path / "packed.zip"], recursive=False)


def apart(out: Path) -> dict[str, bytes]:
    """The files of an output folder but the manifests of single shards."""
    return {name: data for name, data in files_of(out).items() if "-of-" not in name}


def stopping(after: int) -> Listener:
    def stop(done: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    return Listener(stop)


def test_the_networks_answers_depend_on_the_batch(tmp_path: Path, listed: list[Source]) -> None:
    run(tmp_path / "3", listed, batch_size="3")
    run(tmp_path / "8", listed, batch_size="8")
    images = [json.loads((tmp_path / size / "manifest.json").read_bytes())["images"] for size in ("3", "8")]
    assert images[0] != images[1]


@pytest.mark.parametrize("batch", ["1", "3", "8"])
@pytest.mark.parametrize("count", [2, 3])
def test_merged_shards_are_one_process_byte_for_byte(
    batch: str, count: int, tmp_path: Path, listed: list[Source]
) -> None:
    run(tmp_path / "one", listed, batch_size=batch)
    out = tmp_path / "out"
    for index in reversed(range(count)):
        heard = Listener()
        run(out, listed, heard, shard=Shard(index, count), batch_size=batch)
        mine = [source.name for at, source in enumerate(listed) if at // int(batch) % count == index]
        assert heard.done_ == mine
    merged = merge_shards(out)
    assert (merged.missing, merged.summary.images, merged.summary.failed) == (0, 19, 2)
    assert apart(out) == apart(tmp_path / "one")


@pytest.mark.parametrize("batch", ["3", "8"])
def test_shards_that_were_interrupted_and_divided_anew_are_one_process(
    batch: str, tmp_path: Path, listed: list[Source]
) -> None:
    run(tmp_path / "one", listed, batch_size=batch)
    out = tmp_path / "out"
    run(out, listed, stopping(4), shard=Shard(0, 2), batch_size=batch)
    run(out, listed, shard=Shard(1, 2), batch_size=batch)
    run(out, listed, stopping(1), shard=Shard(2, 3), batch_size=batch)
    for index in range(3):
        run(out, listed, shard=Shard(index, 3), batch_size=batch)
    assert merge_shards(out).missing == 0
    assert apart(out) == apart(tmp_path / "one")


def test_shards_with_batches_of_another_size_are_refused(tmp_path: Path, listed: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, listed, shard=Shard(0, 2), batch_size="3")
    before = files_of(out)
    with pytest.raises(
        UsageError, match="shard 0 of 2 takes batches of 3 from the list, and this one batches of 8"
    ) as e:
        run(out, listed, shard=Shard(1, 2), batch_size="auto")  # 8 on a CPU, and 32 elsewhere
    assert "--batch-size 3" in e.value.fix
    assert files_of(out) == before
    run(out, listed, shard=Shard(1, 2), batch_size="8", force=True)
    with pytest.raises(UsageError, match=r"batches of different sizes \(3 and 8\)"):
        merge_shards(out)
    run(out, listed, shard=Shard(0, 2), batch_size="8", force=True)
    run(tmp_path / "one", listed, batch_size="8")
    assert merge_shards(out).missing == 0
    assert apart(out) == apart(tmp_path / "one")


def test_a_process_that_goes_on_in_other_batches_says_so(tmp_path: Path, listed: list[Source]) -> None:
    out, heard = tmp_path / "out", Listener()
    run(out, listed, stopping(3), batch_size="3")
    run(out, listed, heard, batch_size="8")
    assert [text for text in heard.warned if "in batches of 3, the others are in batches of 8" in text]
    heard = Listener()
    run(tmp_path / "same", listed, stopping(3), batch_size="3")
    run(tmp_path / "same", listed, heard, batch_size="3")
    assert not heard.warned


def test_more_shards_than_batches_are_told_of_a_size_that_divides(tmp_path: Path, listed: list[Source]) -> None:
    heard = Listener()
    run(tmp_path / "out", listed, heard, shard=Shard(3, 4), batch_size="8")
    assert "0 of 19 images, in whole batches of 8" in heard.said
    assert heard.warned == [
        "19 images are 3 batches of 8, too few for 4 shards; --batch-size 4 gives each of them work"
    ]
    assert heard.done_ == []
