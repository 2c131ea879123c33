"""What the manifest says of top images: for how many channels of which layers, and which of them nothing excites."""

from pydantic import Field

from cnnviz_cli.core.record_base import Record, StudyFindings
from cnnviz_cli.core.text import list_some

_NAMED = 8


class TopLayer(Record):
    """The channels of one layer."""

    layer: str
    channels: int = Field(ge=1, description="That images were looked for.")
    silent: list[int] = Field(description="Those of them that are above zero nowhere in the images.")
    scarce: int = Field(ge=0, description="Others of them that fewer images excite than were wanted.")

    def brief(self, wanted: int) -> str:
        """In words."""
        count = f"{self.channels} channel{'s' * (self.channels != 1)}"
        said = [f"{self.layer}: {count}"]
        if self.silent:
            named = list_some([str(one) for one in self.silent], _NAMED)
            said.append(f"{len(self.silent)} silent ({named})")
        if self.scarce:
            said.append(f"{self.scarce} with fewer than {wanted} images")
        return ", ".join(said)


class TopImagesFound(StudyFindings):
    """For each channel the images of a folder that excite it most. Where in them, the outputs of its record say."""

    wanted: int = Field(ge=1, description="Images for each channel.")
    projection: str = Field(
        description="How signals pass rectifiers on the way back; empty where nothing is projected."
    )
    layers: list[TopLayer] = Field(description="From the input up.")

    @property
    def lines(self) -> list[str]:
        return [one.brief(self.wanted) for one in self.layers]
