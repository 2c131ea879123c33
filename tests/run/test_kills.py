"""SIGKILL at every labelled moment and at random ones; the next run makes of it what an undisturbed run would have."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from run.dying import HALF
from run.killing import Killer
from run.made_up_study import ENTRY, OF_UNITS
from run.resuming import files_of, photographs

from cnnviz_cli.files.output.verify import verify

PICTURES = 10
WRITE_POINTS = (
    "figure: begun",
    "figure: written",
    "figure: synced",
    "figure: named",
    "figure: in place",
    "journal: before a line",
    "journal: after a line",
    "journal: synced",
    "manifest: before",
)
"""Where a process may be killed: every label that the sink and the journal pass."""


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    killer = Killer()
    yield killer
    killer.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures."""
    folder = tmp_path_factory.mktemp("kills")
    photographs(folder / "in", PICTURES)
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path, killer: Killer) -> dict[str, bytes]:
    """The files of a run that nobody killed."""
    assert killer.run(place / "undisturbed") == "0"
    return files_of(place / "undisturbed")


def check(out: Path, undisturbed: dict[str, bytes]) -> None:
    """Every input has exactly one record, every picture decodes fully, and nothing is other than undisturbed."""
    manifest = json.loads((out / "manifest.json").read_bytes())
    sources = [image["source"] for image in manifest["images"]]
    assert len(sources) == len(set(sources)) == PICTURES
    pictures = [output["path"] for image in manifest["images"] for output in image["outputs"]]
    assert len(pictures) == PICTURES - 1
    for path in pictures:
        with Image.open(out / path) as picture:
            picture.load()
    assert files_of(out) == undisturbed
    assert verify(out) == []


def no_torn_file(out: Path) -> None:
    """What a killed run left under a final name is whole."""
    for path in out.rglob("*.png"):
        if path.is_file():
            with Image.open(path) as picture:
                picture.load()
    if (out / "manifest.json").exists():
        json.loads((out / "manifest.json").read_bytes())


def killed_and_resumed(killer: Killer, out: Path, moments: list[dict[str, Any]], undisturbed: dict[str, bytes]) -> int:
    """Kill one run after the other in the same folder, then let one come to its end. Returns how many were killed."""
    deaths = 0
    for moment in moments:
        ended = killer.run(out, **moment)
        assert ended in ("killed", "0")
        deaths += ended == "killed"
        no_torn_file(out)
    assert killer.run(out) == "0"
    check(out, undisturbed)
    return deaths


@pytest.mark.parametrize("label", [*WRITE_POINTS, HALF])
def test_a_run_killed_at_a_labelled_moment_goes_on(
    label: str, killer: Killer, place: Path, undisturbed: dict[str, bytes]
) -> None:
    nth = {"manifest: before": 1, "journal: synced": 2}.get(label, 4)
    out = place / label.replace(":", "").replace(" ", "-")
    assert killed_and_resumed(killer, out, [{"label": label, "nth": nth}], undisturbed) == 1


def test_runs_killed_at_random_moments_go_on(killer: Killer, place: Path, undisturbed: dict[str, bytes]) -> None:
    chance = random.Random(0)
    moments = [{"after": chance.uniform(0.02, 0.4)} for _ in range(3)]
    killed_and_resumed(killer, place / "random", moments, undisturbed)


def test_a_run_whose_processes_read_and_draw_goes_on(
    killer: Killer, place: Path, undisturbed: dict[str, bytes]
) -> None:
    moments = [{"label": "journal: synced", "nth": 2, "workers": 2}, {"after": 0.9, "workers": 2}]
    assert killed_and_resumed(killer, place / "helped", moments, undisturbed) >= 1


STORE_POINTS = ("store: rows", "store: synced", "store: indexed")


@pytest.fixture(scope="module")
def studied(place: Path, killer: Killer) -> dict[str, dict[str, bytes]]:
    """The files of studies that nobody killed."""
    names = (ENTRY.name, OF_UNITS.name)
    assert all(killer.run(place / f"undisturbed-{name}", study=name) == "0" for name in names)
    return {name: files_of(place / f"undisturbed-{name}") for name in names}


@pytest.mark.parametrize("name", [ENTRY.name, OF_UNITS.name])
@pytest.mark.parametrize("label", [*STORE_POINTS, "figure: written", "journal: before a line", "manifest: before"])
def test_a_study_killed_at_a_labelled_moment_goes_on(
    label: str, name: str, killer: Killer, place: Path, studied: dict[str, dict[str, bytes]]
) -> None:
    out = place / f"{name}-{label.replace(':', '').replace(' ', '-')}"
    ended = killer.run(out, study=name, label=label, nth=1 if label in ("manifest: before", *STORE_POINTS[1:]) else 3)
    assert ended == "killed"
    no_torn_file(out)
    assert killer.run(out, study=name) == "0"
    assert files_of(out) == studied[name]
    assert verify(out) == []
    assert not list(out.glob("run.*.f32"))


def test_studies_killed_at_random_moments_go_on(
    killer: Killer, place: Path, studied: dict[str, dict[str, bytes]]
) -> None:
    chance = random.Random(3)
    for number, name in enumerate([ENTRY.name, OF_UNITS.name]):
        out = place / f"random-study-{number}"
        for _ in range(2):
            killer.run(out, study=name, after=chance.uniform(0.05, 0.4))
            no_torn_file(out)
        assert killer.run(out, study=name) == "0"
        assert files_of(out) == studied[name]


@pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux alone")
def test_a_run_of_replicas_goes_on(killer: Killer, place: Path, undisturbed: dict[str, bytes]) -> None:
    labels = ("journal: before a line", "journal: synced", "manifest: before")
    moments: list[dict[str, Any]] = [{"label": label, "nth": 1, "replicas": 2} for label in labels]
    moments.append({"after": 0.1, "replicas": 2})
    assert killed_and_resumed(killer, place / "replicated", moments, undisturbed) >= 3


@pytest.mark.slow
def test_kills_among_processes_that_read_and_draw(killer: Killer, place: Path, undisturbed: dict[str, bytes]) -> None:
    chance, deaths = random.Random(2), 0
    for number in range(12):
        moments: list[dict[str, Any]] = [{"after": chance.uniform(0.3, 1.5), "workers": 2} for _ in range(3)]
        deaths += killed_and_resumed(killer, place / f"helped-{number}", moments, undisturbed)
    assert deaths >= 12


@pytest.mark.slow
def test_a_hundred_and_more_kills(killer: Killer, place: Path, undisturbed: dict[str, bytes]) -> None:
    # How often a run outlives its moment depends on the machine: as many rounds as it takes.
    chance, deaths, number = random.Random(1), 0, 0
    while deaths < 100:
        number += 1
        assert number <= 300
        moments: list[dict[str, Any]] = [{"after": chance.uniform(0.01, 0.5)} for _ in range(2)]
        moments.append({"label": chance.choice([*WRITE_POINTS, HALF]), "nth": chance.randint(1, 6)})
        deaths += killed_and_resumed(killer, place / f"random-{number}", moments, undisturbed)
