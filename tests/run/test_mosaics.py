"""Mosaics of a run's images: what is known of them comes out, and the same bytes however the run came about."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster.standin import Ray, RayError
from run.colours import COLOURS, OneSize, colours_model, pictures, rows_of
from run.resuming import Listener, files_of

from cnnviz_cli.cluster import connection
from cnnviz_cli.cluster import execute as cluster_run
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import OutputError
from cnnviz_cli.core.evaluation_fold import NO_MOSAICS
from cnnviz_cli.core.families import FAMILIES
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import Outcome, execute
from cnnviz_cli.run.after_run import PackedRecords
from cnnviz_cli.run.lifecycle import write_evaluated
from cnnviz_cli.run.mosaics import MosaicJudge
from cnnviz_cli.run.rerun import conclude_if_done

METHODS = {"gradcam": ["gradcam", "eigencam"], "saliency": ["gradient"]}
NINE = [*COLOURS, *list(COLOURS)[:4]]


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch, colours_model())


def load(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", lambda *_a, **_n: model)


def settings_of(out: Path, command: str = "evaluate", **settings: Any) -> Any:
    flags: dict[Any, Any] = {
        ("output",): str(out),
        ("batch_size",): "3",
        ("device",): "cpu",
        ("workers",): "0",
        ("evaluate", "measure"): ["grid"],
    }
    if command == "evaluate":
        flags |= {(family, "method"): METHODS.get(family, []) for family in FAMILIES}
    for name, given in settings.items():
        flags[tuple(name.split("__"))] = given
    return load_settings(command, flags, None, {})


def run(
    out: Path,
    sources: Sequence[Source],
    heard: Listener | None = None,
    *,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    command: str = "evaluate",
    **settings: Any,
) -> Outcome:
    made = settings_of(out, command, **settings)
    return execute(command, made, sources, heard or Listener(), shard=shard, force=force)


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Whole:
    """A finished run, to be read and copied, and the images that it is of."""

    out: Path
    sources: list[Source]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = tmp_path_factory.mktemp("whole")
    sources = pictures(place / "in", NINE)
    with pytest.MonkeyPatch.context() as patch:
        load(patch, colours_model())
        run(place / "out", sources)
    return Whole(place / "out", sources)


@pytest.fixture
def mosaics_made(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Of each mosaic that is explained its images."""
    made: list[list[str]] = []
    judge = MosaicJudge.judge

    def counted(self: MosaicJudge, images: Any, load: Any) -> Any:
        made.append([one.source for one in images])
        return judge(self, images, load)

    monkeypatch.setattr(MosaicJudge, "judge", counted)
    return made


def test_a_map_of_the_class_comes_to_one_and_a_class_blind_one_to_a_quarter(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, pictures(tmp_path / "in", list(COLOURS)))
    found = manifest(out)
    rows = rows_of(found)
    grid = {method: row["measures"]["grid"] for method, row in rows.items()}
    assert grid["gradcam"]["mean"] == 1.0
    assert rows["gradcam"]["measures"]["grid.point"]["mean"] == 1.0
    for blind in ("eigencam", "random pixels", "random 7 x 7", "edges", "centre"):
        assert grid[blind]["mean"] == 0.25
        assert grid[blind]["count"] == 4
    # Four images of one mosaic are one of what there would have to be two for an error.
    assert grid["centre"]["clusters"] == 1
    assert "error" not in grid["centre"]
    assert grid["gradcam"]["beats_controls"] is True
    assert grid["eigencam"]["beats_controls"] is False
    assert [one["name"] for one in found["evaluation"]["columns"]] == ["grid", "grid.point"]
    assert {sheet["path"] for sheet in found["sheets"]} == {"evaluation.png", "mosaics.png"}
    assert verify(out) == []
    for image in found["images"]:
        assert all(one["measures"] == {} for one in image["outputs"] if one["method"])


