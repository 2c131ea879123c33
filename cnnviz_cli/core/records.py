"""What the manifest says, field by field. Paths are relative, numbers finite, nothing depends on time or place."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Literal

from pydantic import Field, JsonValue

from cnnviz_cli.core.evaluation_records import AgreementRecord, ControlRecord, Evaluation, MarkedRecord
from cnnviz_cli.core.findings import Findings, ImageFindings
from cnnviz_cli.core.network_records import NetworkRecord, OutputRecord
from cnnviz_cli.core.panels import State
from cnnviz_cli.core.record_base import Record, optional
from cnnviz_cli.core.text import format_percent, join_terms

SCHEMA_VERSION: Literal[1] = 1

Json = dict[str, JsonValue]


class Prediction(Record):
    """One class and its probability; of a network with one score class 0 is no and class 1 is yes.

    Where the network gives no probabilities another number stands in their place.
    """

    index: int = Field(ge=0, description="Of the class.")
    label: str
    probability: float | None = Field(ge=0, le=1, description="Null where there is another number.")
    share: float | None = optional("How much of what the network saw it takes for this class.", ge=0, le=1)
    similarity: float | None = optional("Cosine similarity to the reference image.", ge=-1, le=1)
    value: float | None = optional("What the network returned, of a regression, to six digits.")
    unit: str | None = optional("Of the value, if one was given.")
    box: tuple[float, float, float, float] | None = optional(
        "Left, top, right and bottom of what was found, in pixels of the upright image."
    )
    rank: int | None = optional("Among all that was found, from 1, the likeliest.", ge=1)

    @property
    def title(self) -> str:
        """Its name in figures: two boxes of one class have different ones."""
        return self.label if self.rank is None else f"{self.label}, box {self.rank}"

    @property
    def figure(self) -> str:
        """The number, for people."""
        if self.share is not None:
            return f"{format_percent(self.share)} of the image"
        if self.similarity is not None:
            return f"{self.similarity:.3f}"
        if self.value is not None:
            return f"{self.value:.4g} {self.unit or ''}".strip()
        return "" if self.probability is None else format_percent(self.probability)

    @property
    def brief(self) -> str:
        """Label and number in as few letters as will do."""
        number = f"{self.probability:.2f}" if self.probability is not None else self.figure
        return f"{self.label} {number}".strip()

    @property
    def height(self) -> float:
        """The number as the share of a full bar, from 0 to 1."""
        return max(0.0, self.share or self.similarity or self.probability or 0.0)


class SingleSubject(Record):
    """A unit of the network: a layer, or a channel, class or direction of it."""

    layer: str | None = Field(default=None, description="Null where the unit belongs to no layer.")
    channel: int | None = optional("Of the layer.", ge=0)
    at: tuple[int, int] | Literal["centre"] | None = optional(
        "Row and column of one position of the channel's map, or its middle; absent where all count."
    )
    class_index: int | None = optional("Of the network's classes.", ge=0)
    label: str | None = optional("Of the class.")
    direction: str | None = optional("The name of a direction in the space of the layer's channels.")
    like: str | None = optional("The name of the image that the layer's maps are to resemble.")

    @property
    def name(self) -> str:
        """What it is called, which stands in a record's `source` where another has an image's path."""
        return " ".join(self._words({"class": " ".join(filter(None, [self._class, self.label]))}))

    @property
    def plain_name(self) -> str:
        """The name without that of a class, which labels decide."""
        return " ".join(self._words({"class": self._class}))

    @property
    def title(self) -> str:
        """What figures call it."""
        return self.label or self.name

    @property
    def _class(self) -> str:
        return "" if self.class_index is None else str(self.class_index)

    def _words(self, named: dict[str, str]) -> Iterator[str]:
        place = self.at if isinstance(self.at, str) or self.at is None else f"{self.at[0]},{self.at[1]}"
        parts = {"channel": self.channel, "at": place, **named, "direction": self.direction, "like": self.like}
        yield from filter(None, [self.layer])
        for word, part in parts.items():
            if part not in (None, ""):
                # The name of a direction may say itself that it is one.
                yield str(part) if str(part).startswith(word) else f"{word} {part}"


class Term(Record):
    """One of the objectives that are added up."""

    weight: float = Field(description="What it is multiplied by; a negative one takes away.")
    of: SingleSubject


class Subject(SingleSubject):
    """What of the network a record or a figure is about: a layer, or a channel, class or direction of it; or a sum."""

    terms: tuple[Term, ...] | None = optional("Of a sum, which is nothing else.")
    number: int | None = optional("Of several pictures of one unit, from 2; the first has none.", ge=2)

    @property
    def name(self) -> str:
        return self._numbered(self._joined("name") if self.terms else super().name)

    @property
    def plain_name(self) -> str:
        if self.terms:
            return self._numbered(" + ".join(f"{term.weight!r} x {term.of.plain_name}" for term in self.terms))
        return self._numbered(super().plain_name)

    @property
    def sha256(self) -> str:
        """The digest that stands in the place of a file's: of what it is, whatever that is called."""
        return sha256(self.plain_name.encode()).hexdigest()

    @property
    def title(self) -> str:
        """What figures call it, whichever of its pictures they show."""
        if self.terms:
            return self._joined("title")
        return self.label or super().name

    @property
    def folder(self) -> str:
        """The name without blanks, for folders."""
        return "-".join(self.name.split())

    def _joined(self, by: Literal["name", "title"]) -> str:
        return join_terms((term.weight, getattr(term.of, by)) for term in self.terms or ())

    def _numbered(self, name: str) -> str:
        return " ".join(filter(None, [name, f"number {self.number}" if self.number else ""]))


