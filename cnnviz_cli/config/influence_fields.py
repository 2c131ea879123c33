"""The settings of ``influence``: which images a network was trained with, and how many of them are shown."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from pydantic import BaseModel

from cnnviz_cli.config import values
from cnnviz_cli.config.fields import CLOSED_CONFIG, setting

INFLUENCE = "influence"
"""The command and its section of the settings."""

MOST_NEIGHBOURS, MOST_SUSPECTS = 100, 120

_influence = partial(setting, "Training images")


class InfluenceFields(BaseModel):
    """Which training images helped a network with an image, and which harmed."""

    model_config = CLOSED_CONFIG

    train: values.OptionalFile = _influence(
        None,
        "The images that the network was trained with: a folder with one folder for each class, with all below it, or "
        "an archive of such.",
        "DIR",
    )
    train_truth: values.OptionalFile = _influence(
        None, "True class of each training image: a .csv (file,label). Unset: the name of its folder.", "FILE"
    )
    neighbours: int = _influence(
        4, "How many helpful and how many harmful training images are shown of each image.", "N", ge=1,
        le=MOST_NEIGHBOURS,
    )  # fmt: skip
    suspects: int = _influence(
        24,
        "How many training images are shown whose own loss moves the last layer most: labels that may be wrong. 0 for "
        "none.",
        "N",
        ge=0,
        le=MOST_SUSPECTS,
    )


def influence_fields(settings: Any) -> InfluenceFields:
    """The section of the settings of a run."""
    return cast("InfluenceFields", settings.section(INFLUENCE))
