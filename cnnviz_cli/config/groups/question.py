"""Which class is explained, and against what."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from cnnviz_cli.config import values
from cnnviz_cli.config.groups.flag import CLOSED, Flag


class QuestionFields(BaseModel):
    """Which class is explained, and against what."""

    model_config = CLOSED

    target: Annotated[
        values.one_or_more(Annotated[str | int, BeforeValidator(values.target)]),  # type: ignore[valid-type]
        Flag("What to explain", "TARGET", "-t"),
    ] = Field(("top1",), description="Class to explain: topK (the K likeliest), an index, or a name. Repeatable.")
    contrast: Annotated[str | int | None, BeforeValidator(values.class_or_none), Flag("What to explain", "CLASS")] = (
        Field(None, description="Explain what tells the target from this class: the difference of the two scores.")
    )
    counterfactual: Annotated[bool, Flag("What to explain")] = Field(
        False, description="Explain what speaks against the target: minus its score."
    )