class Against(Record):
    """A folder of images that something was compared with."""

    name: str = Field(description="Of the folder.")
    images: int = Field(ge=1, description="That the network could be shown.")
    unread: int = Field(ge=0, description="Images that it could not be shown.")
    best: float | None = optional("What the objective comes to in that of them which it is highest in.")
    compared: int | None = optional("Of how many of them numbers were kept, where that is not all.", ge=1)
    sha256: str = Field(description="Of the names and the bytes of all of them.")


class ExamplePatch(Record):
    """A part of an image that a unit of the network answers strongly."""

    source: str = Field(description="The image's path below the folder.")
    sha256: str = Field(description="Of its file.")
    value: float = Field(description="Of the unit's map there, to six digits.")
    at: tuple[int, int] = Field(description="Row and column in the map.")
    box: tuple[float, float, float, float] = Field(
        description="Left, top, right and bottom of what that position sees, in pixels of the upright image."
    )


class Judgement(Record):
    """What another network makes of a painted picture: of the file, under that network's own preprocessing."""

    model: str
    weights: str
    weights_sha256: str
    index: int | None = optional("Of the class that was painted, among the judge's.", ge=0)
    probability: float | None = optional("Of that class.", ge=0, le=1)
    rank: int | None = optional("Of that class among all of the judge's, from 1.", ge=1)
    prediction: Prediction | None = Field(
        description="What it takes the picture for; null where its scores are not finite."
    )

    def brief(self, among: "Sequence[Judgement]") -> str:
        """``efficientnet_lite2 86 %, rank 1``; without a class what it takes the picture for. Of two judges `among`
        the others that are one network, the weights are named."""
        alike = sum(one.model == self.model for one in among) > 1
        name = f"{self.model} ({self.weights})" if alike else self.model
        if self.prediction is None:
            return f"{name}: no finite scores"
        if self.probability is None:
            return f"{name}: {self.prediction.label} {self.prediction.figure}"
        return f"{name} {format_percent(self.probability)}, rank {self.rank}"


class DreamRecord(Record):
    """How a painted picture came about, and how the network receives it: as it was written, in 8 bits, under the run's
    own preprocessing. So the file alone gives the same numbers."""

    objective: str = Field(description="What was climbed, in words.")
    start: Literal["noise", "image"]
    number: int = Field(ge=1, description="Of several pictures of one subject, from 1.")
    steps: int = Field(ge=0, description="In all sizes together.")
    frame: int | None = optional("Of several that zoom into the picture, from 1.", ge=1)
    score: float | None = Field(description="The objective, to six digits; null where it is not finite.")
    start_score: float | None = Field(description="In the noise or the image that it was painted from.")
    probability: float | None = optional("Of the class that it was painted for.", ge=0, le=1)
    rank: int | None = optional("Of that class among all, from 1.", ge=1)
    percentile: float | None = optional(
        "The share of the images in a folder that the score exceeds, of 100; equal ones count by half.", ge=0, le=100
    )
    against: Against | None = optional("That folder.")
    judged: list[Judgement] = Field(
        default_factory=list,
        exclude_if=lambda found: not found,
        description="What other networks make of it, under --judge.",
    )

    @property
    def among(self) -> str:
        """The percentile in words, empty where there is none."""
        if self.percentile is None or self.against is None:
            return ""
        count = self.against.images
        best = "" if self.against.best is None else f", best {self.against.best:#.3g}"
        return f"percentile {self.percentile:.3g} of {count} image{'s' * (count != 1)}{best}"


