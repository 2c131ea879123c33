"""Networks whose threads a fork would lack, and programs that take no hooks, in runs that replicas would share."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from run.resuming import Listener, files_of, photographs, run, tiny_model
from torch import nn

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.engine.device import Footprint, measure_footprint
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.run import replica_plan, session
from cnnviz_cli.run.replica_plan import MIN_IMAGES, ReplicaPlan, check_threads, running_threads

pytestmark = [
    pytest.mark.usefixtures("tiny_network"),
    pytest.mark.skipif(sys.platform != "linux", reason="replicas are forked on Linux alone"),
]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    monkeypatch.setattr(replica_plan, "usable_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return photographs(tmp_path / "in", MIN_IMAGES)


@pytest.fixture
def threaded(tiny_network: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001  (it comes first)
    """The loaded network has a thread of its own, without which it would wait forever."""
    pool = ThreadPoolExecutor(1)

    def load(*arguments: Any, **named: Any) -> Any:
        model = tiny_model(*arguments, **named)
        model.net.register_forward_pre_hook(lambda *_about: pool.submit(print, end="").result())
        pool.submit(int).result()
        return model

    monkeypatch.setattr(session, "load_model", load)
    yield
    pool.shutdown()


@pytest.mark.usefixtures("threaded")
def test_a_network_with_threads_of_its_own_has_one_pipeline(tmp_path: Path, sources: list[Source]) -> None:
    listener, before = Listener(), torch.get_num_threads()
    outcome = run(tmp_path / "out", sources, listener, replicas="auto", workers="auto")
    assert outcome.summary.images == MIN_IMAGES
    assert (
        "one pipeline has all threads: loading the network started threads, which a replica would lack" in listener.said
    )
    assert torch.get_num_threads() == before
    run(tmp_path / "one", sources, replicas="1")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "one")


@pytest.mark.usefixtures("threaded")
def test_replicas_that_would_wait_forever_are_refused(tmp_path: Path, sources: list[Source]) -> None:
    with pytest.raises(UsageError, match="which a replica would lack") as caught:
        run(tmp_path / "out", sources, replicas="2")
    assert caught.value.where == "--replicas"


def test_threads_from_before_and_those_that_ended_are_no_hindrance() -> None:
    plan, end = ReplicaPlan(2, 1), threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        assert check_threads(plan, running_threads()) == ""
        assert check_threads(plan, running_threads() - {other.native_id or 0})
    finally:
        end.set()
        other.join()
    short = threading.Thread(target=int)
    earlier = running_threads()
    short.start()
    short.join()
    assert check_threads(plan, earlier) == ""


def test_the_threads_of_torch_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not Python's; a list of them as the system has it."""
    names: dict[str, str] = {}
    monkeypatch.setattr(replica_plan, "running_threads", lambda: frozenset({1, 2}))
    monkeypatch.setattr(replica_plan, "read_system_file", lambda path: names.get(path, ""))
    plan, everyone = ReplicaPlan(2, 1), running_threads() | {1, 2}
    for name, earlier, hinders in (
        ("python", everyone - {1, 2}, False),
        ("pt_autograd_0", everyone, True),
        ("PTThreadPool", everyone, False),
        ("PTThreadPool", everyone - {1}, True),
    ):
        names["/proc/self/task/1/comm"] = f"{name}\n"
        assert bool(check_threads(plan, earlier)) is hinders, name


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_footprint_of_torchscript_is_what_is_seen_of_it() -> None:
    item = torch.zeros(1, 3, 8, 8)
    program = torch.jit.script(tiny.Plain().eval())
    assert measure_footprint(program, program, item) == Footprint(item.nbytes, 0)
    wrapped = nn.Sequential(program, nn.Linear(5, 2))
    assert measure_footprint(wrapped, wrapped, item) == Footprint(item.nbytes, 2 * 4)
