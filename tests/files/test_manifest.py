"""The journal, the manifest streamed from it, and the run report."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from sealing import sealed

from cnnviz_cli.core.records import (
    Arrays,
    Cost,
    ImageRecord,
    Manifest,
    ModelRecord,
    Output,
    Prediction,
    Run,
    Summary,
    Tool,
)
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.output.file_names import is_output_folder
from cnnviz_cli.files.output.journal import Journal
from cnnviz_cli.files.output.manifest import manifest_schema, write_manifest
from cnnviz_cli.files.output.run_report import RunReport, peak_memory, write_run_report
from cnnviz_cli.files.output.sink import Sink

TOOL = Tool(cnnviz="0.1.0", python="3.11", torch="2", torchvision="0", pillow="12")
RUN = Run(
    command="all",
    status="partial",
    config={"zeta": 1, "alpha": [1, {"b": None, "a": "ü"}]},
    config_sha256="0" * 64,
    device="cpu",
    precision="fp32",
    plan=Cost(forwards=1, backwards=2, variants=0),
)
MODEL = ModelRecord(name="m", weights="w", weights_sha256="1" * 64, num_classes=3, preprocessing={"size": [2, 3]})
CAT = Prediction(index=1, label='tiger\u2028cat "ü"\n', probability=0.1 + 0.2)


def record(number: int, *, outputs: int = 1) -> ImageRecord:
    return ImageRecord(
        source=f"cats/{number}.png",
        sha256="2" * 64,
        width=3,
        height=4,
        status="ok",
        error=None,
        predictions=[CAT],
        outputs=[
            Output(
                family="saliency",
                method=None,
                layer=None,
                target=CAT,
                path=f"cats/{number}.png/saliency.{index}.png",
                sha256="3" * 64,
                width=5,
                height=6,
                range=(-1e-30, 1 / 3),
                state="ok",
                statistics={"b": 1.5, "a": 2},
            )
            for index in range(outputs)
        ],
        arrays=Arrays(path=f"cats/{number}.png/arrays.npz", sha256="4" * 64),
    )


FAILED = ImageRecord(
    source="x.png", sha256=None, width=None, height=None, status="failed", error="the file is empty",
    predictions=[], outputs=[],
)  # fmt: skip


def sink_at(root: Path) -> Sink:
    sink = Sink(root)
    sink.open()
    return sink


def summary_of(records: list[ImageRecord]) -> Summary:
    return Summary(
        images=len(records),
        ok=sum(r.status == "ok" for r in records),
        failed=sum(r.status == "failed" for r in records),
        outputs=sum(len(r.outputs) for r in records),
    )


def written(root: Path, records: list[ImageRecord]) -> bytes:
    sink = sink_at(root)
    with Journal(sink, "manifest.jsonl") as journal:
        journal.write_header({"a": 1})
        lines = [journal.append(item).record for item in records]
    write_manifest(sink, lines, tool=TOOL, run=RUN, model=MODEL, summary=summary_of(records))
    return (root / "manifest.json").read_bytes()


@pytest.mark.parametrize("records", [[], [FAILED], [record(1), FAILED, record(2, outputs=2), record(3, outputs=0)]])
def test_the_streamed_manifest_is_the_dumped_one_with_a_line_for_each_image(
    tmp_path: Path, records: list[ImageRecord]
) -> None:
    streamed = written(tmp_path, records)
    whole = Manifest(tool=TOOL, run=RUN, model=MODEL, images=records, summary=summary_of(records))
    content = sealed(whole.model_dump(mode="json"))
    digest = content["sha256"]
    lines = [
        json.dumps(image, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for image in content["images"]
    ]
    content["images"] = [f"<{number}>" for number in range(len(lines))]
    dumped = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    for number, line in enumerate(lines):
        dumped = dumped.replace(f'"<{number}>"', line)
    assert streamed == dumped.encode()
    assert Manifest.model_validate_json(streamed) == whole.model_copy(update={"sha256": digest})
    jsonschema.Draft202012Validator(manifest_schema()).validate(json.loads(streamed))
    assert str(tmp_path).encode() not in streamed


def test_the_schema_is_one_and_refuses_what_is_not_declared(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    content = json.loads(written(tmp_path, [record(1)]))
    content["images"][0]["host"] = "here"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(manifest_schema()).validate(content)


def test_output_folders_are_known_by_what_they_hold(tmp_path: Path) -> None:
    sink_at(tmp_path / "killed").place("manifest.0-of-2.jsonl").touch()
    assert is_output_folder(tmp_path / "killed")
    for name, records in (("none", []), ("some", [record(n) for n in range(40)])):
        out = tmp_path / name
        written(out, records)
        assert is_output_folder(out)
        (out / "manifest.jsonl").unlink()
        assert is_output_folder(out)
        written(out, records)
        (out / "manifest.json").unlink()
        assert is_output_folder(out)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "manifest.json").write_text('{"name": "a web application", "icons": []}')
    (foreign / "manifest.jsonl").write_text('{"audio_filepath": "x.wav", "duration": 1}\n')
    assert not is_output_folder(foreign)
    assert not is_output_folder(tmp_path)
    for place in ("some/x.png/overview.png", "foreign/y.png", "z.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"x")
    assert [source.name for source in find_images([tmp_path], recursive=True)] == ["foreign/y.png", "z.png"]


def test_the_run_report_holds_what_the_manifest_may_not(tmp_path: Path) -> None:
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    seconds = {"decode": 0.5, "compute": 1.23456}
    report = RunReport(
        start,
        start + timedelta(seconds=4),
        images=12,
        resumed=2,
        seconds=seconds,
        core_seconds={"compute": 2.4},
        device="cpu",
        batch=8,
        smallest_batch=4,
    )
    write_run_report(sink_at(tmp_path), report)
    content = json.loads((tmp_path / "run.json").read_bytes())
    assert content["started"] == "2026-01-02T03:04:05+00:00"
    assert content["images_per_second"] == 2.5
    assert content["resumed"] == 2
    assert content["seconds"] == {"decode": 0.5, "compute": 1.235}
    assert content["core_seconds"] == {"compute": 2.4}
    assert content["host"]["device"] == "cpu"
    assert (content["batch_size"], content["smallest_batch_size"]) == (8, 4)
    assert content["peak_memory_bytes"] == pytest.approx(peak_memory(), rel=0.5)
    write_run_report(sink_at(tmp_path), replace(report, memory_beside=2**40))
    assert json.loads((tmp_path / "run.json").read_bytes())["peak_memory_bytes"] > 2**40


def test_peak_memory_is_what_the_kernel_calls_the_high_water_mark() -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("Linux tells it a second way, other systems do not")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    assert peak_memory() == pytest.approx(int(line.split()[1]) * 1024, rel=0.05)
