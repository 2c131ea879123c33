"""A run inside the test's process: what it does when something goes wrong on the way."""

from __future__ import annotations

import gc
import importlib
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import ExitCode, MemoryShortError, OutputError, Terminated
from cnnviz_cli.core.records import ImageRecord, Manifest
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.models.load.loaded_model import LoadedModel
from cnnviz_cli.run import Outcome
from cnnviz_cli.run.explain import Explainer

pytestmark = pytest.mark.usefixtures("networks_once")

local_run = importlib.import_module("cnnviz_cli.run.local_run")
reading = importlib.import_module("cnnviz_cli.run.image_data")
preparation = importlib.import_module("cnnviz_cli.run.session")
SAMPLES = Path(__file__).parents[2] / "sample_images"


class Heard(Reporter):
    """A reporter that remembers."""

    def __init__(self, on_done: Callable[[int], None] = lambda _count: None) -> None:
        self.warned: list[str] = []
        self.records: list[ImageRecord] = []
        self.ended = 0
        self._on_done = on_done

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def done(self, record: ImageRecord) -> None:
        self.records.append(record)
        self._on_done(len(self.records))

    def end(self) -> None:
        self.ended += 1


def run(out: Path, heard: Heard, command: str = "gradcam", *, force: bool = False, **settings: Any) -> Outcome:
    flags = {(name,): value for name, value in {"output": str(out), "workers": "0", **settings}.items()}
    loaded = load_settings(command, flags, None, {})
    return local_run.execute(command, loaded, find_images([SAMPLES], recursive=False), heard, force=force)


def manifest_of(out: Path) -> Manifest:
    return Manifest.model_validate_json((out / "manifest.json").read_bytes())


@pytest.fixture
def altered(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[nn.Module], None]], None]:
    """Have the bundled network changed after loading."""
    genuine = importlib.import_module("cnnviz_cli.models.load.loaded_model").load_model

    def alter(change: Callable[[nn.Module], None]) -> None:
        def loaded(*arguments: Any, **named: Any) -> LoadedModel:
            model = genuine(*arguments, **named)
            change(model.net)
            return model

        monkeypatch.setattr(preparation, "load_model", loaded)

    return alter


