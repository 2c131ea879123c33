"""What ``--judge`` says, parsed and checked before torch is imported: a network, and perhaps its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnviz_cli.core.errors import CnnvizError, UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.models.spec.network import ModelSpec, ZooModel, check_code_allowed, parse_model
from cnnviz_cli.models.spec.weights import WeightsFile, task_of, weights_for

JUDGE = "--judge"


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """A network and its weights, as ``--model`` and ``--weights`` name them."""

    model: str
    weights: str = "DEFAULT"

    @classmethod
    def parse(cls, text: str) -> JudgeSpec:
        """Of ``MODEL`` or ``MODEL=WEIGHTS``."""
        model, _, weights = text.partition("=")
        return cls(model.strip(), weights.strip() or "DEFAULT")

    def network(self) -> ModelSpec:
        """The network; raises what `parse_model` does, and UsageError for a file that does not say what it is of."""
        try:
            return parse_model(self.model)
        except CnnvizError as error:
            error.where = JUDGE
            if "--arch" in error.fix:
                error.fix = f"Name the network first: --judge resnet50={escape_text(self.model, 200)}"
            raise

    def files(self) -> list[Path]:
        """The files that it names, whose bytes decide what the judge says; raises what `network` does."""
        weights = weights_for(self.network(), self.weights)
        return [weights.path] if isinstance(weights, WeightsFile) else []

    @property
    def in_catalogue(self) -> bool:
        """Whether its code is torchvision's or ours; raises what `network` does."""
        return isinstance(self.network().network, ZooModel)

    def check(self, *, allow_code: bool) -> None:
        """Raise UsageError or ModelError where such a judge cannot be, as far as its name tells."""
        network = self.network()
        try:
            check_code_allowed(network.network, allow_code=allow_code)
            weights_for(network, self.weights)
        except CnnvizError as error:
            error.where = JUDGE
            raise
        if (task := task_of(self.model)) not in (None, "classification"):
            raise not_a_classifier(self.model, f"it is for {task}")


def not_a_classifier(name: str, why: str) -> UsageError:
    """The error about a judge that has no scores of classes."""
    what = f"{escape_text(name, 100)} cannot be a judge, which gives each class a probability: {why}"
    return UsageError(what, where=JUDGE, fix="Choose a classifier: cnnviz models")
