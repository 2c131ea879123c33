"""Explanation images of convolutional networks: a command (``cnnviz``), and the same from Python.

The functions from `explain` to `top_images` are the ways in from Python, one for each of the commands that show
something, and `export` hands on what a run has found; all else that is named here belongs to them. Nothing is imported
until it is asked for, so that the command and its help do not wait for torch.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # as `typing` has it, which is not imported for this alone

if TYPE_CHECKING:
    from cnnviz_cli.api.attack import Attack, attack
    from cnnviz_cli.api.concepts import Concepts, concepts
    from cnnviz_cli.api.dissect import Dissected, dissect
    from cnnviz_cli.api.dream import Dream, dream
    from cnnviz_cli.api.evaluate import Evaluation, evaluate
    from cnnviz_cli.api.explain import Networks, Pictures, explain
    from cnnviz_cli.api.export import export
    from cnnviz_cli.api.influence import Influence, influence
    from cnnviz_cli.api.objectives import Objective, channel, direction, energy, likeness, target
    from cnnviz_cli.api.results import ExplainedImage, Explanation, Explanations, Report
    from cnnviz_cli.api.tcav import Tcav, tcav
    from cnnviz_cli.api.top_images import TopImages, top_images
    from cnnviz_cli.core.errors import (
        CnnvizError,
        DeviceError,
        ImageError,
        MemoryShortError,
        ModelError,
        OutputError,
        UsageError,
    )
    from cnnviz_cli.core.records import Prediction
    from cnnviz_cli.models.input.preprocessing import Preprocessing


__all__ = [
    "Attack",
    "CnnvizError",
    "Concepts",
    "DeviceError",
    "Dissected",
    "Dream",
    "Evaluation",
    "ExplainedImage",
    "Explanation",
    "Explanations",
    "ImageError",
    "Influence",
    "MemoryShortError",
    "ModelError",
    "Networks",
    "Objective",
    "OutputError",
    "Pictures",
    "Prediction",
    "Preprocessing",
    "Report",
    "Tcav",
    "TopImages",
    "UsageError",
    "attack",
    "channel",
    "concepts",
    "direction",
    "dissect",
    "dream",
    "energy",
    "evaluate",
    "explain",
    "export",
    "influence",
    "likeness",
    "target",
    "tcav",
    "top_images",
]

_HOMES = dict.fromkeys(__all__, "core.errors") | {
    "Attack": "api.attack",
    "Concepts": "api.concepts",
    "Dissected": "api.dissect",
    "Dream": "api.dream",
    "Evaluation": "api.evaluate",
    "ExplainedImage": "api.results",
    "Explanation": "api.results",
    "Explanations": "api.results",
    "Influence": "api.influence",
    "Networks": "api.explain",
    "Objective": "api.objectives",
    "Pictures": "api.explain",
    "Prediction": "core.records",
    "Preprocessing": "models.input.preprocessing",
    "Report": "api.results",
    "Tcav": "api.tcav",
    "attack": "api.attack",
    "channel": "api.objectives",
    "concepts": "api.concepts",
    "direction": "api.objectives",
    "dissect": "api.dissect",
    "dream": "api.dream",
    "energy": "api.objectives",
    "evaluate": "api.evaluate",
    "explain": "api.explain",
    "export": "api.export",
    "influence": "api.influence",
    "likeness": "api.objectives",
    "target": "api.objectives",
    "tcav": "api.tcav",
    "TopImages": "api.top_images",
    "top_images": "api.top_images",
}


if not TYPE_CHECKING:  # a checker knows the names from above, and should complain of others

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__():
        return sorted({*globals(), *__all__})
