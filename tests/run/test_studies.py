"""A made-up study through the whole frame: records, sheets, findings; interrupted, resumed, in shards, merged."""

from __future__ import annotations

import errno
import importlib
import json
import os
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run import made_up_study
from run.killing import Killer
from run.made_up_study import ENTRY, OF_UNITS, DistanceStudy
from run.resuming import BROKEN, Listener, files_of, listed, study, tiny_model

from cnnviz_cli.api.study import carry_out_study
from cnnviz_cli.cli.merge import merge
from cnnviz_cli.cli.run_end import end_run
from cnnviz_cli.cli.run_summary import print_outcome
from cnnviz_cli.cli.sharding import ShardChoice
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.errors import ExitCode, OutputError, Terminated, UsageError
from cnnviz_cli.core.families import STUDIES
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.manifest import remove_sheets
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.study_kit import read_kit
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.report import ReportOptions, write_report
from cnnviz_cli.run import Outcome, looking
from cnnviz_cli.run.feature_pass import FeaturePass
from cnnviz_cli.run.lifecycle import conclude_merged
from cnnviz_cli.run.rerun import conclude_if_done
from cnnviz_cli.studies.concepts import conclude
from cnnviz_cli.studies.dissection import sheets
from cnnviz_cli.studies.influence import figures


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (ENTRY, OF_UNITS):
        monkeypatch.setitem(STUDIES, one.name, one)
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shard waits for another that is not at work."""
    monkeypatch.setattr(looking, "_START_SECONDS", 0.0)
    monkeypatch.setattr(looking, "_POLL_SECONDS", 0.01)


def run(out: Path, sources: list[Source], heard: Listener | None = None, **how: Any) -> Outcome:
    return study(out, sources, heard, **{"study": ENTRY.name, **how})


def settings_of(out: Path) -> Settings:
    return load_settings("gradcam", {("output",): str(out)}, None, {})


def manifest_of(out: Path) -> Any:
    return json.loads((out / "manifest.json").read_bytes())


def merged(out: Path) -> list[str]:
    """What merging shards has to say."""
    said: list[str] = []
    assert merge_shards(out, partial(conclude_merged, warn=said.append)).missing == 0
    return said


def test_records_sheets_tables_and_findings_are_in_the_manifest(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    outcome = run(out, sources)
    manifest = manifest_of(out)
    assert [image["source"] for image in manifest["images"]] == [source.name for source in sources]
    assert outcome.status == manifest["run"]["status"] == "partial"
    (failed,) = [image for image in manifest["images"] if image["status"] == "failed"]
    assert failed["source"] == BROKEN
    assert failed["error"]
    assert manifest["findings"]["study"] == ENTRY.name
    (seen,) = manifest["findings"]["seen"]
    assert (seen["images"], seen["unseen"]) == (len(sources) - 1, 1)
    assert seen["examples"] == [{"source": BROKEN, "why": failed["error"]}]
    assert [one["path"] for one in manifest["sheets"]] == ["distances.png"]
    assert [one["path"] for one in manifest["tables"]] == ["distances.csv"]
    assert verify(out) == []
    assert not list(out.glob("run.*.f32"))


@pytest.mark.parametrize("name", [ENTRY.name, OF_UNITS.name])
@pytest.mark.parametrize("count", [2, 3])
def test_shards_find_what_an_undivided_run_finds(name: str, count: int, tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "whole", sources, study=name)
    out = tmp_path / "parts"
    for index in range(count):
        heard = Listener()
        ended = run(out, sources, heard, study=name, shard=Shard(index, count))
        if index < count - 1:
            assert ended.status == "interrupted"
            assert "not been shown to the network for the same list" in heard.warned[-1]
            assert ended.missing is not None
            assert (list(ended.missing.missing), ended.missing.again) == (list(range(index + 1, count)), frozenset())
    for _ in range(2):  # a unit's largest value is a pass of its own
        ended = [run(out, sources, study=name, shard=Shard(index, count)) for index in range(count)]
    assert "interrupted" not in {one.status for one in ended}
    assert list(out.glob("run.*.f32"))
    assert merged(out) == []
    assert files_of(out).keys() - files_of(tmp_path / "whole").keys() == {
        f"manifest.{index}-of-{count}.json" for index in range(count)
    }
    for path, data in files_of(tmp_path / "whole").items():
        assert files_of(out)[path] == data, path
    assert verify(out) == []
    assert not list(out.glob("run.*.f32"))


def test_a_run_with_nothing_to_do_does_not_load_the_network(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("rerun", "lifecycle"):
        monkeypatch.setattr(importlib.import_module(f"cnnviz_cli.run.{module}"), "run_seal", lambda *_about: "sealed")
    good = [source for source in sources if source.name != BROKEN]
    for source in good:
        os.utime(source.path, (1, 1))
    for name in (ENTRY.name, OF_UNITS.name):
        out = tmp_path / name
        monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.study_end"), "_RECENT", -(10**12))
        run(out, good, study=name)
        before = files_of(out)
        monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", None)
        flags = {("output",): str(out), ("batch_size",): "3", ("device",): "cpu", ("workers",): "0"}
        settings = load_settings("gradcam", flags, None, {})
        found = conclude_if_done("gradcam", settings, good, Listener())
        assert found is not None, name
        assert found.findings is not None
        assert files_of(out) == before
        assert conclude_if_done("gradcam", settings, good[:-1], Listener()) is None
        (out / "distances.csv").write_text("other")
        assert conclude_if_done("gradcam", settings, good, Listener()) is None
        monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)


def test_an_image_that_changes_or_comes_makes_every_record_new(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources)
    image = np.full((14, 16, 3), 200, np.uint8)
    Image.fromarray(image).save(tmp_path / "in" / "0.png")
    Image.fromarray(image[:9]).save(tmp_path / "in" / "new.png")
    now = listed(tmp_path / "in")
    heard = Listener()
    run(out, now, heard)
    assert sorted(heard.done_) == sorted(source.name for source in now)
    run(tmp_path / "anew", now)
    assert files_of(out) == files_of(tmp_path / "anew")
    (tmp_path / "in" / "0.png").unlink()
    run(out, listed(tmp_path / "in"))
    run(tmp_path / "fewer", listed(tmp_path / "in"))
    assert manifest_of(out) == manifest_of(tmp_path / "fewer")


@pytest.mark.parametrize("change", [{"seed": 1}, {"study": OF_UNITS.name}, {"fold": False}])
def test_rows_of_other_settings_are_not_taken(
    change: dict[str, Any], tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, stopped = tmp_path / "out", Terminated()
    monkeypatch.setattr(DistanceStudy, "kit", lambda _self: (_ for _ in ()).throw(stopped))
    assert run(out, sources).status == "interrupted"
    assert list(out.glob("run.*.f32"))
    monkeypatch.undo()
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)
    for one in (ENTRY, OF_UNITS):
        monkeypatch.setitem(STUDIES, one.name, one)
    heard = Listener()
    run(out, sources, heard, **change)
    assert f"{len(sources)} images: shown to the network" in heard.said
    heard = Listener()
    run(out, sources, heard, force=True)
    assert f"{len(sources)} images: shown to the network" in heard.said


def test_a_pass_goes_on_where_it_was(tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    genuine, shown = FeaturePass._show, []

    def short(self: FeaturePass, items: Any, images: Any) -> Any:
        if len(shown) == 1:
            raise Terminated
        shown.append(len(items))
        return genuine(self, items, images)

    monkeypatch.setattr(FeaturePass, "_show", short)
    assert run(out, sources).status == "interrupted"
    monkeypatch.setattr(FeaturePass, "_show", genuine)
    heard = Listener()
    run(out, sources, heard)
    assert "4 images: shown to the network (3 of 7 were before)" in heard.said
    run(tmp_path / "whole", sources)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_an_image_that_is_broken_still_costs_no_pass(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources)
    before, heard = files_of(out), Listener()
    run(out, sources, heard)
    assert files_of(out) == before
    assert not [line for line in heard.said if "shown to the network" in line]
    (tmp_path / "in" / BROKEN).write_bytes(b"broken otherwise")
    run(out, sources)
    assert manifest_of(out)["findings"] != json.loads(before["manifest.json"])["findings"]
    Image.fromarray(np.full((14, 16, 3), 99, np.uint8)).save(tmp_path / "in" / BROKEN)
    run(out, sources)
    run(tmp_path / "whole", sources)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert manifest_of(out)["run"]["status"] == "ok"


@pytest.mark.parametrize("name", [ENTRY.name, OF_UNITS.name])
def test_what_was_kept_of_an_image_that_has_changed_is_forgotten(
    name: str, tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, genuine = tmp_path / "out", DistanceStudy.kit
    monkeypatch.setattr(DistanceStudy, "kit", lambda _self: (_ for _ in ()).throw(Terminated()))
    assert run(out, sources, study=name).status == "interrupted"
    monkeypatch.setattr(DistanceStudy, "kit", genuine)
    Image.fromarray(np.full((14, 16, 3), 3, np.uint8)).save(tmp_path / "in" / "0.png")
    brightest = max(range(7), key=lambda at: 0 if at == 3 else np.asarray(Image.open(sources[at].path)).sum())
    Image.fromarray(np.zeros((14, 16, 3), np.uint8)).save(sources[brightest].path)
    heard = Listener()
    run(out, sources, heard, study=name)
    assert any(line.startswith("3 images: shown") for line in heard.said)  # with the one that is broken
    run(tmp_path / "whole", sources, study=name)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_ray_cluster_is_refused(tmp_path: Path, sources: list[Source]) -> None:
    with pytest.raises(UsageError, match="a study looks at all images together"):
        run(tmp_path / "out", sources, engine="ray")


def test_files_of_others_are_not_replaced(tmp_path: Path, sources: list[Source]) -> None:
    for name in ("run.study.npz", "run.distances.whole.jsonl", "run.distances.whole.positions.f32", "distances.png"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_bytes(b"mine")
        with pytest.raises(OutputError, match="was not written by cnnviz"):
            run(out, sources)
        assert (out / name).read_bytes() == b"mine"
    assert [path.name for path in out.iterdir() if path.suffix != ".jsonl"] == ["distances.png"]  # it had not begun


def test_studies_name_the_sheets_that_they_write() -> None:
    """By which those of others are refused before an image is read."""
    found = {name: entry.sheets for name, entry in STUDIES.items() if entry.sheets and name != ENTRY.name}
    assert found == {
        "concepts": (conclude.CONCEPTS,),
        "dissect": (sheets.STEM, f"{sheets.STEM}.labels"),
        "influence": (figures.SHEET,),
        "tcav": ("tcav",),
    }


def test_an_image_that_changes_after_it_was_shown_fails_and_is_right_in_the_next_run(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, genuine = tmp_path / "out", DistanceStudy.kit

    def change(self: DistanceStudy) -> Any:
        Image.fromarray(np.full((14, 16, 3), 9, np.uint8)).save(sources[0].path)
        return genuine(self)

    monkeypatch.setattr(DistanceStudy, "kit", change)
    run(out, sources)
    assert manifest_of(out)["images"][0]["error"] == "it changed after it was shown to the network"
    assert [image["status"] for image in manifest_of(out)["images"]].count("failed") == 2
    monkeypatch.setattr(DistanceStudy, "kit", genuine)
    run(out, sources)
    run(tmp_path / "whole", sources)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_table_of_others_is_not_replaced_and_an_own_one_is(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "distances.csv").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"distances\.csv.*was not written by cnnviz"):
        run(out, sources)
    assert (out / "distances.csv").read_bytes() == b"mine"
    (out / "distances.csv").unlink()
    run(out, sources)
    own = (out / "distances.csv").read_bytes()
    run(out, sources, seed=1, force=True)
    (out / "distances.csv").write_bytes(b"mine")
    with pytest.raises(OutputError, match="was not written by cnnviz"):
        run(out, sources, force=True)
    assert (out / "distances.csv").read_bytes() == b"mine"
    (out / "distances.csv").unlink()
    (tmp_path / "away").write_bytes(own)
    (out / "distances.csv").symlink_to(tmp_path / "away")
    with pytest.raises(OutputError, match=r"was not written by cnnviz|a link is in the way"):
        run(out, sources, force=True)
    assert (tmp_path / "away").read_bytes() == own


def test_the_same_from_python(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "out", sources)
    with pytest.warns(UserWarning, match=f"{BROKEN} is left out"):
        found = carry_out_study(
            ENTRY.name, "gradcam", "efficientnet_lite0", tmp_path / "in", {}, {"batch_size": 3}, device="cpu"
        )
    manifest = manifest_of(tmp_path / "out")
    assert found.findings.model_dump(mode="json") == manifest["findings"]
    assert [one.model_dump(mode="json") for one in found.records] == manifest["images"]
    assert found.figure is not None
    assert [one.size for one in found.figures_of(found.records[0])] == [(16, 14)]
    again = found.save(tmp_path / "saved")
    assert files_of(again).keys() == files_of(tmp_path / "out").keys()
    pictures = [np.asarray(Image.open(source.path)) for source in sources if source.name != BROKEN]
    in_memory = carry_out_study(
        ENTRY.name, "gradcam", "efficientnet_lite0", pictures, {}, {"batch_size": 3}, device="cpu"
    )
    assert [one.source for one in in_memory.records] == [f"image-{number:06d}.png" for number in range(len(pictures))]
    assert in_memory.records[0].outputs[0].statistics.keys() == {"distance"}
    with pytest.raises(UsageError, match="there is no option 'bath_size'"):
        carry_out_study(ENTRY.name, "gradcam", "efficientnet_lite0", pictures, {}, {"bath_size": 3})


@pytest.mark.parametrize("name", [ENTRY.name, OF_UNITS.name])
def test_a_report_shows_what_was_written(name: str, tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources, study=name)
    without = manifest_of(out)
    run(out, sources, study=name, report=True)
    manifest = manifest_of(out)
    small = [one.get("thumbnail") for one in manifest["images"] if one["status"] == "ok"]
    assert all(small) == (name == ENTRY.name)
    assert [one["outputs"] for one in manifest["images"]] == [one["outputs"] for one in without["images"]]
    page = write_report([out], ReportOptions()).path.read_text(encoding="utf-8")
    assert "<html" in page
    assert verify(out) == []


def test_an_interruption_while_figures_are_drawn_loses_none_that_is_finished(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, genuine = tmp_path / "out", DistanceStudy.record
    done: list[str] = []

    def short(self: DistanceStudy, source: Any, folder: str) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(source.name)
        return genuine(self, source, folder)

    monkeypatch.setattr(DistanceStudy, "record", short)
    assert run(out, sources).status == "interrupted"
    assert "findings" not in manifest_of(out)
    monkeypatch.setattr(DistanceStudy, "record", genuine)
    heard = Listener()
    run(out, sources, heard)
    assert not [line for line in heard.said if "shown to the network" in line and not line.startswith("1 images")]
    assert sorted([*heard.done_, *done]) == sorted(source.name for source in sources)
    run(tmp_path / "whole", sources)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_full_disk_ends_it_with_one_message(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, genuine = tmp_path / "out", os.write

    def full(descriptor: int, data: Any) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.endswith(".positions.f32"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return genuine(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="the disk is full"):
        run(out, sources)
    monkeypatch.setattr(os, "write", genuine)
    run(out, sources)
    run(tmp_path / "whole", sources)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_shards_at_work_wait_for_each_other(tmp_path: Path, sources: list[Source]) -> None:
    """Two processes at once, each of which needs the other's rows."""
    run(tmp_path / "whole", sources)
    out = tmp_path / "out"
    killer = Killer()
    shards = [{"study": ENTRY.name, "shard": [index, 2]} for index in range(2)]
    assert killer.run_together(out, shards) == ["0", "0"]
    killer.close()
    assert merged(out) == []
    for path, data in files_of(tmp_path / "whole").items():
        assert files_of(out)[path] == data, path


