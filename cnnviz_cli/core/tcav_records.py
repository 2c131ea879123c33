"""How a class depends on concepts that were named, as the manifest has it: over all images, and in each."""

from pydantic import Field

from cnnviz_cli.core.record_base import Record, StudyFindings, optional


class Estimate(Record):
    """A number with what is known of it. All to six digits."""

    value: float
    interval: tuple[float, float] = Field(description="In which it lies with 95 %.")
    random: tuple[float, float] = Field(description="Between which the middle 95 % of random directions lie.")
    p: float = Field(ge=0, le=1, description="Of random directions, and it, how many are as far out as it is.")
    corrected_p: float = Field(ge=0, le=1, description="By Holm, for all concepts and layers that have a score.")


class ConceptScore(Record):
    """A concept at a layer."""

    concept: str = Field(description="The name of its folder.")
    layer: str
    accuracy: float = Field(
        ge=0,
        le=1,
        description="How many images the direction tells apart that was fitted without them: the mean of both sides.",
    )
    share: Estimate | None = optional("Of the class's images, how many have a score that rises along the direction.")
    mean: Estimate | None = optional("The mean derivative of the score along the direction, of length 1.")
    magnitude: float | None = optional(
        "Sum |S+| / sum |S| over the derivatives S: what captum's documentation calls magnitude.", ge=0, le=1
    )
    refused: str | None = optional("Why it has no score.")


class TcavFound(StudyFindings):
    """Concepts that were named, tested for a class."""

    target: int = Field(ge=0, description="The class.")
    label: str
    images: int = Field(ge=1, description="Of the class.")
    against: str = Field(description="The name of the folder of images without the concepts.")
    rather_than: str | None = optional("The name of the folder that the concepts are told apart from instead.")
    cuts: int = Field(ge=1, description="Halves of that folder against the other half: random directions.")
    pool: str
    cav: str = Field(description="The regression that finds a direction.")
    penalty: float
    scores: list[ConceptScore] = Field(description="By concept, then by layer.")

    @property
    def lines(self) -> list[str]:
        found = []
        for score in self.scores:
            name = f"{score.concept}, {score.layer}"
            if score.share is None or score.mean is None:
                found.append(f"{name}: no score: {score.refused}")
                continue
            share = f"{100 * score.share.value:.0f} % of the images have a score that rises along it"
            mean = f"mean {score.mean.value:+.3g} (p {score.mean.corrected_p:.3g})"
            found.append(f"{name}: {share} (p {score.share.corrected_p:.3g}), {mean}")
        return found


class ConceptInImage(Record):
    """A concept at a layer, in one image. To six digits."""

    concept: str
    layer: str
    derivative: float = Field(description="Of the class's score along the concept's direction, of length 1.")
    decision: float = Field(description="Above 0 where the direction takes the image for one that shows the concept.")
