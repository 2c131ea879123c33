"""Replicas of the pipeline: the same files however many there are, whatever happens to one of them."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from run.resuming import BROKEN, Listener, files_of, listed, photographs, run

from cnnviz_cli.cli.process import handle_signals
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import DeviceError, ModelError, OutputError, UsageError
from cnnviz_cli.core.records import Manifest
from cnnviz_cli.files.inputs.remote import RemoteReader
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.run import replica_plan, replicas
from cnnviz_cli.run.explain import BatchExplainer, prepare
from cnnviz_cli.run.replica_plan import MIN_IMAGES, ReplicaPlan, plan_replicas
from cnnviz_cli.run.workers import ImageWorker

pytestmark = [
    pytest.mark.usefixtures("tiny_network", "one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux alone"),
]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One pipeline computes with the threads of a replica; forks of this process could start no others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Every replica that a run starts; at the end none is left."""
    genuine, found = replicas.ReplicaPool._fork, []

    def fork(self: Any) -> Any:
        replica = genuine(self)
        found.append(replica.pid)
        return replica

    monkeypatch.setattr(replicas.ReplicaPool, "_fork", fork)
    yield found
    for pid in found:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


_CALM: dict[str, dict[str, bytes]] = {}


def calm(tmp_path: Path, images: int, **settings: Any) -> dict[str, bytes]:
    """The files of a run of so many photographs in this process alone, to which nothing happens; made once."""
    key = repr((images, sorted(settings.items())))
    if key not in _CALM:
        run(tmp_path / "calm", photographs(tmp_path / "for calm", images), **settings)
        _CALM[key] = files_of(tmp_path / "calm")
    return _CALM[key]


def manifest_of(out: Path) -> Manifest:
    return Manifest.model_validate_json((out / "manifest.json").read_bytes())


def failures_of(out: Path) -> dict[str, str | None]:
    return {image.source: image.error for image in manifest_of(out).images if image.status == "failed"}


class Fate:
    """Has something happen in a replica so many times, counted in a folder since each fork begins anew."""

    def __init__(self, folder: Path, times: int, what: Callable[[], object]) -> None:
        folder.mkdir()
        self._folder, self._times, self._what = folder, times, what

    @property
    def count(self) -> int:
        return len(list(self._folder.iterdir()))

    def strike(self) -> None:
        if self.count < self._times:
            (self._folder / f"{time.monotonic_ns()}").touch()
            self._what()


def kill_with(number: signal.Signals) -> Callable[[], object]:
    def kill() -> None:
        faulthandler.disable()  # pytest's, which tells of each
        os.kill(os.getpid(), number)

    return kill


def at_image(job: str, name: str, fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fate strikes where an image is read or drawn."""
    genuine = getattr(ImageWorker, job)

    def struck(self: ImageWorker, slot: Any, *arguments: Any) -> Any:
        if slot[0].name == name:
            fate.strike()
        return genuine(self, slot, *arguments)

    monkeypatch.setattr(ImageWorker, job, struck)


def at_batch(size: int, fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fate strikes where a batch of this size is computed."""
    genuine = BatchExplainer.results

    def struck(self: BatchExplainer, inputs: Any, truths: Any) -> Any:
        if len(inputs) == size:
            fate.strike()
        return genuine(self, inputs, truths)

    monkeypatch.setattr(BatchExplainer, "results", struck)


@pytest.mark.parametrize("settings", [{}, {"scale": "run"}, {"save_arrays": True, "target": "top2"}])
def test_the_files_do_not_depend_on_the_number_of_replicas(
    settings: dict[str, Any], tmp_path: Path, forked: list[int]
) -> None:
    sources = photographs(tmp_path / "in", 13)  # four batches of three
    run(tmp_path / "1", sources, **settings)
    for count in ("2", "4"):
        heard = Listener()
        assert run(tmp_path / count, sources, heard, replicas=count, **settings).status == "partial"
        assert sorted(heard.done_) == sorted(source.name for source in sources)
        assert heard.begun == 13
    one, two, four = (files_of(tmp_path / count) for count in "124")
    assert one == two == four
    assert len(one) >= 13
    assert len(forked) == 6


def test_the_files_do_not_depend_on_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_plan, "MIN_IMAGES", 12)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    sources = photographs(tmp_path / "in", 12)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(replica_plan, "usable_cores", lambda cores=cores: cores)
        torch.set_num_threads(2)
        run(tmp_path / str(cores), sources, workers="auto")
        assert torch.get_num_threads() == 1
        found.append(files_of(tmp_path / str(cores)))
    assert found[0] == found[1]


