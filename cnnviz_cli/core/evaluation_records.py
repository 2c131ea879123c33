"""What the manifest says of judged maps: of an image's controls, and of all images together."""

from typing import Literal

from pydantic import Field, JsonValue

from cnnviz_cli.core.record_base import Record, optional


class ControlRecord(Record):
    """A map that has never seen the network, judged beside the methods' for one target of an image."""

    name: str
    target: str | None = Field(description="The class that it was judged for; null where nothing has a name.")
    measures: dict[str, float] = Field(description="By column, to six digits.")
    undone: dict[str, str] | None = optional("Why a column, or a measure, has no number.")
    curves: dict[str, list[float]] | None = optional("What measures draw, at equal steps from 0 to 1.")


class MarkedRecord(Record):
    """What people have marked in an image that its maps for one target are judged by."""

    target: str | None = Field(description="The class; null where nothing has a name.")
    labels: list[str] = Field(description="Of the objects that count, each once; of some there may be none.")
    of_class: bool = Field(description="Whether they are called what the class is; else all objects count.")


class MarkedSummary(Record):
    """By what images' maps were judged, of what people have marked: how many images and targets each."""

    of_class: int = Field(ge=0, description="By the objects of the class that is explained.")
    of_all: int = Field(ge=0, description="By all objects of the image, since none is called what the class is.")
    none: int = Field(ge=0, description="By nothing: there is no annotation, or nothing that counts in it.")
    labels: list[str] = Field(description="Of the objects of the class, each once, at most a hundred.")


class AgreementRecord(Record):
    """How alike the maps of one image are: the rank correlations of each two, over 14 x 14 cells."""

    maps: list[str] = Field(description="The figures of the maps, by path.")
    rows: list[list[float | None]] = Field(description="Symmetric; null where a map is the same everywhere.")


class MeasureRecord(Record):
    """A measure by which maps were judged."""

    name: str
    title: str
    paper: str
    options: dict[str, JsonValue] = Field(description="That were in force.")
    faithful: bool | None = optional("Whether it judges how the network reacts where a map says that it should.")


class ColumnRecord(Record):
    """One number of a measure."""

    name: str = Field(description="As `measures` of a figure has it.")
    measure: str
    title: str
    better: Literal["high", "low", "none"]
    chance: float | None = Field(description="What a map that says nothing gets, if that is known.")
    ranked: bool = Field(description="Whether it may order methods and be held against the controls.")
    curve: str | None = optional("What the curve of the same name is called in a chart.")
    limit: float | None = optional("A method whose mean is not on the good side of it is marked.")
    mark: str | None = optional("What the mark says of such a method.")
    chance_in: str | None = optional("The column whose mean is what a map that says nothing gets.")
    error: str | None = optional("The column that says how far off the number of one image may be.")
    note: str | None = optional("What its ends mean, where that wants to be explained.")
    alpha: float | None = optional("Krippendorff's alpha of the methods' order over images.")
    controls: tuple[float, float] | None = optional("The lowest and the highest mean of a control.")


class MethodRecord(Record):
    """A method that was judged."""

    family: str
    method: str
    title: str
    passes: int = Field(ge=0, description="Of the network, for one image and one target.")
    own_means: list[str] | None = optional("Measures that fill what they take away as the method itself does.")
    run: str | None = optional("Of several finished runs judged together, whose method it is.")


class LeftOut(Record):
    """A method or a measure that was asked for and left out."""

    name: str
    why: str


class MosaicPlan(Record):
    """How images are composed to mosaics, in which methods are asked for the class of each."""

    measure: str = Field(description="That reads them.")
    most: int = Field(ge=1, description="Sets of images, at most.")
    sure: float = Field(description="How probable an image's class has to be, at least.")
    cell: Literal["full", "small"] = Field(
        description="Whether an image keeps the size that the network gets it in, or is halved."
    )
    undone: str | None = optional("Why there are none, whatever the images are.")


class CascadePlan(Record):
    """That maps are followed while a network's weights are shuffled from the top down."""

    measure: str = Field(description="That follows them.")
    stages: int = Field(ge=1, description="At most.")
    alike: str = Field(description="The curve of how alike magnitudes are to the untouched map's.")
    signed: str = Field(description="The same with signs.")


class JudgedRun(Record):
    """One of several finished runs that were judged together."""

    name: str = Field(description="As rows have it, and the folder of its own results.")
    model: str
    weights: str
    weights_sha256: str
    images: int = Field(ge=0, description="That were judged of it, whether or not the others have them.")
    controls: str = Field(
        description="The run whose controls its methods are held against: the first of the same network, asked the "
        "same question."
    )