def test_a_merge_without_what_figures_are_made_of_says_so(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        for index in range(2):
            run(out, sources, shard=Shard(index, 2))
    (out / "run.study.npz").unlink()
    assert ["run.study.npz" in line for line in merged(out)] == [True]
    assert "findings" not in manifest_of(out)


def test_images_of_units_that_cannot_be_read_make_the_run_partial(
    tmp_path: Path, sources: list[Source], capsys: pytest.CaptureFixture[str]
) -> None:
    """No record is about an image, so that no record can have failed."""
    out = tmp_path / "out"
    ended, heard = run(out, sources, study=OF_UNITS.name), Listener()
    assert (ended.status, ended.summary.failed) == ("partial", 0)
    assert manifest_of(out)["run"]["status"] == "partial"
    code = end_run(
        ended, settings_of(out), [], ShardChoice(SINGLE_SHARD), heard, print_outcome, as_json=False, quiet=False
    )
    assert code == ExitCode.PARTIAL
    (line,) = heard.warned
    assert line.startswith(f"{BROKEN} failed: ")
    assert "4 units, 1 image failed, 4 figures" in capsys.readouterr().out
    parts, heard = tmp_path / "parts", Listener()
    for _ in range(3):
        for index in range(2):
            run(parts, sources, heard, study=OF_UNITS.name, shard=Shard(index, 2))
    assert f"could not be shown to the network: {BROKEN} " in heard.warned[-1]
    assert merge(parts) == ExitCode.PARTIAL
    told = capsys.readouterr()
    assert f"{BROKEN} failed: " in told.err
    assert "4 units, 1 image failed, 4 figures" in told.out
    assert manifest_of(parts) == manifest_of(out)


def test_units_are_not_counted_as_images(tmp_path: Path, sources: list[Source]) -> None:
    heard = Listener()
    run(tmp_path / "units", sources, heard, study=OF_UNITS.name)
    assert (heard.begun, heard.begun_of) == (4, "units")
    run(tmp_path / "images", sources, heard)
    assert (heard.begun, heard.begun_of) == (7, "images")


def test_sheets_of_an_earlier_run_do_not_stay_beside_those_of_another_format(
    tmp_path: Path, sources: list[Source]
) -> None:
    out = tmp_path / "out"
    run(out, sources)
    (out / "distances.txt").write_text("mine")
    with pytest.raises(UsageError, match="run with other settings is in the way"):
        run(out, sources, format="svg")
    assert (out / "distances.png").exists()
    run(out, sources, format="svg", force=True)
    assert {path.name for path in out.glob("distances.*")} == {"distances.svg", "distances.csv", "distances.txt"}
    assert verify(out) == []
    (out / "distances.csv").write_text("edited")
    listed_before = manifest_of(out)["tables"]
    remove_sheets(Sink(out), [{"study": {}}])
    assert listed_before[0]["path"] == "distances.csv"
    assert (out / "distances.csv").read_text() == "edited"
    assert not (out / "distances.svg").exists()


def test_an_error_after_loading_leaves_no_folder_behind(tmp_path: Path, sources: list[Source]) -> None:
    class Refusing(DistanceStudy):
        def __init__(self, *_about: Any) -> None:
            raise UsageError("not this way")

    def refuse(out: Path, shard: Shard = SINGLE_SHARD) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(made_up_study, "DistanceStudy", Refusing)
            with pytest.raises(UsageError, match="not this way"):
                run(out, sources, shard=shard)

    refuse(tmp_path / "above" / "out")
    assert not (tmp_path / "above").exists()
    (tmp_path / "there").mkdir()
    refuse(tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())
    refuse(tmp_path / "there" / "out", Shard(0, 2))
    assert (tmp_path / "there" / "out").exists()


def test_a_shard_that_is_finished_is_to_show_its_images_again(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        for index in range(2):
            run(out, sources, shard=Shard(index, 2))
    merged(out)
    ended = run(out, sources, shard=Shard(0, 2), force=True)
    assert ended.missing is not None
    assert (ended.missing.missing, ended.missing.again) == ((1,), {1})


@pytest.mark.parametrize("kind", [zlib.error, NotImplementedError, RuntimeError])
def test_what_is_kept_and_damaged_is_made_again(
    kind: type[Exception], tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """numpy passes on whatever the zip file raises: a compression that it does not know, an encrypted member."""
    out = tmp_path / "out"
    run(out, sources)

    def damaged(*_about: Any, **_named: Any) -> Any:
        raise kind("no such thing")

    monkeypatch.setattr(np, "load", damaged)
    assert read_kit(Sink(out), "anything") is None
