"""Running cnnviz inside the test's process, with or without a run that really runs."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cnnviz_cli
from cnnviz_cli.cli.main import main
from cnnviz_cli.core.records import Cost, ImageRecord, Output, Prediction, Summary
from cnnviz_cli.models.load.loaded_model import load_model
from cnnviz_cli.models.spec.catalog import model_names


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]

_LOADED: dict[str, Any] = {}


def load_once(load: Callable[..., Any], name: str, weights: str, **how: Any) -> Any:
    """Of a network that is the same each time, what this process has loaded already: no run changes a network."""
    known = name in ("nets:classifier", "nets:templates", *model_names())
    if not known or not weights.startswith(("DEFAULT", "random:")):
        return load(name, weights, **how)
    key = repr((name, weights, {about: value for about, value in how.items() if about != "reporter"}))
    if key not in _LOADED:
        _LOADED[key] = load(name, weights, **how)
    return _LOADED[key]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings from outside, a wide screen, a folder of its own, and the signal handlers as they were."""
    for name in [name for name in os.environ if name.startswith("CNNVIZ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("cnnviz_cli.cli.main._debug", False)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def cnnviz(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line, in this process alone: of so few images, processes that read and draw take longer to start.

    A network is loaded once, and a shard waits for no other, since none is at work."""
    loaders = [importlib.import_module(f"cnnviz_cli.run.{name}") for name in ("session", "dry_run")]
    waiting = [importlib.import_module(f"cnnviz_cli.run.{name}") for name in ("looking", "scales")]

    def run(*arguments: str | Path) -> Result:
        with monkeypatch.context() as patch:
            for module in loaders:
                if module.load_model is load_model:
                    patch.setattr(module, "load_model", partial(load_once, load_model))
            for module in waiting:
                patch.setattr(module, "_START_SECONDS", 0.0)
                patch.setattr(module, "_POLL_SECONDS", 0.01)
            if arguments[:1] != ("config",):  # which tells of the environment
                patch.setenv("CNNVIZ_WORKERS", "0")
            code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run


def record(source: str, *, pictures: int = 2, error: str | None = None) -> ImageRecord:
    """An image as a run would record it."""
    prediction = Prediction(index=282, label="tiger cat", probability=0.391)
    outputs = [
        Output(
            family="gradcam",
            method="gradcam",
            layer=None,
            target=prediction,
            path=f"{source}/{number}.png",
            sha256="0" * 64,
            width=1,
            height=1,
            range=(0.0, 1.0),
            state="ok",
        )
        for number in range(pictures)
    ]
    return ImageRecord(
        source=source,
        sha256=None,
        width=1,
        height=1,
        status="failed" if error else "ok",
        error=error,
        predictions=[] if error else [prediction],
        outputs=[] if error else outputs,
    )


@dataclass
class FakeRun:
    """Stands in for `cnnviz_cli.run`: remembers what it was asked for, and ends as the test wants."""

    status: str = "ok"
    terminated: bool = False
    missing: Any = None
    records: list[ImageRecord] = field(default_factory=lambda: [record("a.png")])
    images: int | None = None
    raises: BaseException | None = None
    settings: Any = None
    sources: Any = None
    how: Any = None

    def execute(self, _command: str, settings: Any, sources: Any, reporter: Any, **how: Any) -> SimpleNamespace:
        self.settings, self.sources, self.how = settings, sources, how
        if self.raises:
            raise self.raises
        reporter.begin(len(self.records))
        for finished in self.records:
            reporter.done(finished)
        reporter.end()
        failed = sum(r.status == "failed" for r in self.records)
        images = self.images or len(self.records)
        outputs = sum(len(r.outputs) for r in self.records)
        return SimpleNamespace(
            status=self.status,
            terminated=self.terminated,
            summary=Summary(images=images, ok=images - failed, failed=failed, outputs=outputs),
            manifest=settings.output / "manifest.json",
            first=self.records[:20],
            seconds=1.25,
            done_before=0,
            mistakes=[],
            evaluation=None,
            findings=None,
            about_all=(),
            missing=self.missing,
        )

    def describe_run(self, _command: str, settings: Any, sources: Any, _reporter: Any) -> SimpleNamespace:
        self.settings, self.sources = settings, sources
        return SimpleNamespace(
            inputs=[source.name for source in sources],
            plan_lines=["one forward"],
            cost=Cost(forwards=1, backwards=2, variants=0),
            outputs=["a.png/gradcam.{target}.png"],
        )


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRun:
    """A run that computes nothing, and a picture ``a.png`` to give it."""
    fake = FakeRun()
    monkeypatch.setattr(cnnviz_cli, "run", fake, raising=False)
    (tmp_path / "a.png").touch()
    return fake
