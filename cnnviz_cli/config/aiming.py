"""Which settings of a question go together, by what is explained. All of it can be told before there is a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.aims import AIM_OF, BOX, CLASS, SEGMENT, SIMILARITY, Aim, Kind
from cnnviz_cli.core.classes import NONE, PREDICTED, TRUE, Rank, ranks_of, top_count
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import visible

_RETURNED = {"scores": "class scores", "maps": "maps of class scores", "boxes": "boxes"}
_EXAMPLES = {CLASS: CLASS, SEGMENT: "segment:CLASS", BOX: "box:RANK"}
_MOST_BOXES = 9999

REGRESSION = "regression"


def kind_of(aim: Aim, returns: str, model: str) -> Kind:
    """What is explained of a network.

    Args:
        returns: what the network does, a key of `AIM_OF`.
        model: its name.

    Raises:
        UsageError: the network has nothing of the kind that was asked for.
    """
    fitting, name = AIM_OF[returns], visible(model, 100)
    if aim.kind in (None, fitting):
        return fitting
    if aim.kind != SIMILARITY:
        what = f"{name} returns {_RETURNED[returns]}, so there is no {aim.kind} to explain"
        raise UsageError(what, where="--objective", fix=f"Leave it out, or: --objective {_EXAMPLES[fitting]}")
    if returns != "scores":
        what = f"{name} returns {_RETURNED[returns]}, and pictures are compared by vectors"
        fix = "Use a classifier, or a network that returns (batch, numbers)."
        raise UsageError(what, where="--objective", fix=fix)
    return SIMILARITY


def refuse_strangers(settings: Settings, kind: Kind) -> None:
    """Raise UsageError for a setting that has no meaning for what is explained."""
    for name, home in (("region", SEGMENT), ("min_score", BOX)):
        if getattr(settings, name) is not None and kind != home:
            flag = f"--{name.replace('_', '-')}"
            what = f"{flag} is for {home}, and what is explained is a {kind}"
            raise UsageError(what, where=flag, fix="Leave it out.")
    _refuse_misfits(settings, kind)
    if settings.embedding != "auto" and kind != SIMILARITY:
        raise UsageError("nothing is compared", where="--embedding", fix="Add --objective similarity:other.jpg")
    if kind == CLASS:
        return
    classes_only = {
        "--contrast": settings.contrast is not None,
        "--truth": settings.truth is not None,
        "--score": settings.score != "logit",
        "--multilabel": settings.multilabel,
    }
    for flag, given in classes_only.items():
        if given:
            what = f"{flag} is for the classes of a classifier, and what is explained is a {kind}"
            raise UsageError(what, where=flag, fix="Leave it out.")
    if kind == SIMILARITY and "target" in settings.model_fields_set:
        raise UsageError("there is one thing to explain, the similarity", where="--target", fix="Leave it out.")


def _refuse_misfits(settings: Settings, kind: Kind) -> None:
    """Raise UsageError for settings of a regression without one, and for those of classes with one."""
    if settings.task != REGRESSION:
        if settings.unit:
            raise UsageError("only values have a unit", where="--unit", fix="Add --task regression")
        return
    if kind != CLASS:
        what = f"--task regression is for networks that return (batch, values), and what is explained is a {kind}"
        raise UsageError(what, where="--task", fix="Leave it out.")
    strangers = {
        "--truth": settings.truth is not None,
        "--score": settings.score != "logit",
        "--multilabel": settings.multilabel,
        "--returns": settings.returns not in ("auto", "logits"),
    }
    for flag, given in strangers.items():
        if given:
            raise UsageError(f"{flag} is for classes, and a regression has none", where=flag, fix="Leave it out.")


def regions_asked(
    settings: Settings, aim: Aim, labels: Sequence[str], also: Mapping[str, int] = NONE
) -> tuple[Rank, ...]:
    """The classes whose regions are explained, see `ranks_of`.

    Raises:
        UsageError: no such class, several, or one that no picture can tell.
    """
    specs, where = _said(settings, aim), "--objective" if aim.what else "--target"
    try:
        ranks = ranks_of(specs, labels, also)
    except UsageError as error:
        error.where = where
        raise
    if TRUE in ranks:
        what = "what is true is known of whole pictures, and not of their regions"
        raise UsageError(what, where=where, fix="Name a class, or topK.")
    return ranks


def boxes_asked(settings: Settings, aim: Aim) -> tuple[int, ...]:
    """The boxes that are explained, by their ranks from 0.

    Raises:
        UsageError: they are named in another way.
    """
    specs = _said(settings, aim)
    if aim.what:
        return (aim.rank,)
    return tuple(dict.fromkeys(rank for spec in specs for part in str(spec).split(",") for rank in _ranks(part)))


def _said(settings: Settings, aim: Aim) -> tuple[str | int, ...]:
    """What is to be explained, which may be said in two places, but not in both."""
    if not aim.what:
        return tuple(settings.target)
    if "target" in settings.model_fields_set:
        what = f"'{visible(settings.objective, 60)}' says what is explained already"
        raise UsageError(what, where="--target", fix="Leave --target out.")
    return (aim.what,)


def _ranks(spec: str) -> range:
    word = spec.strip()
    try:
        count = 1 if word.casefold() == PREDICTED else top_count(word, range(_MOST_BOXES))
    except UsageError:
        count = None
    if count is None:
        what = f"'{visible(spec, 60)}': boxes are told by their rank"
        raise UsageError(what, where="--target", fix="For instance: --objective box:2, or --target top3")
    return range(count)
