"""cnnviz dream --engine ray, on a stand-in whose processes are objects of this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster.standin import Actor, Ray
from PIL import Image
from run.test_folder_pass import planted

from cnnviz_cli.cluster import connection
from cnnviz_cli.cluster.worker import ClusterWorker
from cnnviz_cli.run.dream_painter import DreamPainter
from cnnviz_cli.run.dreams import Dreamer

from . import test_judges, test_unit_sheets
from .conftest import Command, Result
from .test_dream import dream, files, manifest, photo

__all__ = ["dream", "photo"]

FAR = ("--engine", "ray")
ASKED = ("--target", "1,3", "--number", "3", "--steps", "2")
PICTURES = 6


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    made = Ray({name: {"CPU": 1.0} for name in "abcd"})
    monkeypatch.setattr(made, "is_initialized", lambda: True, raising=False)
    monkeypatch.setattr(connection, "import_module", lambda _name: made)
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of two sizes, one of which is none, and a mask for each."""
    noise = np.random.default_rng(0)
    for folder in ("in", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(6):
        pixels = noise.integers(0, 256, (40, 40 + number % 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"in/{number}.png")
        inside = np.arange(40)[:, None] * np.ones(40 + number % 2) > 20
        Image.fromarray(inside.astype(np.uint8) * np.uint8(255)).save(tmp_path / f"masks/{number}.png")
    (tmp_path / "in" / "3.png").write_bytes(b"no picture")
    return tmp_path / "in"


def before_painting(monkeypatch: pytest.MonkeyPatch, act: Callable[[Dreamer, int], None]) -> list[str]:
    """Have `act` called before each picture, with its number from 1; returns a list of what they start from."""
    paint, begun = Dreamer.paint, list[str]()

    def watched(self: Dreamer, task: Any, start: Any, tick: Any) -> Any:
        begun.append(start.sha256)
        act(self, len(begun))
        return paint(self, task, start, tick)

    monkeypatch.setattr(Dreamer, "paint", watched)
    return begun


def owner(ray: Ray, dreamer: Dreamer) -> Actor:
    """The process that a dreamer belongs to."""
    return next(one for one in ray.actors if one._made._painter.dreamer is dreamer)


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob(".cnnviz-*"))


def test_a_process_that_dies_at_a_picture_costs_none(
    dream: Command, cnnviz: Command, ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dream(*ASKED, "-o", "here").code == 0

    def dies(dreamer: Dreamer, count: int) -> None:
        if count in (2, 5):
            ray.alive.discard(owner(ray, dreamer).node)

    begun = before_painting(monkeypatch, dies)
    done = dream(*ASKED, *FAR, "-o", "there")
    assert done.code == 0, done.err
    assert done.err.count("is gone") == 2
    assert len(begun) == PICTURES + 2
    assert len(set(begun)) == PICTURES
    assert files(Path("there")) == files(Path("here"))
    assert manifest(Path("there")).sheets
    assert not left_over(Path("there"))
    assert len({actor.node for actor in ray.actors}) == 4
    assert all(actor.gone for actor in ray.actors)
    assert cnnviz("verify", "there").code == 0


def test_every_process_paints(dream: Command, ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    painters = list[Dreamer]()
    before_painting(monkeypatch, lambda dreamer, _count: painters.append(dreamer))
    assert dream(*ASKED, *FAR, "-o", "there").code == 0
    assert {owner(ray, one).node for one in painters} == set("abcd")


def test_a_picture_that_ends_every_process_ends_the_run(
    dream: Command, ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[str]()

    def dies(dreamer: Dreamer, count: int) -> None:
        if begun[count - 1] == begun[0]:
            owner(ray, dreamer).gone = True

    with monkeypatch.context() as patch:
        begun = before_painting(patch, dies)
        done = dream(*ASKED, *FAR, "-o", "there")
    assert done.code == 6, done.err
    assert "3 processes of the cluster died at the same images, the first of which is class 1 1" in done.err
    assert "Traceback" not in done.err
    assert not left_over(Path("there"))
    begun = before_painting(monkeypatch, lambda *_about: None)
    dream(*ASKED, "-o", "there")
    assert len(begun) < PICTURES
    dream(*ASKED, "-o", "here")
    assert files(Path("there")) == files(Path("here"))


@pytest.mark.usefixtures("ray")
def test_what_was_finished_when_interrupted_stays_and_one_machine_goes_on(
    dream: Command, cnnviz: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_dreamer: Dreamer, count: int) -> None:
        if count == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        before_painting(patch, stop)
        assert dream(*ASKED, *FAR, "-o", "there").code == 130
    found = manifest(Path("there"))
    assert found.run.status == "interrupted"
    assert len(found.images) == 3
    assert cnnviz("verify", "there").code == 0
    for where, painted in ((FAR, 3), ((), 0), (FAR, 0)):
        with monkeypatch.context() as patch:
            begun = before_painting(patch, lambda *_about: None)
            assert dream(*ASKED, *where, "-o", "there").code == 0
        assert len(begun) == painted
        dream(*ASKED, "-o", "here")
        assert files(Path("there")) == files(Path("here"))
    (Path("there") / "class-1-1" / "dream.png").unlink()
    done = dream(*ASKED, *FAR, "-o", "there")
    assert f"{PICTURES - 1} of {PICTURES}" in done.err
    assert files(Path("there")) == files(Path("here"))


@pytest.mark.usefixtures("ray")
def test_images_are_painted_into_with_their_masks(dream: Command, photos: Path) -> None:
    asked = (photos, "--layer", "trunk.6", "--steps", "1", "--octaves", "2", "--region", "masks", "--save-arrays")
    here, there = (dream(*asked, *where, "-o", name) for where, name in (((), "here"), (FAR, "there")))
    assert (here.code, there.code) == (3, 3), there.err
    assert files(Path("there")) == files(Path("here"))
    assert [image.status for image in manifest(Path("there")).images].count("failed") == 1
    Image.new("L", (40, 40), 255).save("masks/2.png")
    again = dream(*asked, *FAR, "-o", "there")
    assert "changed since" in again.err or "4 of 6" in again.err
    dream(*asked, "--force", "-o", "here")
    assert files(Path("there")) == files(Path("here"))


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    "asked",
    [
        ("--layer", "trunk.6", "--unit", "3,5@centre", "--minimize", "--method", "fourier,pyramid"),
        ("--layer", "trunk.6", "--direction", "probe.npy", "--size", "40x50", "--save-arrays"),
        ("--term", "{target: 1}", "--term", "{layer: trunk.6, unit: 3, weight: -0.5}"),
        ("--term", "{target: 2}"),
        ("--target", "1", "--method", "maco", "--spectrum", "photo.png"),
        ("photo.png", "--like", "photo.png", "--layer", "trunk.6", "--frames", "3", "--animate"),
        ("photo.png", "--target", "1", "--number", "2", "--format", "webp"),
    ],
)
def test_what_is_painted_is_told_to_every_process(dream: Command, photo: Path, asked: tuple[str, ...]) -> None:
    assert photo.exists()
    np.save("probe.npy", np.linspace(-1, 1, 16))
    for name, where in (("here", ()), ("there", FAR)):
        done = dream(*asked, "--steps", "2", *where, "-o", name)
        assert done.code == 0, done.err
    assert files(Path("there")) == files(Path("here"))


@pytest.mark.usefixtures("ray")
def test_a_shard_of_pictures_may_be_a_clusters(dream: Command, cnnviz: Command) -> None:
    dream(*ASKED, "-o", "here")
    assert dream(*ASKED, *FAR, "-o", "there", "--shard", "0/2").code == 0
    assert not (Path("there") / "dream.compare.png").exists(), "it has not all of them"
    assert dream(*ASKED, "-o", "there", "--shard", "1/2").code == 0
    assert cnnviz("merge", "there").code == 0
    assert files(Path("there"))["manifest.json"] == files(Path("here"))["manifest.json"]


@pytest.mark.usefixtures("ray")
def test_a_scale_of_maps_means_nothing_here(dream: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNVIZ_SCALE", "run")
    assert dream(*ASKED, "-o", "here").code == 0
    done = dream(*ASKED, *FAR, "-o", "there")
    assert done.code == 0, done.err
    assert files(Path("there")) == files(Path("here"))


def test_another_judge_is_shown_what_was_painted(cnnviz: Command, ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> Result:
        how = ("--target", "espresso", "--number", "3", *test_judges.NET, *test_judges.HOW)
        return cnnviz("dream", *how, *arguments)

    judge = ("--judge", test_judges.JUDGE)
    run(*judge, "-o", "here")
    assert run(*FAR, "-o", "there").code == 0
    dying = [True]
    judged_again = DreamPainter._judge_again

    def dies(self: DreamPainter, *about: Any) -> Any:
        if dying:
            dying.clear()
            ray.alive.discard(owner(ray, self.dreamer).node)
        return judged_again(self, *about)

    begun = before_painting(monkeypatch, lambda *_about: None)
    monkeypatch.setattr(DreamPainter, "_judge_again", dies)
    done = run(*judge, *FAR, "-o", "there")
    assert done.code == 0, done.err
    assert "3 of them are painted already" in done.err
    assert "is gone" in done.err
    assert begun == []
    assert files(Path("there")) == files(Path("here"))


def test_pages_of_units_are_drawn_where_the_network_is(
    cnnviz: Command, ray: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.fromarray(planted(number)).save(tmp_path / f"photos/{number}.png")

    def run(*arguments: str) -> Result:
        asked = ("--layer", "relu", "--unit", "0,3", "--against", "photos", *test_unit_sheets.HOW)
        return cnnviz("dream", *asked, *arguments)

    run("-o", "here")
    write, dying = ClusterWorker.write_sheets, [True]

    def dies(self: ClusterWorker, records: Any) -> Any:
        if dying:
            dying.clear()
            node = owner(ray, self._painter.dreamer).node
            ray.alive.discard(node)
            owner(ray, self._painter.dreamer).check()
        return write(self, records)

    monkeypatch.setattr(ClusterWorker, "write_sheets", dies)
    done = run(*FAR, "-o", "there")
    assert done.code == 0, done.err
    assert "is gone" in done.err
    assert "merging" not in done.err
    assert [sheet.path for sheet in manifest(Path("there")).sheets or ()] == [
        "dream.compare.png", "dream.units-1.png",
    ]  # fmt: skip
    assert files(Path("there")) == files(Path("here"))
    (Path("there") / "relu-channel-0" / "dream.png").unlink()
    ray.alive = set("abcd")
    again = run(*FAR, "-o", "there")
    assert (again.code, test_unit_sheets.SHOWN in again.err) == (0, False), "the answer was kept"
    assert test_unit_sheets.SHOWN in run(*FAR, "-o", "there", "--force").err
    assert files(Path("there")) == files(Path("here"))


@pytest.mark.usefixtures("ray")
def test_a_wrong_question_is_told_as_on_one_machine(dream: Command) -> None:
    done = dream("--layer", "trunk.6", "--unit", "99", *FAR, "-o", "there")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "host-" in done.err
    assert not left_over(Path("there"))
