"""What is asked of a network: what is explained, called what, told apart from what, and what is known to be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.classes import TRUE, missing_truth
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.method import Scope
from cnnviz_cli.core.readout import Classes
from cnnviz_cli.core.text import visible
from cnnviz_cli.engine.targets import Targets
from cnnviz_cli.files.labels import WHERE, Labels, read_labels
from cnnviz_cli.files.masks import Masks
from cnnviz_cli.files.source import Source
from cnnviz_cli.models.returned import Returned
from cnnviz_cli.run.tellers import ClassTeller, Teller
from cnnviz_cli.run.truth import Truths

UNKNOWN = "nobody says what is true of it, and without that there is nothing to explain"
"""Why a picture fails, where only its true class is to be explained or all is told apart from that."""


@dataclass(frozen=True)
class Question:
    """The question of a run.

    Attributes:
        labels: the name of each class; of a network with one score two, for no and for yes.
        teller: what is explained, and how it is put into words.
        sigmoid: whether each class has a probability by itself.
        probable: whether probabilities are explained.
        truths: what is known to be true; None if nobody was asked.
        digest: of the file that the objective names, if it names one.
        masks: of the regions to be explained, where somebody has drawn them.
    """

    labels: Labels
    targets: Targets
    teller: Teller
    sigmoid: bool = False
    probable: bool = False
    counter: bool = False
    truths: Truths | None = None
    digest: str | None = None
    masks: Masks | None = None

    @classmethod
    def of(cls, settings: Settings, names: Sequence[str], returned: Returned) -> Question:
        """The settings' question to a classifier with a score for each of `names`.

        Args:
            returned: what it returns.

        Raises:
            UsageError: labels or truths that cannot be read or do not fit, or a class that the network does not have.
        """
        labels = labels_of(settings, names)
        targets = Targets.parse(settings.target, labels.names, contrast=settings.contrast, also=labels.also)
        if targets.asks_truth and settings.truth is None:
            raise missing_truth("--contrast" if targets.contrast == TRUE else "--target")
        truths = None if settings.truth is None else Truths(settings.truth, labels.names, labels.also)
        # Probabilities that do not add up to 1 say themselves that classes do not exclude each other.
        exclusive = returned.exclusive and not settings.multilabel
        sigmoid = not exclusive or len(names) == 1
        readout = Classes(returned.head, returned.values, exclusive)
        return cls(
            labels=labels,
            targets=targets,
            teller=ClassTeller(labels.names, sigmoid, readout),
            sigmoid=sigmoid,
            probable=settings.score == "probability",
            counter=settings.counterfactual,
            truths=truths,
        )

    def put_to(self, scope: Scope) -> Scope:
        """The scope with this question in it."""
        return replace(
            scope,
            against=self.targets.against,
            counter=self.counter,
            probable=self.probable,
            sigmoid=self.sigmoid,
            classes=isinstance(self.teller, ClassTeller),
        )

    def truth_of(self, source: Source) -> int | None:
        """The class that is true of a picture; None where nobody knows."""
        return None if self.truths is None else self.truths.of(source)

    def unanswerable(self, source: Source) -> str:
        """Why there is nothing to explain of a picture; empty where there is."""
        return UNKNOWN if self.targets.needs_truth and self.truth_of(source) is None else ""


def labels_of(settings: Settings, names: Sequence[str]) -> Labels:
    """The settings' names for classes that by themselves are called `names`; raises UsageError if they do not fit."""
    if settings.labels is None:
        return Labels((f"not {names[0]}", names[0]) if len(names) == 1 else tuple(names))
    found = read_labels(settings.labels)
    if len(names) == 1 and len(found.names) in (1, 2):
        given = found.names if len(found.names) == 2 else (f"not {found.names[0]}", found.names[0])
        return replace(found, names=given)
    if len(found.names) != len(names):
        what = f"{visible(found.file, 100)} has {len(found.names)} names, and the network has {len(names)} classes"
        raise UsageError(what, where=WHERE, fix="Are these the labels of the data that it was trained with?")
    return found
