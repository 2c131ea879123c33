"""What the manifest has of concepts: what recurs in a folder of images, and what each of it adds in each image."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cnnviz_cli.core.record_base import Record, StudyFindings, optional

How = Literal["exact", "sobol"]
"""How it was found out what a concept adds: as its share of a linear head's logit, or by Sobol's indices."""

DESIGNS = 32
"""Designs by which Sobol's indices are estimated, as in CRAFT: so many times two more than concepts pass what comes
after the layer of each image."""


class ConceptExample(Record):
    """A part of an image that has much of a concept."""

    source: str
    box: tuple[float, float, float, float] = Field(
        description="Left, top, right and bottom, in pixels of the upright image."
    )
    value: float = Field(
        description="How much of the concept it has, beside the row that had most of it when the concept was found."
    )


class ConceptImportance(Record):
    """What each concept adds to one class, in the mean over the images that it was explained in."""

    index: int = Field(ge=0)
    label: str
    images: int = Field(ge=1)
    adds: list[float] = Field(description="By the concepts' numbers, to six digits.")
    rest: float | None = optional("What no concept explains of the class's score, in the mean.")


class Concept(Record):
    """One concept."""

    number: int = Field(ge=1, description="As figures have it, and --direction concepts.npz:N.")
    color: str
    name: str | None = optional("As --concept-names has it.")
    classes: list[str] = Field(description="The classes that it alone would give, at most three, the strongest first.")
    importance: float = Field(description="What it adds in the mean over all images.")
    share: float = Field(description="Its root mean square weight over the rows, of that of all concepts.")
    examples: list[ConceptExample]

    @property
    def title(self) -> str:
        return self.name or ", ".join(self.classes) or f"concept {self.number}"


class CountCurve(Record):
    """The relative error for each number of concepts that was tried."""

    counts: list[int]
    errors: list[float]


class BasisRecord(Record):
    """The concepts of an earlier run that were looked for."""

    name: str = Field(description="Of the file.")
    sha256: str
    error: float = Field(description="Relative, over the rows that it was made from.")
    rows: int


class ConceptsFound(StudyFindings):
    """Concepts of a folder of images."""

    layer: str
    dictionary: Literal["nmf", "sae"]
    rows: int = Field(ge=1, description="That were factorised, or are described in an earlier basis.")
    of: Literal["crops", "positions"] = Field(description="What a row is.")
    share: float | None = optional("Of the input's shorter side that a crop has.")
    error: float = Field(description="||V - U H|| / ||V|| over the rows.")
    seed: int | None = optional("Of the training of an autoencoder.")
    curve: CountCurve | None = optional("Where the number of concepts was found at the knee.")
    basis: BasisRecord | None = optional("Whose concepts these are, if an earlier run's.")
    sha256: str = Field(description="Of concepts.npz.")
    how: How
    explained: int = Field(ge=0, description="Images in which what concepts add was found.")
    score: float = Field(description="Of the explained classes, in the mean over the images.")
    bias: float | None = optional("Of the explained classes, in the mean.")
    rest: float | None = optional("What no concept explains of the score, in the mean.")
    concepts: list[Concept]
    by_class: list[ConceptImportance]
    unexplained: list[ConceptExample] = Field(description="The rows that the concepts explain least.")

    @property
    def lines(self) -> list[str]:
        """What is said when the run ends."""
        head = f"{len(self.concepts)} concepts of {self.rows:,} {self.of}, relative error {self.error:.3f}"
        if self.basis is not None:
            head += f"; {self.basis.error:.3f} in the images of {self.basis.name}"
        order = sorted(self.concepts, key=lambda one: (-one.importance, one.number))
        unit = "" if self.how == "exact" else " of what moves the score"
        sign = "+" if self.how == "exact" else ""
        said = [f"{one.number} {one.title} {one.importance:{sign}.2f}{unit}" for one in order[:3]]
        if self.rest is not None:
            said.append(f"not explained {self.rest:+.2f}")
        return [head, "; ".join(said)]


class ConceptsOfImage(Record):
    """What concepts add to the score of one class in one image."""

    index: int = Field(ge=0)
    label: str
    score: float
    adds: list[float] = Field(
        description="By the concepts' numbers: of the score, or their shares of what moves it, to six digits."
    )
    effects: list[float] | None = optional("How the score changes as each comes in, where shares have no sign.")
    bias: float | None = optional("Of the class.")
    rest: float | None = optional("What no concept explains of the score.")
    without: float | None = optional("The score with every concept taken away, where shares do not add up to it.")
    error: float = Field(description="Relative, over the image's positions.")


class ConceptFacts(Record):
    """What concepts.npz says of its arrays."""

    format: Literal[1]
    dictionary: Literal["nmf", "sae"]
    layer: str = Field(max_length=1000)
    model: str = Field(max_length=1000)
    weights: str = Field(max_length=1000)
    weights_sha256: str = Field(max_length=64)
    size: tuple[int, int] = Field(description="Height and width of the network's input.")
    head: str | None = Field(max_length=1000, description="The layer that a linear head pools and weighs.")
    of: Literal["crops", "positions"]
    share: float | None
    rows: int = Field(ge=1)
    error: float = Field(ge=0)
    seed: int
    names: list[str | None] = Field(max_length=4096)
    classes: list[list[str]] = Field(max_length=4096)
    colors: list[str] = Field(max_length=4096)
