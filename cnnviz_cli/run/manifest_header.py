"""The parts of the manifest that are about the run, not about an image."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from cnnviz_cli import __version__
from cnnviz_cli.core.network_records import HeadRecord, NetworkRecord, OutputRecord
from cnnviz_cli.core.records import Cost, ModelRecord, Run, Subject, Tool
from cnnviz_cli.files.images.region_masks import MaskSource
from cnnviz_cli.files.output.resume import Input, RunHeader
from cnnviz_cli.models.inspect.outputs import NetworkOutput
from cnnviz_cli.run.annotations import RunAnnotations
from cnnviz_cli.run.explain import Explainer
from cnnviz_cli.run.identity import config_digest, figure_settings
from cnnviz_cli.run.kept_maps import KeptExplainer
from cnnviz_cli.run.session import Session
from cnnviz_cli.tasks.spec import default_task


def tool_record() -> Tool:
    """Versions of what made the figures."""
    return Tool(
        cnnviz=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        torchvision=version("torchvision"),
        pillow=version("pillow"),
    )


def run_header(explainer: Explainer) -> RunHeader:
    """What a run that explains images is about."""
    header = build_header(explainer.session, explainer.whole_cost)
    if isinstance(explainer, KeptExplainer):
        header = replace(header, identity={**header.identity, "digest of the maps": explainer.run.digest})
    return replace(header, evaluation=explainer.judge.head()) if explainer.judge else header


def build_header(session: Session, cost: Cost) -> RunHeader:
    """What the run is about, and under what a later one may take its records over."""
    tool, masks = tool_record(), session.question.masks
    about = RunHeader(
        _identity(session, tool), tool, run_record(session, cost), model_record(session), session.batch_size
    )
    # Of one file for all the identity has the digest.
    if masks and masks.sha256 is None:
        about = replace(about, holds=partial(has_same_mask, masks))
    annotations = session.question.annotations
    if annotations and annotations.sha256 is None:
        about = replace(about, holds=partial(has_same_annotation, annotations, about.holds))
    return about


def has_same_mask(masks: MaskSource, source: Input, record: bytes) -> bool:
    """Whether a record was made with the mask that the image has now."""
    known = json.loads(record).get("mask_sha256")
    return known is not None and not isinstance(source, Subject) and masks.digest_of(source) == known


def has_same_annotation(
    annotations: RunAnnotations, holds: Callable[[Input, bytes], bool] | None, source: Input, record: bytes
) -> bool:
    """Whether a record was made with what is marked in the image now, and `holds`, if that is asked, too."""
    if isinstance(source, Subject) or (holds is not None and not holds(source, record)):
        return False
    known: str | None = json.loads(record).get("annotation_sha256")
    return annotations.digest_of(source) == known


def _identity(session: Session, tool: Tool) -> dict[str, Any]:
    """Everything that changes figures: no paths, nothing that only makes a run faster, and not the device."""
    truths, annotations = session.question.truths, session.question.annotations
    return {
        "command": session.command,
        **figure_settings(session.settings),
        "digest of the weights": session.model.weights_sha256,
        "digest of the labels": session.question.labels.sha256,
        "digest of the truths": truths.sha256 if truths else None,
        "digest of what the objective names": session.question.digest,
        **({"digest of the annotations": annotations.sha256} if annotations else {}),
        "preprocessing": session.model.preprocessing.as_json(),
        "version of cnnviz": tool.cnnviz,
        "version of torch": tool.torch,
        "version of torchvision": tool.torchvision,
        "version of pillow": tool.pillow,
    }


def settings_digest(session: Session) -> str:
    """The digest of the command and of every setting that changes figures, see `run.identity.config_digest`."""
    return config_digest(session.command, session.settings.as_json())


def run_record(session: Session, cost: Cost) -> Run:
    settings, truths = session.settings, session.question.truths
    return Run(
        command=session.command,
        status="ok",
        config=settings.as_json(),
        config_sha256=settings.config_sha256,
        device=session.device.type,
        precision=settings.precision,
        plan=cost,
        truth_sha256=truths.sha256 if truths else None,
        objective_sha256=session.question.digest,
    )


def model_record(session: Session) -> ModelRecord:
    model, runs = session.model, session.model.layers.runs
    return ModelRecord(
        name=model.name,
        weights=model.weights,
        weights_sha256=model.weights_sha256,
        repository=model.repository or None,
        commit=model.commit or None,
        num_classes=len(model.labels),
        labels_sha256=session.question.labels.sha256 or None,
        preprocessing=model.preprocessing.as_json(),
        output=output_record(model.layers.returned, session.settings.task),
        network=NetworkRecord(**model.facts.as_json(), runs={name: len(found) for name, found in runs.items()}),
    )


def output_record(returned: NetworkOutput, task: str) -> OutputRecord | None:
    """What the network returns; None where nothing of it is known."""
    if returned.kind is None:
        return None
    numbers = returned.kind != "boxes"
    values = returned.values if default_task(returned.kind, task).probabilities else "values"
    low, high = returned.bounds or (math.nan, math.nan)
    return OutputRecord(
        kind=returned.kind,
        values=values if numbers else None,
        exclusive=returned.exclusive if numbers and values in ("probabilities", "log-probabilities") else None,
        why=returned.why,
        # To three digits, which no processor's rounding moves.
        range=(float(f"{low:.3g}"), float(f"{high:.3g}")) if math.isfinite(low) and math.isfinite(high) else None,
        head=returned.head,
        heads=[HeadRecord(name=one.name, shape=list(one.shape)) for one in returned.heads],
    )


def device_name(device: torch.device) -> str:
    """The device as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
