"""cnnviz dream where it is stopped, where there is nothing to climb, and where an option cannot mean what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from torch import nn

import cnnviz_cli
from cnnviz_cli.core.errors import Terminated
from cnnviz_cli.render import dreamed
from cnnviz_cli.run.dream_files import advice_on
from cnnviz_cli.run.dream_sheets import SheetWriter
from cnnviz_cli.run.dreams import Dreamer
from cnnviz_cli.run.session import Session

from .conftest import Command
from .test_dream import dream, files, manifest, photo

__all__ = ["dream", "photo"]

ASKED = ("--target", "0,1,2", "--steps", "2", "--octaves", "2")


def test_steps_that_are_too_large_are_not_to_be_larger() -> None:
    assert "too large: a lower strength" in advice_on("unmoved", {"saturated": 0.9})
    assert "greater strength" in advice_on("unmoved", {"saturated": 0.1})
    assert "another seed" in advice_on("unreached", {"saturated": 0.9})


def test_advice_is_given_once_and_a_method_left_out_once(
    dream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnviz_cli.run.dreams.dream_state", lambda *_one, **_more: "unmoved")
    done = dream("--layer", "trunk.6", "--unit", "0,1,2", "--method", "all", "--steps", "1", "-o", tmp_path / "a")
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    assert sum("more steps" in line for line in lines) == 1
    assert sum(line.endswith("is unmoved, too") for line in lines) == 3 * 3 - 1
    assert sum("octaves is left out" in line for line in lines) == 1


def test_terminated_while_sheets_are_drawn_the_manifest_has_what_was_painted(
    dream: Command, cnnviz: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SIGTERM raises (tests/cli/test_process.py) is raised at the worst moment."""

    def terminated(*_about: Any) -> None:
        raise Terminated

    there = tmp_path / "o"
    with monkeypatch.context() as patch:
        patch.setattr(SheetWriter, "sheets", terminated)
        done = dream(*ASKED, "-o", there)
    assert done.code == 143, done.err
    found = manifest(there)
    assert (found.run.status, len(found.images), found.sheets or []) == ("interrupted", 3, [])
    assert cnnviz("verify", there).code == 0
    again = dream(*ASKED, "-o", there)
    assert (again.code, "3 of 3" in again.err) == (0, True), again.err
    dream(*ASKED, "-o", tmp_path / "whole")
    assert manifest(there).run.status == "ok"
    assert files(there) == files(tmp_path / "whole")


