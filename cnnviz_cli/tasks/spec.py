"""The registry of tasks: what can be explained of a network, and which settings go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from cnnviz_cli.core.classes import TRUE, Labels, Rank, ranks_of
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import did_you_mean, escape_text
from cnnviz_cli.core.value import value
from cnnviz_cli.tasks.description import Describer

if TYPE_CHECKING:
    from torch import Tensor

AUTO = "auto"

Check = tuple[str, Callable[[], object]]
"""A setting, and what raises UsageError if it is wrong."""


class TaskSettings(Protocol):
    """The settings that decide what is explained, see `config.fields`."""

    target: Any
    contrast: str | int | None
    score: Any
    multilabel: bool
    objective: str
    region: Path | None
    embedding: Any
    min_score: float | None
    labels: Path | None
    prompts: Path | None
    truth: str | None
    returns: Any
    task: Any
    unit: str

    @property
    def model_fields_set(self) -> set[str]: ...


class TaskContext(Protocol):
    """What a run knows of the network when a task's question is asked.

    `output` is a `models.inspect.outputs.NetworkOutput`, `own_labels` are the network's own names of its classes;
    `embeds` says that it has none, and returns embeddings that sentences are compared with.
    """

    name: str
    output: Any
    own_labels: tuple[str, ...]
    embeds: bool

    def labels(self) -> Labels:
        """The names of its classes, from ``--labels`` if that is given; of one score a no and a yes. Raises UsageError
        if the file cannot be read or does not fit."""

    def given_labels(self) -> Labels | None:
        """What ``--labels`` names, whether or not it fits."""

    def read_masks(self, path: Path) -> None:
        """Give the readout a mask for each image."""

    def read_image(self, path: Path) -> Tensor:
        """(1, C, H, W) the network's input for another image, on the device."""

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """(n, D) the embeddings of sentences, of a network that `embeds`. Raises UsageError for one too long."""

    def embedding_network(self, what: Any) -> Callable[[Tensor], Any]:
        """The network on its device, from now on without its classifier if `what` (``--embedding``) says so."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision at which images are explained."""

    def set_min_score(self, value: float) -> bool:
        """Make a detector return boxes above this score; whether it has such a limit."""


@value
class TaskQuestion:
    """What a task asks of a network: the labels of what has a score, the ranks that are explained, the score that each
    is told apart from, and whether each class has a probability by itself."""

    labels: Labels
    ranks: tuple[Rank, ...]
    describer: Describer
    contrast: Rank | None = None
    sigmoid: bool = False


