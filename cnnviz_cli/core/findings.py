"""What a study has found of a folder of images, as the manifest has it: of all of them, and of each.

A study adds one optional member to each class below, whose model lies in `core/<study>_records.py`.
"""

from pydantic import Field

from cnnviz_cli.core.concept_records import ConceptsFound, ConceptsOfImage
from cnnviz_cli.core.dissection_records import DissectedImage, Dissection
from cnnviz_cli.core.influence_records import InfluenceRecord, TrainingFindings
from cnnviz_cli.core.record_base import Record, StudyFindings, optional
from cnnviz_cli.core.tcav_records import ConceptInImage, TcavFound
from cnnviz_cli.core.top_images_records import TopImagesFound


class UnseenImage(Record):
    """An image that could not be shown to the network."""

    source: str
    why: str


class Seen(Record):
    """Images that a study has shown to the network."""

    name: str = Field(description="Of them together: of a folder its name; empty of the images that were named.")
    images: int = Field(ge=0, description="That could be shown.")
    unseen: int = Field(default=0, ge=0, description="That could not.")
    examples: list[UnseenImage] | None = optional("The first of those that could not, at most ten.")
    sha256: str = Field(description="Of the names and the bytes of all of them.")


class Findings(Record):
    """What a study has found, over all images."""

    study: str = Field(description="Its name.")
    seen: list[Seen] = Field(description="What was shown to the network; the images that were named first.")
    concepts: ConceptsFound | None = optional("Concepts of the images.")
    influence: TrainingFindings | None = optional("Training images, and how they were held against the others.")
    tcav: TcavFound | None = optional("How a class depends on concepts that were named.")
    top_images: TopImagesFound | None = optional("For each channel the images that excite it most.")
    dissect: Dissection | None = optional("Which channel finds which annotated thing.")

    @property
    def lines(self) -> list[str]:
        """What is said of it when the run ends."""
        return [line for one in self.members for line in one.lines]

    @property
    def unseen(self) -> Seen | None:
        """Of the images that were named: how many were seen, if some could not be."""
        return next((one for one in self.seen if not one.name and one.unseen), None)

    @property
    def members(self) -> list[StudyFindings]:
        """The members that are there, in the order of their fields."""
        found = (getattr(self, name) for name in type(self).model_fields)
        return [one for one in found if isinstance(one, StudyFindings)]


class ImageFindings(Record):
    """What a study has found of one image, or of one unit of the network."""

    concepts: ConceptsOfImage | None = optional("What concepts add to the score of a class.")
    influence: list[InfluenceRecord] | None = optional("Of each class that it was asked for, the training images.")
    tcav: list[ConceptInImage] | None = optional("By layer and concept how the image's score moves along it.")
    dissect: DissectedImage | None = optional("What is marked in it, and which channels find that.")
