"""The parts of the manifest that are about the run, not about an image."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Literal

import torch

from cnnviz_cli import __version__
from cnnviz_cli.core.records import ModelRecord, Run, Tool
from cnnviz_cli.run.prepare import Prepared


def tool_record() -> Tool:
    """Versions of what made the pictures."""
    return Tool(
        cnnviz=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        torchvision=version("torchvision"),
        pillow=version("pillow"),
    )


def run_record(prepared: Prepared, status: Literal["ok", "partial", "interrupted"]) -> Run:
    """What was asked for."""
    settings = prepared.settings
    return Run(
        command=prepared.command,
        status=status,
        config=settings.as_json(),
        config_sha256=settings.config_sha256,
        device=prepared.device.type,
        precision=settings.precision,
        plan=prepared.cost,
    )


def model_record(prepared: Prepared) -> ModelRecord:
    """What was explained."""
    model = prepared.model
    return ModelRecord(
        name=model.name,
        weights=model.weights,
        weights_sha256=model.weights_sha256,
        num_classes=len(model.labels),
        preprocessing=model.preprocessing.as_json(),
    )


def device_name(device: torch.device) -> str:
    """The device as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
