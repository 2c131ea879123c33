"""Where and how it is computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from cnnviz_cli.config import values
from cnnviz_cli.config.groups.flag import CLOSED, Flag

_DEVICE = r"^(auto|cpu|cuda(:[0-9]{1,3})?|mps)$"


class ComputingFields(BaseModel):
    """Where and how it is computed."""

    model_config = CLOSED

    seed: Annotated[int, Flag("Computation", "N")] = Field(
        0, ge=0, description="Where random draws start, together with each image's bytes."
    )
    max_memory: Annotated[float | None, Flag("Computation", "GIB", recorded=False)] = Field(
        None, gt=0, description="Memory for altered inputs at a time; unset takes a quarter of what is free."
    )
    device: Annotated[str, Flag("Computation", "auto|cpu|cuda|cuda:N|mps")] = Field(
        "auto", pattern=_DEVICE, description="Where to compute; auto takes an accelerator if there is one."
    )
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Flag("Computation")] = Field(
        "fp32", description="Arithmetic of the network; maps are computed in fp32 whatever this says."
    )
    memory_format: Annotated[Literal["auto", "channels_last", "contiguous"], Flag("Computation", recorded=False)] = (
        Field(
            "auto",
            description="How weights and inputs lie in memory; auto is channels_last unless the network's "
            "code turns out to need its own layout.",
        )
    )
    batch_size: Annotated[
        int | Literal["auto"], BeforeValidator(values.auto_or_count(1)), Flag("Computation", "auto|N", "-b")
    ] = Field("auto", description="Images that pass the network together; auto is 8, on an accelerator 32.")
    threads: Annotated[int | None, Flag("Computation", "N")] = Field(
        None, ge=1, description="CPU threads for the network; unset leaves the choice to torch."
    )
    workers: Annotated[
        int | Literal["auto"], BeforeValidator(values.auto_or_count(0)), Flag("Computation", "auto|N", recorded=False)
    ] = Field("auto", description="Processes that read and draw meanwhile; auto is one a core, 16 at most; 0 is none.")
    engine: Annotated[Literal["local", "ray"], Flag("Computation", recorded=False)] = Field(
        "local", description="Who computes: this machine, or the nodes of a Ray cluster (RAY_ADDRESS)."
    )