class TaskSpec:
    """A task. Its file derives a class from this and registers it with `register`.

    Attributes:
        name: unique; also the value of ``--task`` that chooses it among the tasks of networks that return the same.
        word: the first word of ``--objective``.
        usage: how ``--objective`` is written, for help.
        example: the same for an error about another task.
        sample: the same with a name in it; empty if there is nothing to name.
        reads: what networks may return, of "scores", "maps" and "boxes", see `models.inspect.outputs`.
        returns: the one of these for which this is explained by default; empty if none.
        output: those, in words.
        located: whether what is explained has a place in the image.
        classes: whether scores are a classifier's, of which a softmax or sigmoids make probabilities.
        probabilities: whether the network may return probabilities (``--returns``).
        own_settings: settings that mean something to this task alone, unset by default.
    """

    name: ClassVar[str]
    word: ClassVar[str]
    usage: ClassVar[str] = ""
    example: ClassVar[str] = ""
    sample: ClassVar[str] = ""
    place: ClassVar[int] = 9
    reads: ClassVar[tuple[str, ...]]
    returns: ClassVar[str] = ""
    output: ClassVar[str] = ""
    names_file: ClassVar[bool] = False
    located: ClassVar[bool] = False
    classes: ClassVar[bool] = False
    probabilities: ClassVar[bool] = False
    own_settings: ClassVar[tuple[str, ...]] = ()

    def ask(self, settings: TaskSettings, what: str, context: TaskContext, /) -> TaskQuestion:
        """The question to a network; `what` follows the word in ``--objective``. Raises UsageError for a setting that
        does not fit the network, or a file that cannot be read."""
        raise NotImplementedError

    def checks(self, _settings: TaskSettings, _what: str, _labels: Labels, /) -> Iterator[Check]:
        """What can be found wrong before there is a network, by the names of its classes if they are known."""
        return iter(())

    def check_objective(self, what: str, text: str, /) -> None:
        """Raise UsageError if `what` cannot follow the word in ``--objective``; `text` is all of it."""
        if what:
            raise _incomplete(text)

    def check_settings(self, settings: TaskSettings) -> None:
        """Raise UsageError for a setting that means nothing to this task."""
        classes_only = {
            "--contrast": settings.contrast is not None,
            "--truth": settings.truth is not None,
            "--score": settings.score != "logit",
            "--multilabel": settings.multilabel,
        }
        for flag, given in classes_only.items():
            if given:
                what = f"{flag} is for the classes of a classifier, and what is explained is a {self.word}"
                raise UsageError(what, where=flag, fix="Leave it out.")

    def check_unused(self, settings: TaskSettings, explained: TaskSpec, /) -> None:
        """Raise UsageError for a setting of this task where another one is explained."""
        for name in self.own_settings:
            if getattr(settings, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                what = f"{flag} is for {self.word}, and what is explained is a {explained.word}"
                raise UsageError(what, where=flag, fix="Leave it out.")

    def mismatch(self, model: str, fitting: TaskSpec) -> UsageError:
        """That a network has nothing of the kind; `fitting` is what it is for."""
        what = f"{model} returns {fitting.output}, so there is no {self.word} to explain"
        return UsageError(what, where="--objective", fix=f"Leave it out, or: --objective {fitting.example}")


_TASKS: dict[str, TaskSpec] = {}

Kind = TypeVar("Kind", bound=type[TaskSpec])


def register(kind: Kind) -> Kind:
    """Register a task. Raises ValueError if its name is taken, or its word without ``--task`` to tell them apart."""
    for other in _TASKS.values():
        alternative = kind.returns and other.returns == kind.returns
        if other.name == kind.name or (other.word == kind.word and not alternative):
            raise ValueError(f"the task {kind.name!r} ({kind.word}) is taken")
    _TASKS[kind.name] = kind()
    return kind


def tasks() -> list[TaskSpec]:
    """The registered tasks."""
    return sorted(_TASKS.values(), key=lambda task: task.place)


def find_task(name: str) -> TaskSpec:
    """The task of that name; KeyError if there is none."""
    return _TASKS[name]


def default_task(returns: str = "scores", name: str = AUTO) -> TaskSpec:
    """What is explained of a network that returns "scores", "maps" or "boxes"; `name` is the value of ``--task``."""
    return _find_task([task for task in tasks() if task.returns == returns], name)


@value
class TaskRequest:
    """An objective as it was written: the task's word, empty if the network's output decides, and the class of a
    region, the rank of a box from 1 or the file of an image."""

    word: str = ""
    what: str = ""

    def task(self, name: str = AUTO) -> TaskSpec | None:
        """The task that it names; `name` is the value of ``--task``."""
        found = [task for task in tasks() if task.word == self.word]
        return _find_task(found, name) if found else None

    def task_for(self, returns: str, model: str, name: str = AUTO) -> TaskSpec:
        """What is explained of a network that returns "scores", "maps" or "boxes"; `name` is the value of ``--task``.
        Raises UsageError if the network has nothing of the kind that was asked for."""
        fitting = default_task(returns, name)
        task = self.task(name) or fitting
        if returns not in task.reads:
            raise task.mismatch(escape_text(model, 100), fitting)
        return task

    @property
    def file(self) -> Path | None:
        """The file that it names, if it names one."""
        task = self.task()
        return Path(self.what) if task and task.names_file else None


def parse_objective(text: str) -> TaskRequest:
    """``auto``, or the word of a task and what it asks of it: ``class``, ``segment[:CLASS]``. Raises UsageError."""
    word, colon, what = text.strip().partition(":")
    word, what = word.strip().casefold(), what.strip()
    if word == AUTO and not colon:
        return TaskRequest()
    request = TaskRequest(word, what)
    task = request.task()
    if task is None:
        fix = f"{did_you_mean(word, dict.fromkeys(task.word for task in tasks()))}\n{_samples()}".strip()
        raise UsageError(f"there is no objective '{escape_text(text, 60)}'", where="--objective", fix=fix)
    if colon and not what:
        raise _incomplete(text)
    task.check_objective(what, text)
    return request


def check_settings(settings: TaskSettings, task: TaskSpec) -> None:
    """Raise UsageError for a setting that has no meaning for what is explained."""
    for other in tasks():
        if other is not task:
            other.check_unused(settings, task)
    task.check_settings(settings)


def objective_specs(settings: TaskSettings, what: str) -> Sequence[str | int]:
    """What is to be explained, by ``--objective`` or ``--target``. Raises UsageError if both say it."""
    if not what:
        return tuple(settings.target)
    if "target" in settings.model_fields_set:
        problem = f"'{escape_text(settings.objective, 60)}' says what is explained already"
        raise UsageError(problem, where="--target", fix="Leave --target out.")
    return (what,)


def ranks_of_parts(settings: TaskSettings, what: str, labels: Labels, *, parts: str, one: str) -> tuple[Rank, ...]:
    """The labels whose parts of an image are explained.

    Args:
        parts: in words what true classes are not known for: "their regions".
        one: what a label is called: "a class".

    Raises:
        UsageError: there is no such label, or its truth is asked for, or both flags say what is explained.
    """
    specs, where = objective_specs(settings, what), "--objective" if what else "--target"
    try:
        ranks = ranks_of(specs, labels)
    except UsageError as error:
        error.where = where
        raise
    if TRUE in ranks:
        problem = f"true classes are known for whole images, not for {parts}"
        raise UsageError(problem, where=where, fix=f"Name {one}, or topK.")
    return ranks


def objective_usage() -> str:
    """How ``--objective`` is written, for help."""
    *first, last = (task.usage for task in tasks() if task.usage)
    return f"{', '.join(first)}, or {last}"


def _find_task(found: Sequence[TaskSpec], name: str) -> TaskSpec:
    return next((task for task in found if task.name == name), found[0])


def _incomplete(text: str) -> UsageError:
    return UsageError(f"'{escape_text(text, 60)}' is not whole", where="--objective", fix=_samples())


def _samples() -> str:
    return f"For instance: {', '.join(task.sample for task in tasks() if task.sample)}"
