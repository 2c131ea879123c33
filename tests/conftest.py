"""Hypothesis without a stop-watch (the machine may be busy), with the same examples on every run and worker.

No garbage is looked for among the tests themselves: there are ten thousand, they stay, and a search takes a second.

Nothing is forced to the disk: ten milliseconds for each file, half of the time of a run of small images. What a process
wrote outlives it anyhow; that it is forced, and when, is what run/test_durability.py and files/test_sink.py are about.

And Ctrl-C in force: a shell starts what goes on in the background with SIGINT ignored, which the processes that tests
start would inherit, and then no test of Ctrl-C could pass.
"""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

gc.disable()  # until all tests are collected


def pytest_collection_finish() -> None:
    """Leave what was collected out of every later search for garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()


SLOWEST = (
    "test_docs.py", "run/test_replicas.py", "run/test_evaluation.py", "methods/test_laws.py", "models/test_zoo.py",
    "cli/test_judges.py", "run/test_objectives.py", "test_api.py", "run/test_workers.py", "run/test_real_pictures.py",
    "measures/test_laws.py", "measures/test_known_patch.py", "engine/test_compiled.py", "run/test_kills.py",
    "test_site.py", "run/test_shared_scale.py", "cli/test_dream_clusters.py", "cli/test_network_facts.py",
    "models/test_checkpoint.py", "test_files_crossed.py", "engine/test_boxes.py", "engine/test_relevance.py",
    "models/test_backbone.py", "engine/test_regions.py", "run/test_nothing.py", "test_figures_page.py",
)  # fmt: skip
"""The modules that take longest. They are begun first, so that no worker waits for the others at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, places = Path(__file__).parent, {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(here).as_posix(), len(places)))


settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

# Commands started by tests read and draw by themselves, unless a test is about the processes that do it.
os.environ["CNNVIZ_WORKERS"] = "0"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _flush(fd: int) -> None:
    """What stands for `os.fsync`: a descriptor that is closed is an error still."""
    os.fstat(fd)


os.fsync = os.fdatasync = _flush
