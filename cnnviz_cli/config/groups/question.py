"""Which class is explained, and against what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from cnnviz_cli.config import values
from cnnviz_cli.config.groups.flag import CLOSED, Flag
from cnnviz_cli.tasks.spec import objective_usage


class QuestionFields(BaseModel):
    """Which class is explained, and against what."""

    model_config = CLOSED

    target: Annotated[
        values.one_or_more(Annotated[str | int, BeforeValidator(values.target)]),  # type: ignore[valid-type]
        Flag("What to explain", "TARGET", "-t"),
    ] = Field(
        ("top1",),
        description="Class to explain: topK (the K likeliest), predicted, true (see --truth), an index, a name or a "
        "part of one. Repeatable, or with commas.",
    )
    contrast: Annotated[str | int | None, BeforeValidator(values.class_or_none), Flag("What to explain", "CLASS")] = (
        Field(
            None,
            description="Explain what tells the target from this class, which may be predicted or true: the difference "
            "of the two scores.",
        )
    )
    counterfactual: Annotated[bool, Flag("What to explain")] = Field(
        False, description="Explain what speaks against the target: minus its score."
    )
    score: Annotated[Literal["logit", "probability"], Flag("What to explain")] = Field(
        "logit", description="What the score of a class is: what the network returns, or the class's probability."
    )
    multilabel: Annotated[bool, Flag("What to explain")] = Field(
        False, description="Classes do not exclude each other: each has a probability by itself (sigmoid)."
    )
    objective: Annotated[str, Flag("What to explain", "OBJECTIVE")] = Field(
        "auto",
        description=f"What is explained: {objective_usage()}. By default what the network's output is for.",
    )
    region: Annotated[
        Path | None,
        BeforeValidator(values.path_or_none, json_schema_input_type=str | None),
        Flag("What to explain", "FILE|DIR"),
    ] = Field(
        None,
        description="With segment: explain the class within this mask (white is inside) instead of where the network "
        "sees it; a folder holds a mask for each picture, of the same name.",
    )
    embedding: Annotated[Literal["auto", "features", "output"], Flag("What to explain")] = Field(
        "auto",
        description="With similarity: compare what the last linear layer reads (features) or what the network returns.",
    )
    min_score: Annotated[float | None, Flag("What to explain", "SCORE")] = Field(
        None,
        ge=0,
        le=1,
        description="With box: how likely a box has to be to count, instead of the network's own limit.",
    )
    labels: Annotated[
        Path | None,
        BeforeValidator(values.path_or_none, json_schema_input_type=str | None),
        Flag("What to explain", "FILE"),
    ] = Field(None, description="Names of the classes: .txt (one a line), .json, or .csv (index,name).")
    truth: Annotated[str | None, Flag("What to explain", "FILE|folder")] = Field(
        None,
        description="What is true of each picture: a .csv (file,label), or folder, where its folder has the "
        "name of its class.",
    )
