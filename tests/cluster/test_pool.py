"""Who does which part, and what becomes of the part of a process that dies; on a stand-in for Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster.standin import Ray
from hypothesis import given
from hypothesis import strategies as st

from cnnviz_cli.cluster import pool
from cnnviz_cli.cluster.connection import FolderToken, await_files, list_slots, uses_gpus
from cnnviz_cli.cluster.pool import ActorPool, part_size
from cnnviz_cli.cluster.worker import SetupResult
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import CnnvizError, DeviceError, OutputError, UsageError
from cnnviz_cli.core.records import ImageRecord
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.image_data import OutputSlot
from cnnviz_cli.run.parts import Part, Report, split_work
from cnnviz_cli.run.stage_timer import StageTimer

TWO = {"a": {"CPU": 4.0}, "b": {"CPU": 8.0}}


class Ledger:
    """Which of the places are due."""

    def __init__(self, done: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.done = done

    def is_due(self, at: int) -> bool:
        return at not in self.done


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


def places(count: int) -> list[OutputSlot]:
    return [(Source("in", f"{at}.png", f"{at}.png"), f"{at}.png") for at in range(count)]


def record(name: str) -> ImageRecord:
    return ImageRecord(
        source=name, sha256=None, width=None, height=None, status="failed", error="x", predictions=[], outputs=[]
    )


class Obedient:
    """A worker without a model: it says that it did what it was told, in two pieces."""

    parts: list[Part]
    identity: dict[str, str]
    beside: dict[str, Any] | None = None
    wrong: CnnvizError | None = None
    after: Callable[[str], None]

    def __init__(self, *_told: Any) -> None: ...

    def begin(self) -> SetupResult | CnnvizError:
        header: Any = SimpleNamespace(identity=dict(self.identity), beside=self.beside)
        said = (("method x is left out", True),)
        return self.wrong or SetupResult(header, "a processor", 2, Labels(("cat",)), said)

    def explain(self, part: Part) -> Iterator[Report]:
        type(self).parts.append(part)
        wanted = [source.name for (source, _), due in zip(part.slots, part.due, strict=True) if due]
        for piece in (wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]):
            yield Report([(record(name), ()) for name in piece], (("a note", False),), {"compute": (1.0, 2.0)})
            for name in piece:
                self.after(name)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> type[Obedient]:
    class Fresh(Obedient):
        parts: list[Part] = []  # noqa: RUF012
        identity: dict[str, str] = {"palette": "inferno"}  # noqa: RUF012

        def after(self, name: str) -> None: ...

    monkeypatch.setattr(pool, "ClusterWorker", Fresh)
    monkeypatch.setattr(pool, "_NODE_CHECK_INTERVAL", 0.0)
    return Fresh


def started(ray: Ray, root: Path, reporter: Heard, device: str = "auto") -> ActorPool:
    job: Any = SimpleNamespace()
    settings = load_settings("gradcam", {("device",): device}, None, {})
    made = ActorPool(ray, job, FolderToken(Sink(root)), settings, reporter, StageTimer())  # type: ignore[arg-type]
    assert made.start().device.endswith("x a processor")
    return made


def recorded(made: ActorPool, count: int, done: set[int] = frozenset()) -> list[str]:  # type: ignore[assignment]
    ledger: Any = Ledger(done)
    return [one.source for one in made.records(places(count), ledger)]


def numbered(names: list[str]) -> list[int]:
    return sorted(int(name.removesuffix(".png")) for name in names)


@pytest.mark.usefixtures("worker")
def test_every_picture_that_is_due_has_one_record(tmp_path: Path) -> None:
    ray, heard = Ray(TWO), Heard()
    made = started(ray, tmp_path, heard)
    assert numbered(recorded(made, 41, {0, 1, 2, 3, 4, 5, 6, 7, 20})) == [*range(8, 20), *range(21, 41)]
    assert heard.warned == ["method x is left out"], "said by each process, told once"
    assert heard.said.count("a note") == 1
    assert [how["num_cpus"] for how in ray.options] == [4, 8]
    made.shut_down()
    assert all(actor.gone for actor in ray.actors)


def test_what_a_dead_node_was_doing_is_done_again_and_nothing_twice(tmp_path: Path, worker: type[Obedient]) -> None:
    ray, heard = Ray(TWO), Heard()
    made = started(ray, tmp_path, heard)
    first = ray.actors[0].node

    def dies(_self: Any, name: str) -> None:
        if name == "0.png":
            ray.alive.discard(first)

    worker.after = dies
    assert numbered(recorded(made, 40)) == list(range(40))
    assert any("its node has died" in text for text in heard.warned)
    assert [part.again for part in worker.parts].count(True) == 1
    again = next(part for part in worker.parts if part.again)
    earlier = next(part for part in worker.parts if part.slots == again.slots)
    assert sum(again.due) < sum(earlier.due), "what had a record is only company for the others"


def test_a_node_that_joins_is_put_to_work(tmp_path: Path, worker: type[Obedient]) -> None:
    ray = Ray({**TWO, "c": {"CPU": 2.0}})
    ray.alive = {"a"}
    made = started(ray, tmp_path, Heard())

    def joins(_self: Any, _name: str) -> None:
        ray.alive |= {"c"}

    worker.after = joins
    assert numbered(recorded(made, 40)) == list(range(40))
    assert {actor.node for actor in ray.actors} == {"a", "c"}


def test_pictures_that_end_every_process_end_the_run(tmp_path: Path, worker: type[Obedient]) -> None:
    ray = Ray({"a": {"CPU": 1.0}, "b": {"CPU": 1.0}, "c": {"CPU": 1.0}})
    made = started(ray, tmp_path, Heard())

    def explain(self: Any, _part: Part) -> Iterator[Report]:
        for actor in ray.actors:
            actor.gone = actor.gone or actor._made is self
        yield Report([])

    worker.explain = explain  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"3 processes .* died at the same images|no node .* is left"):
        recorded(made, 40)


@pytest.mark.usefixtures("worker")
def test_a_busy_cluster_is_waited_for_and_that_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, heard = Ray(TWO), Heard()
    turns = iter([True] * 5)
    real = ray.wait
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: ([], refs) if next(turns, False) else real(refs, timeout))
    monkeypatch.setattr(pool, "_READY_WARNING_AFTER", 0.0)
    started(ray, tmp_path, heard)
    assert sum("no process is ready yet" in text for text in heard.said) == 1


@pytest.mark.usefixtures("worker")
def test_a_cluster_without_nodes_ends_the_run(tmp_path: Path) -> None:
    ray = Ray(TWO)
    made = started(ray, tmp_path, Heard())
    ray.alive.clear()
    with pytest.raises(DeviceError, match="no node of the cluster is left"):
        recorded(made, 4)
    with pytest.raises(DeviceError, match="no node of this cluster has cores"):
        started(Ray({"a": {"CPU": 0.0}}), tmp_path, Heard())


def test_what_a_node_refuses_ends_the_run_before_it_begins(tmp_path: Path, worker: type[Obedient]) -> None:
    worker.wrong = UsageError("the output folder is another one here", fix="Share it.")
    with pytest.raises(UsageError, match="another one here") as caught:
        started(Ray(TWO), tmp_path, Heard())
    assert caught.value.where == "node host-a"


def test_a_node_that_would_make_other_pictures_is_refused(tmp_path: Path, worker: type[Obedient]) -> None:
    begin = worker.begin

    def other(self: Any) -> Any:
        ready = begin(self)
        worker.identity["palette"] = "viridis"
        return ready

    worker.begin = other  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="other figures") as caught:
        started(Ray(TWO), tmp_path, Heard())
    assert caught.value.fix == "palette: inferno -> viridis"


def test_a_node_that_has_another_judge_is_refused(tmp_path: Path, worker: type[Obedient]) -> None:
    begin = worker.begin

    def other(self: Any) -> Any:
        ready = begin(self)
        worker.beside = {"judges": [["a", "b", "1" * 64]], "subjects": []}
        return ready

    worker.beside = {"judges": [["a", "b", "0" * 64]], "subjects": []}
    worker.begin = other  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="other figures") as caught:
        started(Ray(TWO), tmp_path, Heard())
    assert caught.value.fix.startswith("judges: ")


def test_an_error_of_ours_in_a_process_is_the_runs(tmp_path: Path, worker: type[Obedient]) -> None:
    made = started(Ray(TWO), tmp_path, Heard())

    def full(_self: Any, part: Part) -> Iterator[Report]:
        raise OutputError("the disk is full")
        yield part

    worker.explain = full  # type: ignore[method-assign]
    with pytest.raises(OutputError, match="the disk is full"):
        recorded(made, 4)


@given(st.integers(0, 60), st.sets(st.integers(0, 59)), st.integers(1, 9), st.integers(1, 5))
def test_parts_are_cut_where_batches_are(count: int, done: set[int], batch: int, processes: int) -> None:
    ledger: Any = Ledger(done)
    found = list(split_work(places(count), ledger, part_size(count, batch, processes)))
    owed = [name for lot in found for name in lot.missing]
    assert numbered(owed) == [at for at in range(count) if at not in done]
    for lot in found:
        assert lot.start % batch == 0
        assert lot.slots == places(count)[lot.start : lot.start + len(lot.slots)]
        assert len(lot.slots) % batch == 0 or lot.start + len(lot.slots) == count
        assert sum(lot.part().due) == len(lot.missing) > 0


def test_there_is_a_slot_for_each_gpu_or_else_for_each_node() -> None:
    mixed = Ray({"a": {"CPU": 8.0, "GPU": 2.0}, "b": {"CPU": 4.0}, "head": {"CPU": 0.0}, "gone": {"CPU": 9.0}})
    mixed.alive.discard("gone")
    assert uses_gpus(mixed.nodes(), "auto")
    assert not uses_gpus(mixed.nodes(), "cpu")
    by_gpu, by_node = (list_slots(mixed.nodes(), gpus=gpus) for gpus in (True, False))
    assert [(slot.node, slot.number, slot.cores, slot.share) for slot in by_gpu] == [("a", 0, 4, 2), ("a", 1, 4, 2)]
    assert [(slot.node, slot.cores, slot.share) for slot in by_node] == [("a", 8, 1), ("b", 4, 1)]
    with pytest.raises(UsageError, match="given its GPU"):
        uses_gpus(mixed.nodes(), "cuda:1")
    with pytest.raises(DeviceError, match="has a GPU"):
        uses_gpus(Ray(TWO).nodes(), "cuda")


def test_a_file_that_comes_late_is_awaited_and_one_that_never_comes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        (tmp_path / "x.png").write_bytes(b"12" if len(naps) == 1 else b"123")

    monkeypatch.setattr("cnnviz_cli.cluster.connection.time.sleep", nap)
    await_files(tmp_path, (("x.png", 3),))
    assert len(naps) == 2, "half of it is not it"
    monkeypatch.setattr("cnnviz_cli.cluster.connection._ARRIVAL_TIMEOUT", -1.0)
    with pytest.raises(OutputError, match="not visible here"):
        await_files(tmp_path, (("never.png", 3),))


def test_a_token_is_swept_away_with_what_a_killed_run_leaves(tmp_path: Path) -> None:
    token = FolderToken(Sink(tmp_path))
    token.write()
    assert token.path.read_text() == token.text
    Sink(tmp_path).sweep("")
    assert not token.path.exists()
    token.write()
    token.remove()
    assert not list(tmp_path.iterdir())