def test_what_was_finished_when_interrupted_stays_and_the_rest_is_painted_later(
    dream: Command, cnnviz: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SIGINT raises (tests/cli/test_process.py) is raised in the middle of the second picture."""
    there, paint, begun = tmp_path / "o", Dreamer.paint, list[Any]()

    def interrupted(self: Dreamer, task: Any, start: Any, tick: Any) -> Any:
        begun.append(start)

        def stop(done: int, total: int) -> None:
            if len(begun) == 2:
                raise KeyboardInterrupt
            tick(done, total)

        return paint(self, task, start, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Dreamer, "paint", interrupted)
        done = dream(*ASKED, "-o", there)
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    found = manifest(there)
    assert found.run.status == "interrupted"
    assert [image.source for image in found.images] == ["class 0 0"]
    assert [path.name for path in there.rglob("dream*.png")] == ["dream.png"]
    assert cnnviz("verify", there).code == 0
    done_later = dream(*ASKED, "-o", there)
    assert done_later.code == 0
    assert "1 of 3" in done_later.err
    dream(*ASKED, "-o", tmp_path / "at_once")
    assert files(there) == files(tmp_path / "at_once")


def test_a_run_out_of_memory_keeps_what_it_has_painted(
    dream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe, digests = Session.observe, list[str]()

    def limited(self: Session, *arguments: Any, **named: Any) -> Any:
        digests.extend(one for one in named["digests"] if one and one not in digests)
        if len(digests) == 3:  # of the network's trial, and of two pictures
            raise MemoryError
        return observe(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "observe", limited)
        done = dream(*ASKED, "-o", tmp_path / "o")
    assert (done.code, "--size: out of memory" in done.err) == (6, True), done.err
    left = sorted(path.name for path in (tmp_path / "o").rglob("*.png"))
    assert left == ["dream.png"] * len(left)
    done = dream(*ASKED, "-o", tmp_path / "o")
    assert done.code == 0
    assert f"{len(left)} of 3" in done.err
    dream(*ASKED, "-o", tmp_path / "at_once")
    assert files(tmp_path / "o") == files(tmp_path / "at_once")


class Level(nn.Module):
    """Smooth, and the same whatever it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 3)
        nn.init.zeros_(self.outer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(torch.sigmoid(self.inner(x)).mean((2, 3)))


@pytest.mark.parametrize("method", ["fourier", "pyramid"])
def test_what_has_neither_a_gradient_nor_a_rectifier_is_flat(method: str) -> None:
    (one,) = cnnviz_cli.dream(Level(), target=1, input_size=(32, 32), steps=3, method=method)
    assert one.state == "flat"
    assert one.statistics["opened"] == 0


def titles_and_rows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    inner = dreamed._row

    def record(title: str, tiles: Any, side: int) -> Any:
        found.append((title, [tile.title for tile in tiles]))
        return inner(title, tiles, side)

    monkeypatch.setattr(dreamed, "_row", record)
    return found


def test_numbers_are_named_and_each_method_has_a_row(
    dream: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = titles_and_rows(monkeypatch)
    short = ("--target", "1", "--steps", "1")
    dream(*short, "--number", "3", "--method", "fourier,pyramid", "-o", tmp_path / "a")
    dream(*short, "--method", "fourier,pyramid", "-o", tmp_path / "b")
    dream(*short, "--number", "2", "-o", tmp_path / "c")
    numbers = ["number 1", "number 2", "number 3"]
    assert found == [
        ("1, Feature visualisation", numbers),
        ("1, Laplacian pyramid ascent", numbers),
        ("1", ["Feature visualisation", "Laplacian pyramid ascent"]),
        ("1", numbers[:2]),
    ]


def test_the_sheet_of_an_image_names_methods_and_the_frame(
    dream: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    inner = dreamed._tile
    monkeypatch.setattr(dreamed, "_tile", lambda tile, *more: (found.append(tile.title), inner(tile, *more))[1])
    short = (photo, "--layer", "trunk.6", "--steps", "1")
    dream(*short, "--frames", "3", "--number", "2", "-o", tmp_path / "a")
    dream(*short, "--method", "octaves,caricature", "-o", tmp_path / "b")
    assert [title for title in found if "image" not in title and "difference" not in title] == [
        "trunk.6, frame 1 of 3", "trunk.6, number 2, frame 1 of 3", "trunk.6, DeepDream", "trunk.6, Caricature",
    ]  # fmt: skip


def test_fewer_sizes_than_were_asked_for_are_told(dream: Command, photo: Path, tmp_path: Path) -> None:
    """A side of 32 pixels is 23, 16, 12, 8, 6, 4, 3, 2 and 1.55 at smaller ones, and one of 26 is 1.76 at the ninth."""
    refused = dream("--target", "1", "--method", "pyramid", "--octaves", "99", "-o", tmp_path / "a")
    assert (refused.code, "has 10 sizes" in refused.err, "--octaves 10" in refused.err) == (2, True, True), refused.err
    asked = ("--layer", "high", "--steps", "1", "--size", "32")
    done = dream(photo, *asked, "--octaves", "99", "-o", tmp_path / "b")
    assert done.code == 0
    assert "painted at 9 sizes and not 99" in done.err
    told = [output.dream for output in manifest(tmp_path / "b").images[0].outputs if output.dream]
    assert [one.steps for one in told] == [9]
    assert "sizes and not" not in dream(photo, *asked, "--octaves", "2", "-o", tmp_path / "c").err


@pytest.mark.parametrize("arguments", [("--target", "1"), ("photo.png",)])
def test_a_picture_of_a_pixel_is_refused(dream: Command, photo: Path, arguments: tuple[str, ...]) -> None:
    assert photo.exists()
    done = dream(*arguments, "--size", "1")
    assert (done.code, "--size: a picture has at least 8 pixels a side" in done.err) == (2, True), done.err


def test_of_two_sizes_the_last_counts(dream: Command, tmp_path: Path) -> None:
    dream("--target", "1", "--steps", "1", "--size", "90", "--size", "40x50", "-o", tmp_path / "o")
    (output,) = manifest(tmp_path / "o").images[0].outputs
    assert (output.width, output.height) == (50, 40)


def test_help_says_image(cnnviz: Command) -> None:
    assert not re.search("photo(?!s?[./])", cnnviz("dream", "--help").out)


def test_unnamed_directions_are_not_named_twice() -> None:
    how: dict[str, Any] = {"input_size": (32, 32), "steps": 1, "device": "cpu"}
    found = cnnviz_cli.dream(nets.classifier(), layer="trunk.6", direction=np.eye(16)[:2], **how)
    assert [one.subject for one in found] == ["trunk.6 direction[0]", "trunk.6 direction[1]"]
    (one,) = cnnviz_cli.dream(nets.classifier(), layer="trunk.6", direction=np.eye(16)[0], **how)
    assert one.subject == "trunk.6 direction"


def test_a_caricature_starts_from_noise_and_has_no_difference_to_the_image(
    dream: Command, cnnviz: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    inner = dreamed._tile
    monkeypatch.setattr(dreamed, "_tile", lambda tile, *more: (found.append(tile.title), inner(tile, *more))[1])
    asked = (photo, "--layer", "trunk.6", "--steps", "3", "-o", tmp_path / "a")
    done = dream(*asked, "--method", "caricature,octaves")
    assert done.code == 0, done.err
    assert found == ["the image", "trunk.6, Caricature", "the image", "trunk.6, DeepDream", "the difference, 8 times"]
    (record,) = manifest(tmp_path / "a").images
    caricature, octaves = (one for one in record.outputs if one.dream)
    assert caricature.dream is not None
    assert octaves.dream is not None
    assert (caricature.dream.start, octaves.dream.start) == ("noise", "image")
    assert caricature.dream.start_score != octaves.dream.start_score
    assert "changed" not in (caricature.statistics or {})
    assert "changed" in (octaves.statistics or {})
    assert cnnviz("verify", tmp_path / "a", "--scores", "--allow-code").code == 0
