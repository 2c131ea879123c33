"""What is said once of a network's output, and how to correct it."""

from __future__ import annotations

from collections.abc import Iterator

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.text import visible
from cnnviz_cli.models.load import LoadedModel
from cnnviz_cli.tasks.spec import default_task

_PLURAL = {"scores": "scores", "maps": "maps of scores"}


def output_notes(settings: Settings, model: LoadedModel) -> Iterator[str]:
    """One line for each thing that was told by trying and that somebody might have to correct."""
    returned, name = model.layers.returned, visible(model.name, 60)
    if returned.kind not in _PLURAL:
        return
    if len(returned.heads) > 1 and settings.head is None:
        others = ", ".join(visible(head.name, 30) for head in returned.heads if head.name != returned.head)
        yield f"of what {name} returns, '{visible(returned.head, 60)}' is explained, not {others} (--head chooses)"
    if not default_task(returned.kind, settings.task).probabilities:
        if returned.classes > 1 and "target" not in settings.model_fields_set:
            yield f"of the {returned.classes} values the largest of each image is explained (--target chooses)"
        return
    if settings.returns == "auto" and returned.values != "logits":
        shares = "" if returned.exclusive or returned.classes == 1 else ", each class by itself"
        yield f"{name} returns {returned.values}{shares}: {returned.why} (--returns logits takes them for scores)"
    elif settings.returns == "auto" and returned.why:
        regression = "; of a regression: --task regression" if _one_value(settings, model) else ""
        fix = f"--returns probabilities takes them for those{regression}"
        yield f"{name} is taken to return logits: {returned.why} ({fix})"
    elif _one_value(settings, model):
        yield f"{name} returns one value, taken for the logit of a yes (of a regression: --task regression)"


def _one_value(settings: Settings, model: LoadedModel) -> bool:
    """Whether nothing says that one value is a class's, and it may be a regression's."""
    returned = model.layers.returned
    one = returned.classes == 1 and returned.kind == "scores"
    return settings.task == "auto" and one and model.labels == ("positive",)
