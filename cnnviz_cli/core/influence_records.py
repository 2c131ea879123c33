"""What a manifest says of training images: which of them helped and harmed with an image, and which are suspect."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cnnviz_cli.core.record_base import Record, StudyFindings, optional
from cnnviz_cli.core.text import format_percent

ASKED_FOR = {"likeliest": "the likeliest class", "true": "the true class", "chosen": "the chosen class"}
"""Why an image is asked for a class, in words."""


class InfluentialImage(Record):
    """A training image and what it does to the loss of an explained one.

    ``value`` is ``residuals`` x ``features``. Digits beyond the ninth are rounding.
    """

    source: str = Field(description="The path below --train, with forward slashes.")
    sha256: str = Field(description="Of its file.")
    class_index: int = Field(ge=0, description="That is true of it.")
    label: str
    value: float = Field(description="Its influence: positive where it helped, negative where it harmed.")
    share: float = Field(ge=0, le=1, description="Of all help, or of all harm.")
    residuals: float = Field(description="The dot product of both images' errors, p - y.")
    features: float = Field(
        description="The dot product of both images' features, with 1 for the bias if there is one."
    )
    pull: float = Field(ge=-1, le=1, description="The cosine of both images' errors.")
    likeness: float = Field(ge=-1, le=1, description="The cosine of both images' features.")
    same: bool = Field(
        default=False,
        exclude_if=lambda answer: answer is False,
        description="Whether its file is that of the explained image, byte for byte.",
    )
    copies: int | None = optional("How many training images have its bytes and its class; absent if it is one.", ge=2)
    contradicted: bool = Field(
        default=False,
        exclude_if=lambda answer: answer is False,
        description="Whether a training image with its bytes has another class.",
    )


class InfluenceRecord(Record):
    """What training images do to the loss of an image, for one class."""

    class_index: int = Field(ge=0, description="That the loss is asked for.")
    label: str
    probability: float = Field(ge=0, le=1, description="Of that class.")
    asked: Literal["likeliest", "true", "chosen"] = Field(description="Why for that class.")
    helping: int = Field(ge=0, description="Training images of positive influence.")
    harming: int = Field(ge=0, description="Training images of negative influence.")
    help: float = Field(description="The sum of all positive influences, to six digits.")
    harm: float = Field(description="The sum of all negative influences, to six digits.")
    helpful: list[InfluentialImage] = Field(description="The most helpful first.")
    harmful: list[InfluentialImage] = Field(description="The most harmful first.")


class SuspectImage(Record):
    """A training image that moves the last layer much by itself."""

    source: str = Field(description="The path below --train, with forward slashes.")
    sha256: str = Field(description="Of its file.")
    class_index: int = Field(ge=0, description="That is said to be true of it.")
    label: str
    probability: float = Field(ge=0, le=1, description="Of that class.")
    likeliest_index: int = Field(ge=0, description="The class that the network finds likeliest.")
    likeliest: str
    likeliest_probability: float = Field(ge=0, le=1)
    value: float = Field(
        description="Its influence on itself: the squared length of its gradient; where classes do not exclude each "
        "other, of the loss of its class alone."
    )
    copies: int | None = optional("How many training images have its bytes and its class; absent if it is one.", ge=2)
    contradicted: bool = Field(
        default=False,
        exclude_if=lambda answer: answer is False,
        description="Whether a training image with its bytes has another class.",
    )


class TrainingFindings(StudyFindings):
    """The training images of a run, and by what they were held against the explained ones."""

    name: str = Field(description="Of the folder, without the path to it.")
    images: int = Field(ge=1, description="That were shown to the network and have a class.")
    unlabelled: int = Field(ge=0, description="Of no class that the network has; they were left out.")
    copies: int = Field(ge=0, description="Images that have bytes and class of another one before.")
    contradicted: int = Field(ge=0, description="Files that occur with several classes.")
    classes: int = Field(ge=1, description="Classes that occur.")
    right: int = Field(ge=0, description="Images whose class the network finds likeliest.")
    layer: str = Field(description="The last layer.")
    bias: bool = Field(description="Whether it has one.")
    loss: Literal["cross-entropy", "binary cross-entropy"]
    suspects: list[SuspectImage] = Field(description="The highest influence on itself first.")

    @property
    def lines(self) -> list[str]:
        """How many training images there are, how many the network is right about, and which is the most suspect."""
        found = [
            f"{self.name}: {self.images} training images of {self.classes} classes, "
            f"{format_percent(self.right / self.images)} of them classified as labelled"
        ]
        if self.contradicted:
            found.append(f"{self.contradicted} of their files occur with several classes")
        wrong = next((one for one in self.suspects if one.likeliest_index != one.class_index), None)
        if wrong is not None:
            found.append(f"most against its label: {wrong.source}, {wrong.label}, looks like {wrong.likeliest}")
        return found
