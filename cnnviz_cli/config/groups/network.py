"""Which network is explained, and where its weights come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from cnnviz_cli.config.groups.flag import CLOSED, Flag


class NetworkFields(BaseModel):
    """Which network is explained, and where its weights come from."""

    model_config = CLOSED

    model: Annotated[str, Flag("Model", "NAME", "-m")] = Field(
        "efficientnet_lite0", description="Network to explain; cnnviz models lists them."
    )
    weights: Annotated[str, Flag("Model", "SPEC")] = Field(
        "DEFAULT", description="DEFAULT, a published name (IMAGENET1K_V1), none, random:SEED, or FILE.pth|.safetensors."
    )
    weights_mirror: Annotated[str | None, Flag("Model", "URL", recorded=False)] = Field(
        None, description="Where weight files are fetched from instead of the publisher's address."
    )
    offline: Annotated[bool, Flag("Model", recorded=False)] = Field(
        False, description="Never use the network; weights that are not on this machine are an error."
    )