def memory_for(images: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device that holds so many images; the list tells the batches that were tried."""
    genuine, tried = Explainer.explain_batch, []

    def observe(net: nn.Module, batch: torch.Tensor, *rest: Any, **named: Any) -> Any:
        tried.append(len(batch))
        if len(batch) > images:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return genuine(net, batch, *rest, **named)

    monkeypatch.setattr(Explainer, "explain_batch", observe)
    return tried


def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, heard = Heard(), Heard()
    run(tmp_path / "plain", plain, batch_size="8")
    tried = memory_for(2, monkeypatch)
    assert run(tmp_path / "short", heard, batch_size="8").status == "ok"
    assert tried == [5, 2, 2, 1]
    assert heard.warned == ["out of memory with a batch of 5; continuing with batches of 2"]
    report = json.loads((tmp_path / "short" / "run.json").read_text())
    assert (report["batch_size"], report["smallest_batch_size"]) == (8, 2)
    assert [r.source for r in heard.records] == [r.source for r in plain.records]
    for ours, theirs in zip(heard.records, plain.records, strict=True):
        assert ours.predictions[0].label == theirs.predictions[0].label
        assert ours.predictions[0].probability == pytest.approx(theirs.predictions[0].probability, abs=1e-5)


def test_memory_that_holds_no_image_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = memory_for(0, monkeypatch)
    with pytest.raises(MemoryShortError, match="one image") as caught:
        run(tmp_path / "out", Heard(), batch_size="8")
    assert caught.value.code == ExitCode.DEVICE
    assert tried == [5, 2, 1]


@pytest.mark.parametrize(
    ("kind", "text"), [(MemoryError, "x"), (RuntimeError, "DefaultCPUAllocator: not enough memory: you tried ...")]
)
def test_the_processors_memory_errors_are_known_too(
    kind: type[Exception], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def observe(*_arguments: Any, **_named: Any) -> Any:
        raise kind(text)

    monkeypatch.setattr(Explainer, "explain_batch", observe)
    with pytest.raises(MemoryShortError):
        run(tmp_path / "out", Heard(), batch_size="1")


def test_another_runtime_error_is_a_bug_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(*_arguments: Any, **_named: Any) -> Any:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(Explainer, "explain_batch", observe)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        run(tmp_path / "out", Heard())


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Terminated])
def test_an_interrupted_run_keeps_what_it_finished(signal: type[BaseException], tmp_path: Path) -> None:
    def stop(count: int) -> None:
        if count == 2:
            raise signal

    heard, out = Heard(stop), tmp_path / "out"
    outcome = run(out, heard)
    assert (outcome.status, outcome.terminated) == ("interrupted", signal is Terminated)
    manifest = manifest_of(out)
    assert manifest.run.status == "interrupted"
    assert [image.source for image in manifest.images] == ["camera.png", "chelsea.png"]
    assert heard.ended == 1
    assert not [problem for problem in verify(out) if problem.failure]


def test_precision_and_threads_reach_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, seen, threads = preparation.observe, [], []

    def observe(*arguments: Any, **named: Any) -> Any:
        seen.append((named["execution"].precision, named["execution"].fold))
        return genuine(*arguments, **named)

    monkeypatch.setattr(preparation, "observe", observe)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    run(tmp_path / "out", Heard(), precision="bf16", threads="1", fold=False)
    assert (set(seen), threads) == ({("bf16", False)}, [1])
    assert manifest_of(tmp_path / "out").run.precision == "bf16"


def test_repeatable_kernels_are_asked_for(tmp_path: Path) -> None:
    switches = [(torch.backends.cudnn, "benchmark", False), (torch.backends.cudnn, "deterministic", True)]
    switches += [(torch.backends.cudnn, "allow_tf32", False), (torch.backends.cuda.matmul, "allow_tf32", False)]
    before = [getattr(place, name) for place, name, _ in switches]
    try:
        for place, name, wanted in switches:
            setattr(place, name, not wanted)
        run(tmp_path / "out", Heard())
        assert [getattr(place, name) for place, name, _ in switches] == [wanted for *_, wanted in switches]
    finally:
        for (place, name, _), value in zip(switches, before, strict=True):
            setattr(place, name, value)


def test_scores_that_are_not_finite_fail_the_image_by_name(tmp_path: Path, altered: Any) -> None:
    altered(lambda net: net.classifier.weight.fill_(float("nan")))
    out = tmp_path / "out"
    outcome = run(out, Heard())
    assert (outcome.status, outcome.summary.failed) == ("partial", 5)
    for image in manifest_of(out).images:
        assert "not finite" in (image.error or "")
        assert image.width is not None


def test_a_map_without_evidence_is_named_in_the_manifest_and_on_stderr(tmp_path: Path, altered: Any) -> None:
    # Every map of the last layer is >= 0 (ReLU6), so a class with negative weights has nothing that speaks for it.
    altered(lambda net: net.classifier.weight[0].fill_(-1))
    heard, out = Heard(), tmp_path / "out"
    run(out, heard, target="0")
    for image in manifest_of(out).images:
        assert [output.state for output in image.outputs] == ["negative"]
        assert (out / image.outputs[0].path).exists()
    assert len(heard.warned) == 5
    assert all("all evidence is against it" in text for text in heard.warned)


def test_a_run_that_fails_leaves_no_manifest_that_would_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(out, Heard())
    genuine = Sink.write

    def write(self: Sink, relative: str, data: bytes) -> str:
        if relative.startswith("chelsea.png/"):
            raise OutputError("No space left on device", where=relative)
        return genuine(self, relative, data)

    monkeypatch.setattr(Sink, "write", write)
    with pytest.raises(OutputError):
        run(out, Heard(), force=True, palette="viridis")
    assert not (out / "manifest.json").exists()
    assert len((out / "manifest.jsonl").read_text().splitlines()) == 2  # the header and one image


def test_one_batchs_photographs_are_gone_before_the_next_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, alive, most = reading.read_image, [], []

    def read_image(source: Source, *how: Any) -> Any:
        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        photo = genuine(source, *how)
        alive.append(weakref.ref(photo.image))
        return photo

    monkeypatch.setattr(reading, "read_image", read_image)
    run(tmp_path / "out", Heard(), batch_size="2")
    assert most == [0, 1, 0, 1, 0]


def test_statistics_are_those_of_the_layer(tmp_path: Path) -> None:
    out = tmp_path / "out"
    heard = Heard()
    flags = {("output",): str(out), ("workers",): "0", ("features", "layer"): ["stages.0"]}
    local_run.execute(
        "features",
        load_settings("features", flags, None, {}),
        find_images([SAMPLES / "camera.png"], recursive=False),
        heard,
    )
    (output,) = heard.records[0].outputs
    assert set(output.statistics) == {"dead_share", "max", "mean"}
    assert output.range is None or output.range[0] < output.range[1]
    assert json.loads((out / "manifest.json").read_text())["images"][0]["outputs"][0]["layer"] == "stages.0"


def test_numbers_that_overflow_are_named_and_not_recorded(tmp_path: Path) -> None:
    out, heard = tmp_path / "out", Heard()
    flags = {("output",): str(out), ("workers",): "0", ("saliency", "method"): ["lrp"]}
    flags |= {("saliency", "biases"): "nothing", ("saliency", "composite"): "epsilon"}
    sources = find_images([SAMPLES / "chelsea.png"], recursive=False)
    assert local_run.execute("saliency", load_settings("saliency", flags, None, {}), sources, heard).status == "ok"
    (output,) = heard.records[0].outputs
    assert (output.state, output.range, output.statistics) == ("nonfinite", None, {})
    assert "overflowed" in heard.warned[0]