class EvaluationHead(Record):
    """What of an evaluation is known before the first image; a journal has it, so that shards can be merged."""

    measures: list[MeasureRecord]
    columns: list[ColumnRecord]
    methods: list[MethodRecord]
    order_by: str = Field(description="The column that methods are in the order of; empty if none ranks.")
    left_out: list[LeftOut] = Field(default_factory=list)
    mosaics: MosaicPlan | None = optional("If a measure reads mosaics.")
    cascade: CascadePlan | None = optional("If a measure follows one.")
    runs: list[JudgedRun] | None = optional("Several finished runs, judged together.")


class MosaicMap(Record):
    """What was found of a method's maps, or a control's, in the four arrangements of a mosaic."""

    family: str | None = Field(description="Null of a control.")
    method: str = Field(description="The method, or the control's name.")
    layer: str | None
    measures: dict[str, list[float | None]] = Field(
        description="By column of each image, in the order of `of`: the mean over its four places, to nine digits."
    )
    undone: dict[str, str] | None = optional("Why a column has no number of an image: the first reason.")


class MosaicRecord(Record):
    """Four images of different classes as one input, in four arrangements: each image is once in each place."""

    of: list[str] = Field(description="The images' paths, in their places from left to right, row by row.")
    classes: list[int] = Field(description="The likeliest of each image, which is asked for.")
    labels: list[str]
    sha256: str = Field(description="Of the digests of the images' files, in their places, and of the size.")
    size: tuple[int, int] = Field(description="Height and width of the input.")
    path: str | None = optional("The figure that shows it.")
    maps: list[MosaicMap] = Field(description="Of the methods, then of the controls.")


class MosaicsFound(Record):
    """All mosaics of a run, or why there are none."""

    mosaics: list[MosaicRecord] = Field(default_factory=list)
    undone: str = ""


class ControlDifference(Record):
    """By how much a method differs from a control, in the images that have both."""

    control: str
    mean: float = Field(description="Of the method's number less the control's.")
    error: float | None = optional("One standard error of it; absent with one image, or one mosaic.")


class CellRecord(Record):
    """A row's number in a column."""

    mean: float
    error: float | None = optional("One standard error of the mean; absent with one image, or one mosaic.")
    median: float | None = optional("Absent where there are more numbers than are kept.")
    count: int = Field(ge=1, description="Of numbers: one for each image and target that could be judged.")
    clusters: int | None = optional(
        "Of the images, or mosaics, that they come from, where that is fewer: errors are clustered by them.", ge=1
    )
    nearest_control: ControlDifference | None = optional("The control that is hardest to tell it from.")
    beats_controls: bool | None = optional(
        "Whether it is better than every control by one standard error of their differences."
    )


class RowRecord(Record):
    """A method on a layer, or a control, over all images."""

    family: str | None = Field(description="Null of a control.")
    method: str = Field(description="The method, or the control's name.")
    title: str
    layer: str | None
    passes: int | None = Field(description="Of the network, for one image and one target; null of a control.")
    measures: dict[str, CellRecord]
    curves: dict[str, list[float]] = Field(default_factory=dict, description="Means, at equal steps from 0 to 1.")
    undone: dict[str, str] = Field(
        default_factory=dict, description="Of columns and measures without any number, why: the first reason."
    )
    marks: list[str] | None = optional("What a reader has to know of its numbers.")
    run: str | None = optional("Of several finished runs judged together, which; of controls the first of their kind.")


class AgreementOfMethods(Record):
    """How alike the methods' maps are: means over images, in the order of the rows."""

    names: list[str]
    rows: list[list[float | None]] = Field(description="Null where no image has both.")


class ImageLeftOut(Record):
    """An image that not all of several runs have judged maps of."""

    source: str
    missing: list[str] = Field(description="The runs that have none.")


class Evaluation(Record):
    """All images' maps judged: the means by method and column, in the order of the leaderboard."""

    images: int = Field(ge=0, description="That were judged.")
    cases: int = Field(ge=0, description="Images and targets, of which each counts as one.")
    measures: list[MeasureRecord]
    columns: list[ColumnRecord]
    methods: list[RowRecord] = Field(description="The best by `order_by` first.")
    controls: list[RowRecord]
    agreement: AgreementOfMethods | None = optional()
    order_by: str
    tell_apart: int | None = optional("How many images would tell the first two methods apart, at two standard errors.")
    left_out: list[LeftOut]
    mosaics: list[MosaicRecord] | None = optional("Images side by side, if a measure reads mosaics.")
    marked: MarkedSummary | None = optional("By what maps were judged, of what people have marked.")
    runs: list[JudgedRun] | None = optional("Several finished runs, judged together.")
