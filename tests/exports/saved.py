"""Runs written by hand: records as a run would leave them, with a manifest and, where they have maps, their arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnviz_cli.core.records import (
    Arrays,
    Cost,
    ImageRecord,
    ModelRecord,
    Output,
    Prediction,
    Run,
    Summary,
    Tool,
    Window,
)
from cnnviz_cli.files.output.journal import to_compact_json
from cnnviz_cli.files.output.manifest import write_manifest
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.run.present import encode_arrays

CAT = Prediction(index=282, label="tiger cat", probability=0.625)
DOG = Prediction(index=0, label="tench", probability=0.25)

TOOL = Tool(cnnviz="0", python="3", torch="2", torchvision="0", pillow="0")
RUN = Run(
    command="gradcam", status="ok", config={}, config_sha256="", device="cpu", precision="fp32",
    plan=Cost(forwards=1, backwards=1, variants=0),
)  # fmt: skip
NET = ModelRecord(name="net", weights="of 2024", weights_sha256="", num_classes=1000, preprocessing={})


def output(path: str, **facts: Any) -> Output:
    """A figure of a map of Grad-CAM, but for what is given."""
    usual: dict[str, Any] = {
        "family": "gradcam", "method": "gradcam", "layer": "conv", "target": CAT, "path": path, "sha256": "1" * 64,
        "width": 20, "height": 10, "range": (0.0, 2.0), "scale": (0.0, 2.0), "state": "ok",
    }  # fmt: skip
    return Output(**{**usual, **facts})


def image(source: str, *outputs: Output, **facts: Any) -> ImageRecord:
    """An image of 8 by 6 pixels that the network saw whole, but for what is given."""
    usual: dict[str, Any] = {
        "source": source, "sha256": "2" * 64, "width": 8, "height": 6, "status": "ok", "error": None,
        "predictions": [CAT, DOG], "seen": Window(size=(8, 6), box=(0, 0, 8, 6)), "outputs": list(outputs),
    }  # fmt: skip
    return ImageRecord(**{**usual, **facts})


def failed(source: str, error: str = "the file is cut off") -> ImageRecord:
    return image(source, status="failed", error=error, predictions=[], seen=None, width=None, height=None, sha256=None)


def keep(root: Path, record: ImageRecord, arrays: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]) -> ImageRecord:
    """The record with these arrays beside its figures."""
    named = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
    path = f"{record.source}/arrays.npz"
    return record.model_copy(update={"arrays": Arrays(path=path, sha256=Sink(root).write(path, encode_arrays(named)))})


def save(root: Path, *records: ImageRecord, command: str = "gradcam", model: ModelRecord = NET, **config: Any) -> Path:
    """A folder with the manifest of these records."""
    sink = Sink(root)
    sink.open()
    bad = sum(record.status == "failed" for record in records)
    write_manifest(
        sink,
        [to_compact_json(record.model_dump(mode="json")) for record in records],
        tool=TOOL,
        run=RUN.model_copy(update={"command": command, "status": "partial" if bad else "ok", "config": config}),
        model=model,
        summary=Summary(
            images=len(records), ok=len(records) - bad, failed=bad, outputs=sum(len(one.outputs) for one in records)
        ),
    )
    return root
