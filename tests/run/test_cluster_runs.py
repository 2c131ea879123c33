"""Whole runs with ``--engine ray``, on a stand-in whose processes are objects of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cluster.standin import Ray
from run.resuming import BROKEN, Listener, files_of, photographs, run

from cnnviz_cli.cluster import connection, execute
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.run.pipeline import Pipeline

FOUR = {name: {"CPU": 1.0} for name in "abcd"}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ray:
    made = Ray(FOUR)
    monkeypatch.setattr(made, "is_initialized", lambda: True, raising=False)
    monkeypatch.setattr(connection, "import_module", lambda _name: made)
    monkeypatch.chdir(tmp_path)
    return made


def far(
    out: Path, sources: list[Source], heard: Listener | None = None, *, shard: Shard = SINGLE_SHARD, **settings: Any
) -> Any:
    flags = {("output",): str(out), ("batch_size",): "3", ("device",): "cpu", ("workers",): "0", ("threads",): "1"}
    loaded = load_settings("gradcam", {**flags, **{(name,): value for name, value in settings.items()}}, None, {})
    return execute("gradcam", loaded, sources, heard or Listener(), shard=shard)


@pytest.mark.usefixtures("tiny_network")
def test_a_cluster_makes_what_one_machine_makes_also_with_nodes_that_die(ray: Ray) -> None:
    sources = photographs(Path("in"), 20)
    run(Path("here"), sources, threads="1")

    def dies(count: int) -> None:
        if count in (4, 9):
            ray.alive.discard(sorted(ray.alive)[0])

    heard = Listener(dies)
    outcome = far(Path("there"), sources, heard)
    assert outcome.status == "partial"
    assert sorted(heard.done_) == sorted(source.name for source in sources)
    assert files_of(Path("there")) == files_of(Path("here"))
    assert not list(Path("there").rglob(".cnnviz-*"))
    assert len(ray.alive) == 2
    assert sum("is gone" in text for text in heard.warned) == 2
    assert all(actor.gone for actor in ray.actors)


@pytest.mark.usefixtures("tiny_network", "ray")
def test_what_a_report_shows_is_the_same_from_a_cluster_and_is_added_there() -> None:
    sources = photographs(Path("in"), 9)
    run(Path("here"), sources, threads="1", report=True)
    far(Path("there"), sources, report=True)
    far(Path("later"), sources)
    heard = Listener()
    far(Path("later"), sources, heard, report=True)
    assert "8 images were explained without --report, and are done again" in heard.said
    here = files_of(Path("here"))
    assert sum(name.endswith("thumbnail.webp") for name in here) == 8
    assert files_of(Path("there")) == files_of(Path("later")) == here


@pytest.mark.usefixtures("tiny_network", "ray")
def test_a_run_of_one_machine_goes_on_on_a_cluster_and_back(tmp_path: Path) -> None:
    sources = photographs(tmp_path / "in", 12)

    def stops(count: int) -> None:
        if count == 4:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    assert run(out, sources, Listener(stops)).status == "interrupted"
    assert far(out, sources, Listener(stops)).status == "interrupted"
    heard = Listener()
    last = far(out, sources, heard)
    assert (last.status, last.done_before + len(heard.done_)) == ("partial", 12)
    assert run(out, sources, again := Listener()).done_before == 11
    assert again.done_ == [BROKEN]
    run(tmp_path / "here", sources)
    assert files_of(out) == files_of(tmp_path / "here")


@pytest.mark.usefixtures("tiny_network", "ray")
def test_a_shard_of_a_list_may_be_a_clusters(tmp_path: Path) -> None:
    sources = photographs(tmp_path / "in", 9)
    outcome = far(tmp_path / "out", sources, shard=Shard(1, 2))
    assert outcome.summary.images == 3  # the second of three batches of three
    assert outcome.manifest.name == "manifest.1-of-2.json"


def shared(out: str, sources: list[Source], heard: Listener | None = None, **how: Any) -> Any:
    return far(Path(out), sources, heard, scale="run", batch_size="1", **how)


@pytest.mark.usefixtures("tiny_network", "ray")
def test_all_processes_draw_with_the_scale_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = photographs(Path("in"), 20)
    run(Path("here"), sources, scale="run", batch_size="1", threads="1")
    computed: list[int] = []
    genuine = Pipeline.results

    def results(pipeline: Pipeline, places: Any, due: Any, **how: Any) -> Any:
        computed.append(sum(due))
        return genuine(pipeline, places, due, **how)

    monkeypatch.setattr(Pipeline, "results", results)
    assert shared("there", sources).status == "partial"
    assert sum(computed) == 20  # each map once
    assert files_of(Path("there")) == files_of(Path("here"))
    assert not list(Path("there").rglob(".cnnviz-*"))


@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize("deaths", [(2,), (7, 8), (1, 30), (28, 33), (45,)])
def test_maps_that_a_dead_node_held_are_computed_again(
    ray: Ray, monkeypatch: pytest.MonkeyPatch, deaths: tuple[int, ...]
) -> None:
    """Whether it dies before the scale is known or behind it, in the middle of a part or between two."""
    sources = photographs(Path("in"), 20)
    run(Path("here"), sources, scale="run", batch_size="1", threads="1")
    genuine, reports = ray.get, []

    def get(reference: Any) -> Any:
        reports.append(1)
        if len(reports) in deaths:
            ray.alive.discard(sorted(ray.alive)[0])
        return genuine(reference)

    monkeypatch.setattr(ray, "get", get)
    heard = Listener()
    assert shared("there", sources, heard).status == "partial"
    assert max(deaths) <= len(reports)
    assert len(ray.alive) == 4 - len(deaths)
    assert sorted(heard.done_) == sorted(source.name for source in sources)
    assert files_of(Path("there")) == files_of(Path("here"))


@pytest.mark.usefixtures("tiny_network", "ray")
def test_clusters_and_machines_share_a_scale_by_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.run.scales._START_SECONDS", 0.0)
    sources, out = photographs(Path("in"), 9), Path("out")
    run(Path("here"), sources, scale="run", batch_size="1", threads="1")
    assert shared("out", sources, heard := Listener(), shard=Shard(0, 2)).status == "interrupted"
    assert "shard 1 of 2" in heard.warned[-1]
    run(out, sources, shard=Shard(1, 2), scale="run", batch_size="1", threads="1")
    assert shared("out", sources, shard=Shard(0, 2)).status == "ok"
    assert merge_shards(out).missing == 0
    assert (out / "manifest.json").read_bytes() == (Path("here") / "manifest.json").read_bytes()


@pytest.mark.usefixtures("tiny_network", "ray")
def test_a_run_that_ends_before_its_scale_is_known_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnnviz_cli.run.pool.share_ranges", stop)
    assert shared("out", photographs(Path("in"), 9), heard := Listener()).status == "interrupted"
    assert heard.done_ == []
    assert "nothing was drawn" in heard.warned[-1]


@pytest.mark.usefixtures("tiny_network")
def test_a_node_that_sees_another_output_folder_is_refused(
    tmp_path: Path, ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cnnviz_cli.cluster.connection.FolderToken.write", lambda token: token.path.write_text("another")
    )
    with pytest.raises(UsageError, match="is not that of the node that started the run"):
        far(tmp_path / "out", photographs(tmp_path / "in"))
    monkeypatch.undo()
    assert not list((tmp_path / "out").glob(".cnnviz-*"))
    assert all(actor.gone for actor in ray.actors)


def test_without_ray_there_is_a_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(connection, "import_module", missing)
    with pytest.raises(UsageError, match="Ray is not installed") as caught:
        far(tmp_path / "out", photographs(tmp_path / "in"))
    assert "pip install 'cnnviz-cli[ray]'" in caught.value.fix
