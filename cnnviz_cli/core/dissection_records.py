"""What the manifest says of a network dissection: of all images together, and of each."""

from pydantic import Field

from cnnviz_cli.core.record_base import Record, StudyFindings, optional
from cnnviz_cli.core.text import list_some


class ChannelOverlap(Record):
    """A channel, and how far what excites it and what is marked with a label lie over each other."""

    unit: int = Field(ge=0, description="The channel's number in its layer.")
    iou: float = Field(description="Intersection over union, each summed over all annotated images; to six digits.")


class ChanceRange(Record):
    """What is reached where images have each other's annotations, over all shuffles."""

    lowest: float
    highest: float


class DissectedLabel(Record):
    """A label, and what finds it in a layer."""

    label: str
    images: int = Field(ge=0, description="In which it is marked.")
    pixels: int = Field(ge=0, description="Of the network's inputs that are marked with it.")
    channels: list[ChannelOverlap] = Field(description="Those that overlap most with it, at most three, best first.")
    chance: ChanceRange | None = optional("What the best channel reaches by chance; absent without a shuffle.")
    detectors: int = Field(ge=0, description="Channels whose best label it is, from the limit on.")
    detectors_by_chance: float | None = optional("The mean number of these over all shuffles.")

    @property
    def beyond_chance(self) -> bool:
        """Whether the best channel overlaps with it by more than the best one does by chance, or that is not known."""
        best = self.channels[0].iou if self.channels else 0.0
        return best > (self.chance.highest if self.chance else 0.0)


class DissectedLayer(Record):
    """What the channels of a layer find."""

    layer: str
    channels: int = Field(ge=1, description="That were looked at.")
    detectors: int = Field(ge=0, description="Channels that are a detector of some label.")
    detectors_by_chance: float | None = optional("The mean number of these over all shuffles.")
    silent: int = Field(
        ge=0,
        description="Channels that are above their threshold nowhere in the annotated images, such as those whose "
        "highest value, where a bounded rectifier ends, is more frequent than the quantile allows.",
    )
    labels: list[DissectedLabel] = Field(description="Best found first.")

    @property
    def found(self) -> int:
        """Labels that some channel is a detector of."""
        return sum(one.detectors > 0 for one in self.labels)


class Dissection(StudyFindings):
    """Which channel finds which annotated thing, over all images."""

    annotations: str = Field(description="Name of the file or folder that has them.")
    annotated: int = Field(ge=0, description="Images with something marked, over which is summed.")
    quantile: float = Field(description="The share of a channel's values that its threshold is not exceeded by.")
    limit: float = Field(description="The intersection over union from which on a channel is a detector.")
    shuffles: int = Field(ge=0, description="How often images got each other's annotations.")
    layers: list[DissectedLayer]

    @property
    def lines(self) -> list[str]:
        """See `StudyFindings`."""
        return [_line(one) for one in self.layers]


def _line(one: DissectedLayer) -> str:
    chance = "" if one.detectors_by_chance is None else f" (by chance {one.detectors_by_chance:,.1f})"
    labels = f"{one.found} of {len(one.labels)} labels"
    many = f"{one.detectors:,} of {one.channels:,} channels are detectors{chance}, of {labels}"
    found = [label for label in one.labels if label.detectors]
    best = [f"{label.label} {label.channels[0].iou:.2f}" for label in found if label.beyond_chance]
    if best:
        said = "best found" if one.detectors_by_chance is None else "found beyond chance"
        return f"{one.layer}: {many}; {said}: {list_some(best, 3)}"
    return f"{one.layer}: {many}{'; none beyond what channels reach by chance' if found else ''}"


class FoundThing(Record):
    """A channel that is above its threshold in an image."""

    layer: str
    unit: int = Field(ge=0)
    label: str = Field(description="That the channel is the best one for, or a detector of.")
    detector: bool = Field(description="Whether it is a detector of the label, over all images.")
    iou: float = Field(description="Intersection over union in this image; 0 where the label is not marked in it.")


class DissectedImage(Record):
    """What was found in one image."""

    marked: list[str] = Field(description="The labels that are marked in it.")
    found: list[FoundThing] = Field(
        description="Channels above their thresholds in it: best ones of labels, and detectors; at most 24, those with "
        "the largest overlap in this image first."
    )
    undone: str | None = optional("Why its annotation does not count, if there is one.")