def test_shards_and_archives_are_shared_out_as_well(tmp_path: Path) -> None:
    photographs(tmp_path / "in", 12)
    with tarfile.open(tmp_path / "in.tar.gz", "w:gz") as archive:
        for path in sorted((tmp_path / "in").iterdir()):
            archive.add(path, path.name)
    sources = find_images([tmp_path / "in.tar.gz"], recursive=False)
    run(tmp_path / "calm", sources)
    for index in (0, 1):
        run(tmp_path / "out", sources, shard=Shard(index, 2), replicas="2")
    assert merge_shards(tmp_path / "out").missing == 0
    found = {name: data for name, data in files_of(tmp_path / "out").items() if name in files_of(tmp_path / "calm")}
    assert found == files_of(tmp_path / "calm")


@pytest.mark.parametrize("settings", [{}, {"scale": "run"}])
@pytest.mark.parametrize("job", ["read", "draw", "compute"])
def test_a_replica_that_dies_once_costs_nothing(
    job: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: list[int]
) -> None:
    sources = photographs(tmp_path / "in", 10)
    expected = calm(tmp_path, 10, **settings)
    fate = Fate(tmp_path / "deaths", 1, kill_with(signal.SIGSEGV))
    if job == "compute":
        at_batch(1, fate, monkeypatch)
    else:
        at_image(job, "1.png", fate, monkeypatch)
    heard = Listener()
    run(tmp_path / "out", sources, heard, replicas="2", **settings)
    assert fate.count == 1
    assert len(forked) == 3
    assert files_of(tmp_path / "out") == expected
    assert sorted(heard.done_) == sorted(source.name for source in sources)


@pytest.mark.parametrize("settings", [{}, {"scale": "run"}])
@pytest.mark.parametrize(("job", "doing"), [("read", "reading"), ("draw", "drawing")])
def test_an_image_on_which_replicas_die_is_alone_in_failing(
    job: str, doing: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = photographs(tmp_path / "in", 10)
    fate = Fate(tmp_path / "deaths", 99, kill_with(signal.SIGSEGV))
    with monkeypatch.context() as patch:
        at_image(job, "1.png", fate, patch)
        assert run(tmp_path / "out", sources, replicas="2", **settings).status == "partial"
    assert fate.count == 2
    error = f"{doing} it crashed the worker process, twice: SIGSEGV"
    assert failures_of(tmp_path / "out") == {"1.png": error, BROKEN: failures_of(tmp_path / "out")[BROKEN]}
    # The others have the company that they have beside a broken file, or beside a sound one that is not drawn.
    if job == "read":
        (tmp_path / "in" / "1.png").write_bytes(b"broken")
    run(tmp_path / "calm", sources, **settings)
    whole, calm = files_of(tmp_path / "out"), files_of(tmp_path / "calm")
    if not settings:
        assert {n: d for n, d in whole.items() if n.endswith("gradcam.png")} == {
            n: d for n, d in calm.items() if n.endswith("gradcam.png") and not n.startswith("1.png")
        }


def test_an_image_that_takes_forever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: list[int]
) -> None:
    sources = photographs(tmp_path / "in", 10)
    monkeypatch.setattr(replicas, "READ_TIMEOUT", 0.5)
    fate = Fate(tmp_path / "deaths", 99, lambda: time.sleep(600))
    at_image("read", "1.png", fate, monkeypatch)
    run(tmp_path / "out", sources, replicas="2")
    assert failures_of(tmp_path / "out")["1.png"] == "it took more than 0.5 seconds to read"
    assert len(failures_of(tmp_path / "out")) == 2
    assert (fate.count, len(forked)) == (1, 3)


