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


class ColumnRecord(Record):
    """One number of a measure."""

    name: str = Field(description="As `measures` of a figure has it.")
    measure: str
    title: str
    better: Literal["high", "low", "none"]
    chance: float | None = Field(description="What a map that says nothing gets, if that is known.")
    ranked: bool = Field(description="Whether it may order methods and be held against the controls.")
    curve: str | None = optional("What the curve of the same name is called in a chart.")
    alpha: float | None = optional("Krippendorff's alpha of the methods' order over images.")
    controls: tuple[float, float] | None = optional("The lowest and the highest mean of a control.")


class MethodRecord(Record):
    """A method that was judged."""

    family: str
    method: str
    title: str
    passes: int = Field(ge=0, description="Of the network, for one image and one target.")


class LeftOut(Record):
    """A method or a measure that was asked for and left out."""

    name: str
    why: str


class EvaluationHead(Record):
    """What of an evaluation is known before the first image; a journal has it, so that shards can be merged."""

    measures: list[MeasureRecord]
    columns: list[ColumnRecord]
    methods: list[MethodRecord]
    order_by: str = Field(description="The column that methods are in the order of; empty if none ranks.")
    left_out: list[LeftOut] = Field(default_factory=list)


class CellRecord(Record):
    """A row's number in a column."""

    mean: float
    error: float | None = optional("One standard error of the mean; absent with one number.")
    median: float | None = optional("Absent where there are more numbers than are kept.")
    count: int = Field(ge=1, description="Of numbers: one for each image and target that could be judged.")
    beats_controls: bool | None = optional("Whether it leaves the controls' band to the good side by one error.")


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


class AgreementOfMethods(Record):
    """How alike the methods' maps are: means over images, in the order of the rows."""

    names: list[str]
    rows: list[list[float | None]] = Field(description="Null where no image has both.")


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