def test_a_mosaic_is_in_the_manifest_and_each_of_its_numbers_in_the_table(whole: Whole) -> None:
    out = whole.out
    mosaics = manifest(out)["evaluation"]["mosaics"]
    assert len(mosaics) == 2
    shown = [source for one in mosaics for source in one["of"]]
    assert len(set(shown)) == 8
    for one in mosaics:
        assert [list(COLOURS)[index] for index in one["classes"]] == one["labels"]
        assert [source.partition("-")[2] for source in one["of"]] == [f"{label}.png" for label in one["labels"]]
        assert len(set(one["classes"])) == 4
        assert (one["size"], one["path"]) == ([16, 16], "mosaics.png")
    with (out / "evaluation.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "grid" and row["method"] == "gradcam"]
    assert [(row["source"], float(row["value"])) for row in rows] == [(source, 1.0) for source in shown]


def test_cells_have_the_inputs_size_where_the_network_takes_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = pictures(tmp_path / "in", list(COLOURS))
    full, halved, heard = tmp_path / "full", tmp_path / "halved", Listener()
    run(full, sources, evaluate__cell="full")
    assert manifest(full)["evaluation"]["mosaics"][0]["size"] == [32, 32]
    assert rows_of(manifest(full))["gradcam"]["measures"]["grid"]["mean"] == 1.0
    load(monkeypatch, colours_model(OneSize))
    run(halved, sources, heard, evaluate__cell="full")
    assert manifest(halved)["evaluation"]["mosaics"][0]["size"] == [16, 16]
    assert any(text.startswith("images are halved in mosaics: ") for text in heard.warned)


@pytest.mark.parametrize(
    ("colours", "how", "why"),
    [
        (["red", "green", "blue", "red"], {}, "images of 3 classes have a class of at least 0.2"),
        (list(COLOURS), {"evaluate__mosaic_sure": "0.9999"}, "no image has a class of at least 0.9999"),
        (list(COLOURS), {"contrast": "1"}, "what is explained is no class by itself"),
    ],
)
def test_without_four_classes_it_is_undone_and_the_rest_goes_on(
    tmp_path: Path, colours: list[str], how: dict[str, Any], why: str
) -> None:
    out, heard = tmp_path / "out", Listener()
    run(out, pictures(tmp_path / "in", colours), heard, evaluate__measure=["grid", "sparseness"], **how)
    found = manifest(out)
    assert found["evaluation"]["mosaics"] == []
    for row in rows_of(found).values():
        assert why in row["undone"]["grid"]
    assert "sparseness" in rows_of(found)["centre"]["measures"]
    assert [text for text in heard.warned if text.startswith("grid is undone: ") and why in text]
    assert not (out / "mosaics.png").exists()


def test_neither_the_batch_nor_the_order_of_the_images_changes_a_number(tmp_path: Path, whole: Whole) -> None:
    one, other = whole.out, tmp_path / "other"
    run(other, list(reversed(whole.sources)), batch_size="2")
    left, right = manifest(one)["evaluation"], manifest(other)["evaluation"]
    assert left["mosaics"] == right["mosaics"]
    assert left["methods"] == right["methods"]
    assert left["controls"] == right["controls"]
    assert (one / "mosaics.png").read_bytes()


def test_nothing_is_done_twice(tmp_path: Path, mosaics_made: list[list[str]]) -> None:
    sources, out = pictures(tmp_path / "in", NINE), tmp_path / "out"
    run(out, sources)
    before = files_of(out)
    assert len(mosaics_made) == 2
    run(out, sources)
    done = conclude_if_done("evaluate", settings_of(out), sources, Listener())
    assert done is not None
    assert files_of(out) == before
    assert len(mosaics_made) == 2
    run(out, sources, force=True)
    assert len(mosaics_made) == 4
    assert files_of(out) == before


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_sheet_that_is_gone_is_drawn_again(
    tmp_path: Path, harm: str, whole: Whole, mosaics_made: list[list[str]]
) -> None:
    sources, out = whole.sources, Path(shutil.copytree(whole.out, tmp_path / "out"))
    before = files_of(out)
    sheet = out / "mosaics.png"
    if harm == "gone":
        sheet.unlink()
    else:
        sheet.write_bytes(sheet.read_bytes()[:-30])
    assert conclude_if_done("evaluate", settings_of(out), sources, Listener()) is None
    run(out, sources)
    assert files_of(out) == before
    assert mosaics_made == []  # of what is known of them


def test_a_run_that_was_stopped_between_mosaics_goes_on_with_the_next(
    tmp_path: Path, whole: Whole, monkeypatch: pytest.MonkeyPatch, mosaics_made: list[list[str]]
) -> None:
    sources, one, resumed = whole.sources, whole.out, tmp_path / "resumed"
    judge = MosaicJudge.judge
    calls = []

    def stopped(self: MosaicJudge, images: Any, load: Any) -> Any:
        calls.append(images)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(self, images, load)

    with monkeypatch.context() as patched:
        patched.setattr(MosaicJudge, "judge", stopped)
        assert run(resumed, sources).status == "interrupted"
    found = manifest(resumed)
    assert found["run"]["status"] == "interrupted"
    assert "grid" not in rows_of(found)["gradcam"]["measures"]
    mosaics_made.clear()
    assert conclude_if_done("evaluate", settings_of(resumed), sources, Listener()) is None
    assert run(resumed, sources).status == "ok"
    assert len(mosaics_made) == 1
    assert files_of(resumed) == files_of(one)


def test_shards_have_none_and_one_process_over_their_images_adds_them(
    tmp_path: Path, whole: Whole, mosaics_made: list[list[str]]
) -> None:
    sources, several = whole.sources, tmp_path / "several"
    for index in (1, 0):
        run(several, sources, shard=Shard(index, 2))
    assert merge_shards(several, evaluated=write_evaluated).missing == 0
    assert verify(several) == []
    assert all(row["undone"]["grid"] == NO_MOSAICS for row in rows_of(manifest(several)).values())
    assert mosaics_made == []
    heard = Listener()
    run(several, sources, heard)
    assert heard.done_ == []  # no image is explained again
    undivided = files_of(whole.out)
    assert {path: data for path, data in files_of(several).items() if path in undivided} == undivided


def test_an_image_that_is_there_no_more_takes_its_mosaic_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, out, heard = pictures(tmp_path / "in", NINE), tmp_path / "out", Listener()
    second_pass = importlib.import_module("cnnviz_cli.run.second_pass")
    choose = second_pass.Afterwards.of

    def and_lose(*given: Any, **named: Any) -> Any:
        found = choose(*given, **named)
        (tmp_path / "in" / found.wanted.sets[0][0].source).write_bytes(b"no picture")
        return found

    monkeypatch.setattr(second_pass.Afterwards, "of", and_lose)
    run(out, sources, heard)
    assert len(manifest(out)["evaluation"]["mosaics"]) == 1
    assert any(text.endswith("it is left out") for text in heard.warned)


def test_a_usual_run_has_the_numbers_and_no_sheet(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, pictures(tmp_path / "in", NINE), command="gradcam", gradcam__method=["gradcam"])
    found = manifest(out)
    assert rows_of(found)["gradcam"]["measures"]["grid"]["mean"] == 1.0
    assert "sheets" not in found


def test_shuffled_weights_have_a_sheet(tmp_path: Path) -> None:
    sources, out = pictures(tmp_path / "in", NINE), tmp_path / "out"
    run(out, sources, evaluate__measure=["randomisation"])
    assert {sheet["path"] for sheet in manifest(out)["sheets"]} == {"evaluation.png", "randomisation.png"}
    assert verify(out) == []
    before = files_of(out)
    assert conclude_if_done("evaluate", settings_of(out, evaluate__measure=["randomisation"]), sources, Listener())
    (out / "randomisation.png").unlink()
    run(out, sources, evaluate__measure=["randomisation"])
    assert files_of(out) == before


@pytest.mark.parametrize("name", ["run.mosaics.json", "mosaics.png", "evaluation.png", "evaluation.csv"])
def test_files_of_others_where_results_go_are_refused_before_the_first_image(tmp_path: Path, name: str) -> None:
    sources, out = pictures(tmp_path / "in", NINE), tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine\n")
    with pytest.raises(OutputError, match="was not written by cnnviz") as caught:
        run(out, sources)
    assert caught.value.code == 5
    assert {path.name: path.read_text() for path in out.iterdir()} == {name: "mine\n"}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ray:
    made = Ray({name: {"CPU": 1.0} for name in "abc"})
    monkeypatch.setattr(made, "is_initialized", lambda: True, raising=False)
    monkeypatch.setattr(connection, "import_module", lambda _name: made)
    monkeypatch.chdir(tmp_path)
    return made


def far(out: Path, sources: Sequence[Source], heard: Listener | None = None) -> Outcome:
    made = settings_of(out, threads="1", evaluate__measure=["grid", "randomisation"])
    return cluster_run("evaluate", made, sources, heard or Listener())


def test_a_cluster_makes_the_mosaics_of_one_machine(tmp_path: Path, ray: Ray, mosaics_made: list[list[str]]) -> None:
    sources = pictures(tmp_path / "in", NINE)
    here, there = Path("here"), Path("there")
    run(here, sources, threads="1", evaluate__measure=["grid", "randomisation"])
    wanted = list(mosaics_made)
    mosaics_made.clear()
    heard = Listener()
    assert far(there, sources, heard).status == "ok"
    assert mosaics_made == wanted
    assert files_of(there) == files_of(here)
    assert {"mosaics.png", "randomisation.png", "evaluation.png"} <= set(files_of(there))
    # Once more: nothing is made again.
    mosaics_made.clear()
    assert far(there, sources).status == "ok"
    assert mosaics_made == []
    assert len(ray.actors) > 1


def test_a_node_that_dies_over_the_mosaics_is_followed_by_another(
    tmp_path: Path, ray: Ray, mosaics_made: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = pictures(tmp_path / "in", NINE)
    run(Path("here"), sources, threads="1", evaluate__measure=["grid", "randomisation"])
    mosaics_made.clear()
    judge = MosaicJudge.judge
    left: list[str] = []

    def dies(self: Any, *given: Any) -> Any:
        if mosaics_made and not left:
            left.append(sorted(ray.alive)[0])
            ray.alive.discard(left[0])
            raise RayError("The actor died.\n\tThe actor is dead because its node has died.")
        return judge(self, *given)

    monkeypatch.setattr(MosaicJudge, "judge", dies)
    heard = Listener()
    assert far(Path("there"), sources, heard).status == "ok"
    assert any("is gone" in text for text in heard.warned)
    assert len(mosaics_made) == 2  # the first is not judged again
    assert files_of(Path("there")) == files_of(Path("here"))


def test_packed_records_are_the_records() -> None:
    records = [f'{{"source": "{number}", "é": "{"x" * number}"}}'.encode() for number in range(3000)]
    packed = PackedRecords(records)
    assert list(packed()) == list(packed()) == records
    assert list(PackedRecords([])()) == []