def test_memory_that_runs_out_leaves_fewer_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: list[int]
) -> None:
    sources = photographs(tmp_path / "in", 16)
    expected = calm(tmp_path, 16)
    at_batch(3, Fate(tmp_path / "deaths", 1, kill_with(signal.SIGKILL)), monkeypatch)
    heard = Listener()
    run(tmp_path / "out", sources, heard, replicas="3")
    assert files_of(tmp_path / "out") == expected
    assert [text for text in heard.warned if "memory" in text] == [
        "a replica was killed, most often for want of memory: 2 go on (--replicas N)"
    ]
    assert len(forked) == 3


def test_images_of_which_every_replica_dies_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = photographs(tmp_path / "in", 10)
    fate = Fate(tmp_path / "deaths", 99, kill_with(signal.SIGKILL))
    with monkeypatch.context() as patch:
        at_batch(1, fate, patch)
        with pytest.raises(DeviceError, match=r"3 replicas died at the same images.* 9\.png") as caught:
            run(tmp_path / "out", sources, replicas="2")
    assert "--batch-size" in caught.value.fix
    assert "--replicas 1" in caught.value.fix
    assert fate.count == 3
    outcome = run(tmp_path / "out", sources, replicas="2")
    assert outcome.done_before == 8
    assert files_of(tmp_path / "out") == calm(tmp_path, 10)


def test_a_disk_that_refuses_a_replica_ends_the_run(tmp_path: Path, forked: list[int]) -> None:
    sources = photographs(tmp_path / "in", 10)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "2.png").write_text("in the way of a folder")
    with pytest.raises(OutputError, match=r"'2\.png' is in the way"):
        run(tmp_path / "out", sources, replicas="2")
    assert len(forked) in (0, 2)
    assert list((tmp_path / "out").rglob("*.tmp")) == []


def test_errors_come_through_with_what_to_do_and_bugs_with_their_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = photographs(tmp_path / "in", 10)

    def refuse() -> None:
        raise ModelError("the weights are not right", where="model", fix="Look again.")

    with monkeypatch.context() as patch:
        at_batch(3, Fate(tmp_path / "refusals", 99, refuse), patch)
        with pytest.raises(ModelError, match="the weights are not right") as caught:
            run(tmp_path / "a", sources, replicas="2")
    assert (caught.value.where, caught.value.fix) == ("model", "Look again.")
    at_batch(3, Fate(tmp_path / "bugs", 99, lambda: {}[0]), monkeypatch)
    with pytest.raises(RuntimeError, match=r"(?s)in a replica:.*Traceback.*KeyError"):
        run(tmp_path / "b", sources, replicas="2")