class Picture(Record):
    """A small file that was written for the report."""

    path: str = Field(description="Relative to the manifest, with forward slashes.")
    sha256: str
    width: int = Field(ge=1, description="In pixels.")
    height: int = Field(ge=1)


class Output(Record):
    """One figure that was written."""

    family: str = Field(description="features, saliency, deconv, gradcam, dream, overview, or evaluation.")
    method: str | None = Field(description="The method's name; null for a figure of several maps.")
    layer: str | None = Field(description="The layer that was read; null where none or several were.")
    subject: Subject | None = optional(
        "What of the network it shows, the same for every image; absent where it is about the image."
    )
    target: Prediction | None = Field(description="The class that was explained, if one was.")
    contrast: Prediction | None = Field(default=None, description="The class that it was told apart from, if any.")
    counterfactual: bool = Field(
        default=False,
        exclude_if=lambda answer: answer is False,
        description="Whether what speaks against the target was explained.",
    )
    path: str = Field(description="Relative to the manifest, with forward slashes.")
    sha256: str
    width: int
    height: int
    range: tuple[float, float] | None = Field(description="Lowest and highest value of the raw map.")
    scale: tuple[float, float] | None = Field(
        default=None,
        description="The raw values drawn in the first and in the last colour; null where no colour is a number.",
    )
    state: State
    array: str | None = optional("The key of its map in the record's arrays; absent where it is not kept.")
    arrays: dict[str, str] | None = optional(
        "Of a figure of several maps, by what they hold the keys of its arrays, where they are kept."
    )
    grey: Picture | None = optional(
        "Its map as a lossless grey WebP of 8 bits: 0 and 255 are the ends of `scale`, values beyond are cut. Under "
        "--report, of a map too large for a page to hold its numbers."
    )
    statistics: dict[str, float] = Field(default_factory=dict)
    verdict: str | None = optional("What came of it in one sentence, where that is what was asked for.")
    measures: dict[str, float] | None = optional("What measures say of the map, by column, to six digits.")
    undone: dict[str, str] | None = optional("Of columns and measures without a number, why.")
    curves: dict[str, list[float]] | None = optional("What measures draw, at equal steps from 0 to 1.")
    dream: DreamRecord | None = optional("Of a painted picture.")

    def judged_by(self, judged: "list[Judgement]") -> "Output":
        """The same painted picture, of which judges say this."""
        assert self.dream is not None
        return self.model_copy(update={"dream": self.dream.model_copy(update={"judged": judged})})

    examples: list[ExamplePatch] | None = optional(
        "Of a unit's sheet: the parts of images that excite the unit most, the strongest first."
    )


class Arrays(Record):
    """The raw float32 maps of one input: under --save-arrays all, under --report those of few values."""

    path: str = Field(description="Of the .npz file, relative to the manifest, with forward slashes.")
    sha256: str


class Window(Record):
    """The part of an image that is the network's input; with it, raw maps can be laid over the image."""

    size: tuple[int, int] = Field(description="Width and height of the network's input, in pixels.")
    box: tuple[float, float, float, float] = Field(
        description="Left, top, right and bottom of it, in pixels of the upright image; it may reach outside."
    )


