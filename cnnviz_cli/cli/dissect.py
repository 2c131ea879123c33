"""dissect: which channel of a network finds which annotated thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnviz_cli.cli.study import build_study
from cnnviz_cli.core.errors import UsageError

if TYPE_CHECKING:
    from cnnviz_cli.config.load import LoadedSettings


def build(command: str, summary: str) -> Any:
    return build_study(command, summary, _check)


def _check(loaded: LoadedSettings) -> str:
    """What annotations there are is looked at before the network is loaded; a table is read then."""
    from cnnviz_cli.config.dissect_fields import DISSECT, dissect_fields
    from cnnviz_cli.files.annotations.folders import open_annotations

    path = dissect_fields(loaded.settings).annotations
    if path is None:
        raise UsageError(
            "dissect needs annotations: what is marked in the images",
            where="--annotations",
            fix="Name a .json of COCO, a .csv of boxes, or a folder of masks or .xml files: --annotations FILE|DIR",
        )
    open_annotations(path)
    return DISSECT