@pytest.mark.parametrize("settings", [{}, {"scale": "run"}])
def test_an_interruption_keeps_what_is_finished_and_leaves_no_process(
    settings: dict[str, Any], tmp_path: Path, forked: list[int]
) -> None:
    sources = photographs(tmp_path / "in", 36)

    def stop(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    assert run(tmp_path / "out", sources, Listener(stop), replicas="2", **settings).status == "interrupted"
    assert 2 <= len(manifest_of(tmp_path / "out").images) < len(sources)
    assert list((tmp_path / "out").rglob("*.tmp")) == []
    assert len(forked) == 2
    assert run(tmp_path / "out", sources, replicas="3", **settings).status == "partial"
    assert files_of(tmp_path / "out") == calm(tmp_path, len(sources), **settings)
    heard = Listener()
    assert run(tmp_path / "out", sources, heard, replicas="2", **settings).done_before == (35 if not settings else 0)


def test_a_broken_off_figure_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = photographs(tmp_path / "in", 10)

    def hang() -> None:
        (tmp_path / "out" / "7.png").mkdir(exist_ok=True)
        (tmp_path / "out" / "7.png" / ".cnnviz-0123456789ab.tmp").write_bytes(b"half")
        time.sleep(600)

    fate = Fate(tmp_path / "hangs", 1, hang)

    def stop(count: int) -> None:
        if count == 7:  # of the two other batches and the last one, or of the one that 7.png is in
            until = time.monotonic() + 300  # a watchdog
            while not list((tmp_path / "out").rglob("*.tmp")) and time.monotonic() < until:
                time.sleep(0.01)
            raise KeyboardInterrupt

    at_image("draw", "7.png", fate, monkeypatch)
    assert run(tmp_path / "out", sources, Listener(stop), replicas="2").status == "interrupted"
    assert fate.count == 1
    assert list((tmp_path / "out").rglob("*.tmp")) == []


class Slow(Listener):
    """Tells of the first record, and then waits for what the test does to it."""

    def __init__(self, told: int) -> None:
        super().__init__()
        self._told = told

    def done(self, record: Any) -> None:
        super().done(record)
        os.write(self._told, b"done\n")
        if len(self.done_) == 1:
            time.sleep(600)


def start(tmp_path: Path) -> tuple[int, IO[str], list[int]]:
    """A run with two replicas in a process group of its own, once it has a record: its process, what it tells, them."""
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            with pytest.MonkeyPatch.context() as patch, handle_signals():
                fork = replicas.ReplicaPool._fork

                def forked(self: Any) -> Any:
                    replica = fork(self)
                    os.write(told, f"{replica.pid}\n".encode())
                    return replica

                patch.setattr(replicas.ReplicaPool, "_fork", forked)
                sources = listed(tmp_path / "in")
                outcome = run(tmp_path / "out", sources, Slow(told), replicas="2", batch_size="1")
            os.write(told, f"{outcome.status}\n".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(told)
    pipe = os.fdopen(heard, encoding="utf-8")
    pids = [int(pipe.readline()) for _ in range(2)]
    assert pipe.readline() == "done\n"
    return pid, pipe, pids


def gone(pid: int) -> bool:
    until = time.monotonic() + 300  # a watchdog, for a machine that is busy
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_is_heard_by_one(number: signal.Signals, tmp_path: Path) -> None:
    sources = photographs(tmp_path / "in", 20)
    process, told, pids = start(tmp_path)
    os.killpg(process, number)
    with told:
        assert told.read().split()[-1] == "interrupted"
    assert os.waitpid(process, 0)[1] == 0
    assert all(gone(pid) for pid in pids)
    assert list((tmp_path / "out").rglob("*.tmp")) == []
    run(tmp_path / "out", sources, batch_size="1")
    assert files_of(tmp_path / "out") == calm(tmp_path, len(sources), batch_size="1")


def test_replicas_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    sources = photographs(tmp_path / "in", 20)
    process, told, pids = start(tmp_path)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    told.close()
    assert all(gone(pid) for pid in pids)
    outcome = run(tmp_path / "out", sources, replicas="2", batch_size="1")
    assert 1 <= outcome.done_before < 20
    assert files_of(tmp_path / "out") == calm(tmp_path, len(sources), batch_size="1")


def planned(
    images: int = MIN_IMAGES, cores: int = 8, remote: bool = False, **settings: str | bool
) -> ReplicaPlan | None:
    flags = {("device",): "cpu", ("workers",): "auto"} | {(name,): value for name, value in settings.items()}
    sources = [Source("in", f"{at}.png", f"{at}.png") for at in range(images)]
    if remote:
        sources[-1] = Source("memory://x", "a.png", "a.png", RemoteReader("memory://x/a.png"))
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(replica_plan, "usable_cores", lambda: cores)
        return plan_replicas(load_settings("gradcam", flags, None, {}), sources)


def test_how_many_replicas_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert planned() == ReplicaPlan(8, 1)
    assert planned(threads="2") == ReplicaPlan(4, 2)
    assert planned(threads="16") == ReplicaPlan(1, 16)
    assert planned(cores=1) == ReplicaPlan(1, 1), "one thread also where there is one core"
    assert planned(MIN_IMAGES - 1) is None
    assert planned(workers="2") is None
    assert planned(workers="0") is None
    assert planned(remote=True) is None
    assert planned(replicas="1") is None
    assert planned(compile=True) is None
    assert planned(3, replicas="2") == ReplicaPlan(2, 1, bounded=False)
    assert planned(replicas="2", workers="0") == ReplicaPlan(2, 1, bounded=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert planned() == ReplicaPlan(2, 1), "torchrun's share of a machine"


def test_replicas_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, said in (
        ({"workers": "2"}, "--workers"),
        ({"remote": True}, "Leave it out"),
        ({"compile": True}, "--compile"),
    ):
        with pytest.raises(UsageError) as caught:
            planned(replicas="2", **settings)  # type: ignore[arg-type]
        assert caught.value.where == "--replicas"
        assert said in caught.value.fix
    monkeypatch.setattr(replica_plan, "select_device", lambda *_about: torch.device("cuda"))
    with pytest.raises(UsageError, match="an accelerator is fed by one pipeline"):
        planned(replicas="2")
    assert planned() is None
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="on Linux alone"):
        planned(replicas="2")


def test_no_more_replicas_than_batches_or_than_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: list[int]
) -> None:
    sources = photographs(tmp_path / "in", 8)
    run(tmp_path / "a", sources, replicas="5")
    assert len(forked) == 3
    monkeypatch.setattr(replica_plan, "MIN_IMAGES", 8)
    monkeypatch.setattr(replica_plan, "_cores", lambda: 4)
    monkeypatch.setattr(replicas, "replica_bytes", lambda _explainer: 300 * 2**20)
    heard = Listener()
    run(tmp_path / "b", sources, heard, workers="auto", max_memory="0.7")
    assert len(forked) == 5
    assert "2 of 3 replicas fit into memory, at 300 MiB each" in heard.said
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_what_a_replica_takes_is_known_before_it_is_there() -> None:
    def estimated(command: str, batch: str) -> int:
        flags = {("device",): "cpu", ("batch_size",): batch}
        return replica_plan.replica_bytes(prepare(command, load_settings(command, flags, None, {}), Listener()))

    own = estimated("gradcam", "1") - (estimated("gradcam", "2") - estimated("gradcam", "1"))
    assert own == 96 * 2**20
    assert estimated("saliency", "2") > estimated("gradcam", "2"), "autograd keeps what is on the way to the input"


def test_a_run_with_nothing_to_do_forks_nothing(tmp_path: Path, forked: list[int]) -> None:
    sources = [source for source in photographs(tmp_path / "in", 8) if source.name != BROKEN]
    run(tmp_path / "out", sources, replicas="2")
    forked.clear()
    assert run(tmp_path / "out", sources, replicas="2").done_before == 7
    assert forked == []


def test_a_machine_without_room_for_a_process_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(DeviceError, match="no replica can be started: Resource temporarily") as caught:
        run(tmp_path / "out", photographs(tmp_path / "in", 8), replicas="2")
    assert "--replicas 1" in caught.value.fix


def test_the_report_tells_replicas_and_their_memory(tmp_path: Path) -> None:
    sources = photographs(tmp_path / "in", 8)
    run(tmp_path / "out", sources, replicas="2")
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert told["replicas"] == 2
    assert 0 < told["replica_memory_bytes"] < told["peak_memory_bytes"]
    assert told["smallest_batch_size"] == 3
    run(tmp_path / "one", sources)
    told = json.loads((tmp_path / "one" / "run.json").read_text())
    assert (told["replicas"], told["replica_memory_bytes"]) == (0, None)
