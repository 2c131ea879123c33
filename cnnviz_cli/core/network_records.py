"""What the manifest says of a network and of what it returns, told by trying."""

from typing import Literal

from pydantic import Field

from cnnviz_cli.core.record_base import Record


class NetworkRecord(Record):
    """What trial forwards have shown of the network, as far as it may change a figure."""

    memory_format: Literal["channels_last", "contiguous"] = Field(description="How weights and inputs lie in memory.")
    randomness: Literal["none", "seeded", "free"] = Field(
        description="Whether two forwards on one image differ: never; by the random draws, which start from the run's "
        "seed; or whatever the seed, so that the same command may give other bytes."
    )
    batching: Literal["independent", "coupled", "single"] = Field(
        description="Whether the other images of a batch change an image's output, or the network takes one at a time."
    )
    runs: dict[str, int] = Field(
        default_factory=dict, description="How often layers run in one forward that run several times."
    )
    kept_training: list[str] = Field(
        description="Modules that the network's own train() keeps in training mode; they were put in eval mode."
    )


class HeadRecord(Record):
    """A part of what the network returns that may hold scores."""

    name: str = Field(description="With dots, as --head takes it; empty where it is the whole output.")
    shape: list[int] = Field(description="For one image.")


class OutputRecord(Record):
    """What the network returns, told by trying or by the settings."""

    kind: Literal["scores", "maps", "boxes"]
    values: Literal["logits", "probabilities", "log-probabilities", "values"] | None = Field(
        description="What the numbers are; null of boxes."
    )
    exclusive: bool | None = Field(description="Whether probabilities add up to 1; null where there are none.")
    why: str = Field(description="How that was told, in words.")
    range: tuple[float, float] | None = Field(
        description="The lowest and the highest number in the trial inputs, to three digits; null where none was run."
    )
    head: str = Field(description="The part that is explained; empty where it is the whole output.")
    heads: list[HeadRecord]
