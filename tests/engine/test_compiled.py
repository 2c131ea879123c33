"""Compiled networks repeat the scores of the network itself, and where none can be had it runs as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from engine.test_stream import Noisy
from running import given_for
from torch import Tensor

from cnnviz_cli.core.needs import INPUT, GradientOver, Scores
from cnnviz_cli.engine import Plan, observe
from cnnviz_cli.engine.execution import Execution, Note, take_notes

NEED = Scores(Noisy(at=INPUT))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    take_notes()


@pytest.fixture
def real_compiler() -> None:
    torch._dynamo.reset()


def scores(net: torch.nn.Module, **how: bool) -> torch.Tensor:
    batch = tiny.pictures(1).float()
    execution = Execution(**how)  # type: ignore[arg-type]
    seen = observe(net, batch, Plan.of([NEED]), tiny.first_class, given=given_for(batch), execution=execution)
    return seen.evidence[NEED]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In the place of torch's compiler, which takes ten seconds, one that changes nothing: what it is asked to do, and
    how many inputs what it made is given."""
    done: list[str] = []

    def compile_nothing(net: torch.nn.Module, *, dynamic: bool, options: dict[str, bool]) -> Callable[[Tensor], Tensor]:
        assert not dynamic
        assert options == {"freezing": True}
        done.append(f"compile into {Path(os.environ['TORCHINDUCTOR_CACHE_DIR']).name}")

        def call(inputs: Tensor) -> Tensor:
            done.append(f"{len(inputs)} inputs")
            scores: Tensor = net(inputs)
            return scores

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return done


def assert_scores_are_repeated(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("cnnviz_cli.engine.stream.MOST_INPUTS", 2)  # 5 variants: two chunks, and one that stays eager
    net = tiny.build(tiny.Residual).float()
    expected = scores(net)
    first = scores(net, compile=True)
    (note,) = take_notes()
    assert not note.is_warning
    assert note.text.startswith("--compile: the network is compiled for 2 inputs of 12 x 12, in ")
    torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(scores(net, compile=True), first)
    assert take_notes() == []
    assert capfd.readouterr() == ("", "")
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_a_network_is_compiled_once_for_chunks_of_the_usual_size(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], calls: list[str]
) -> None:
    assert_scores_are_repeated(monkeypatch, capfd)
    # The first chunk is tried before it counts.
    assert calls == ["compile into inductor", *["2 inputs"] * 3, *["2 inputs"] * 2]


@pytest.mark.slow
@pytest.mark.usefixtures("real_compiler")
def test_a_compiled_network_repeats_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_scores_are_repeated(monkeypatch, capfd)
    assert any((tmp_path / "inductor").rglob("*.cpp"))


NO_COMPILER = "since there is no C++ compiler here (the variable CXX names one)"


def test_an_error_of_the_compiler_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = type("InvalidCxxCompiler", (Exception,), {})  # as torch calls it, and hands it on within another

    def refuse(*_arguments: object, **_how: object) -> None:
        raise type("BackendCompilerFailed", (Exception,), {"inner_exception": missing()})

    net = tiny.build(tiny.Residual).float()
    expected = scores(net)
    monkeypatch.setattr(torch, "compile", refuse)
    assert torch.equal(scores(net, compile=True), expected)
    assert take_notes() == [Note(f"--compile: the network runs uncompiled, {NO_COMPILER}", is_warning=True)]


@pytest.mark.slow
@pytest.mark.usefixtures("real_compiler")
def test_without_a_compiler_it_runs_as_it_is() -> None:
    from torch._inductor import config

    net = tiny.build(tiny.Residual).float()
    expected = scores(net)
    with config.patch({"cpp.cxx": (None, "/nonexistent/g++")}):
        found = scores(net, compile=True)
    assert torch.equal(found, expected)
    (note,) = take_notes()
    assert note.is_warning
    assert note.text.endswith(NO_COMPILER)


def test_other_scores_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny.build(tiny.Residual).float()
    monkeypatch.setattr(torch, "compile", lambda made, **_how: lambda x: made(x) * 1.01)
    expected = scores(net)
    assert torch.equal(scores(net, compile=True), expected)
    text = "--compile: the network runs uncompiled, since compiled it gives other scores"
    assert take_notes() == [Note(text, is_warning=True)]


def test_scores_that_are_not_numbers_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny.build(tiny.Residual).float()
    monkeypatch.setattr(torch, "compile", lambda made, **_how: made)
    weight = next(net.parameters())
    good = weight.detach().clone()
    weight.data.fill_(torch.nan)
    assert scores(net, compile=True).isnan().all()
    assert take_notes() == []
    weight.data.copy_(good)
    assert scores(net, compile=True).isfinite().all()
    assert [note.is_warning for note in take_notes()] == [False]


def test_what_has_gradients_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_how: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch, "compile", refuse)
    net, batch = tiny.build(tiny.Residual).float(), tiny.pictures(1).float()
    need = GradientOver(Noisy(at=INPUT))
    observe(net, batch, Plan.of([need]), tiny.first_class, given=given_for(batch), execution=Execution(compile=True))
    assert take_notes() == []