class ImageRecord(Record):
    """One input, explained or failed."""

    source: str = Field(
        description="The path below the argument that named it, with forward slashes; of a unit its name."
    )
    subject: Subject | None = optional("The unit of the network that it is about; absent for an image.")
    sha256: str | None = Field(description="Of the file's bytes; null if they could not be read.")
    width: int | None = Field(description="Of the upright image, in pixels.")
    height: int | None
    status: Literal["ok", "failed"]
    error: str | None
    predictions: list[Prediction]
    truth: Prediction | None = Field(default=None, description="Its true class; null if unknown.")
    seen: Window | None = Field(default=None, description="What the network was shown; null if nothing.")
    mask_sha256: str | None = optional("Of the mask's file, if a region was drawn by hand.")
    value_range: tuple[float, float] | None = optional(
        "The values of the file that became 0 and 1; absent where 8 bits were taken as they are."
    )
    outputs: list[Output]
    thumbnail: Picture | None = optional(
        "The upright image, or what was painted of a unit, at most 128 pixels a side; under --report."
    )
    arrays: Arrays | None = None
    controls: list[ControlRecord] | None = optional("Maps that have never seen the network, judged beside.")
    agreement: AgreementRecord | None = optional("How alike the maps of the image's first target are.")
    annotation_sha256: str | None = optional("Of the file in which people have marked what the image shows.")
    marked: list[MarkedRecord] | None = optional("What of it the maps of each target are judged by.")
    findings: ImageFindings | None = optional("What a study of all images has found of this one.")

    @property
    def paths(self) -> list[str]:
        """All files that were written of it, relative to the manifest, in the order in which a journal lists them."""
        files: list[Output | Arrays | Picture | None] = [*self.outputs, self.arrays, self.thumbnail]
        files += [output.grey for output in self.outputs]
        return [one.path for one in files if one is not None]


class Table(Record):
    """A table of numbers that was written."""

    path: str = Field(description="Relative to the manifest, with forward slashes.")
    sha256: str


class Cost(Record):
    """Passes for each batch, and altered inputs for each image, by the plan; equal ones pass the network once."""

    forwards: int
    backwards: int
    variants: int = Field(description="Altered inputs or layers for each image.")
    at_most: bool = Field(
        default=False,
        exclude_if=lambda answer: answer is False,
        description="Whether some images may need fewer variants.",
    )


class Tool(Record):
    """Versions of what made the figures."""

    cnnviz: str
    python: str
    torch: str
    torchvision: str
    pillow: str


class Run(Record):
    """The command and its settings."""

    command: str
    status: Literal["ok", "partial", "interrupted"]
    config: Json
    config_sha256: str
    device: str
    precision: str
    plan: Cost
    truth_sha256: str | None = Field(default=None, description="Of the table that says what is true.")
    objective_sha256: str | None = optional("Of the image, the mask or the prompts that say what is explained.")
    spectrum_sha256: str | None = optional("Of the images whose mean spectrum painted pictures have.")


class ModelRecord(Record):
    """The model that was explained."""

    name: str
    weights: str
    weights_sha256: str
    repository: str | None = optional("Of the hub that the network is from, ORG/NAME; null of any other network.")
    commit: str | None = optional("Of that repository, in hexadecimal.")
    num_classes: int
    labels_sha256: str | None = Field(
        default=None, description="Of the file with the classes' names, if one was given."
    )
    preprocessing: Json
    network: NetworkRecord | None = optional()
    output: OutputRecord | None = optional()


class Confusion(Record):
    """The true class and the class that the network finds likeliest, where they differ."""

    truth: str
    truth_index: int
    predicted: str
    predicted_index: int
    count: int = Field(ge=1, description="Of images.")


class Accuracy(Record):
    """How often the network is right, of the images whose true class is known."""

    known: int = Field(ge=1, description="Images whose true class is known.")
    top1: int | None = Field(description="Whose likeliest class is the true one; null where classes go together.")
    top5: int | None = Field(
        description="Whose true class is among the five likeliest; null where there are no more than five."
    )
    present: int | None = optional("With multilabel: whose true class has at least one half.")
    confusions: list[Confusion] = Field(description="The most frequent ones, at most ten.")


class Summary(Record):
    """How many images there were, by status."""

    images: int
    ok: int
    failed: int
    outputs: int
    accuracy: Accuracy | None = optional("Where it is known what is true of some image.")


class Manifest(Record):
    """manifest.json, whole."""

    schema_version: Literal[1] = SCHEMA_VERSION
    tool: Tool
    run: Run
    model: ModelRecord
    images: list[ImageRecord]
    sheets: list[Output] | None = optional("Figures of all records together, at the top of the folder.")
    tables: list[Table] | None = optional("Tables of all records together.")
    evaluation: Evaluation | None = optional("What measures say of the maps, over all images.")
    findings: Findings | None = optional("What a study has found, of all images together.")
    sha256: str | None = optional(
        "Of everything else in the manifest, as JSON without blanks, its keys sorted; older ones lack it."
    )
    summary: Summary
