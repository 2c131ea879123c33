"""A made-up study through the whole frame: records, sheets, findings; interrupted, resumed, in shards, merged."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from run.made_up_study import ENTRY, OF_UNITS
from run.resuming import BROKEN, Listener, photographs, tiny_model

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.families import STUDIES
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import Outcome
from cnnviz_cli.run.study import execute_study


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (ENTRY, OF_UNITS):
        monkeypatch.setitem(STUDIES, one.name, one)
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    return photographs(tmp_path / "in")


def settings_of(out: Path, **more: Any) -> Any:
    flags = {("output",): str(out), ("batch_size",): "3", ("device",): "cpu", ("workers",): "0"}
    flags |= {(name,): one for name, one in more.items()}
    return load_settings("gradcam", flags, None, {})


def run(
    out: Path,
    sources: list[Source],
    heard: Listener | None = None,
    *,
    study: str = ENTRY.name,
    shard: Shard = SINGLE_SHARD,
    force: bool = False,
    **more: Any,
) -> Outcome:
    return execute_study(
        study, "gradcam", settings_of(out, **more), sources, heard or Listener(), shard=shard, force=force
    )


def manifest_of(out: Path) -> Any:
    return json.loads((out / "manifest.json").read_bytes())


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
