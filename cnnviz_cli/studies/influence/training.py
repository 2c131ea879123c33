"""The training images of a run: where they are, and which class is true of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cnnviz_cli.config.influence_fields import InfluenceFields
from cnnviz_cli.config.settings import Settings
from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import NoInputsError, UsageError
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.core.text import did_you_mean, escape_text, list_some
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.tables.ground_truth import FOLDER, parent_folder_name
from cnnviz_cli.run.ground_truth import GroundTruth

TRAIN, TRUTH = "--train", "--train-truth"

_LISTED = 3


@dataclass(frozen=True)
class TrainingImages:
    """Images whose class is known.

    Attributes:
        name: of the folder, without the path to it.
        classes: of each image, by index.
        unlabelled: how many images were left out, since their class is not known.
    """

    name: str
    sources: tuple[Source, ...]
    classes: tuple[int, ...]
    unlabelled: int

    @property
    def sha256(self) -> str:
        """Of the names of the images and of what is true of each."""
        found = sha256()
        for source, index in zip(self.sources, self.classes, strict=True):
            found.update(f"{source.name}\0{index}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()


def open_training(section: InfluenceFields, settings: Settings, labels: Labels, reporter: Reporter) -> TrainingImages:
    """Find the training images, and say of how many the class is not known.

    Raises:
        UsageError: there are none, or no class is known, or all have the same one, or the table cannot be read.
    """
    if section.train is None:
        raise UsageError(
            "it is missing, and influence is that of the images that the network was trained with",
            where=TRAIN,
            fix="Name their folder: --train DIR, with a folder in it for each class.",
        )
    try:
        sources = find_images([section.train], recursive=True, output=settings.output)
    except (UsageError, NoInputsError) as error:
        raise UsageError(error.what, where=TRAIN, fix=error.fix or "Name a folder of images.") from error
    table = section.train_truth
    try:
        truth = GroundTruth(FOLDER if table is None else str(table), labels)
        if table is not None:
            truth.check(sources, Reporter())  # what is unknown is said below
        truth_of = [truth.class_of(source) for source in sources]
    except UsageError as error:
        raise UsageError(error.what, where=TRAIN if table is None else TRUTH, fix=error.fix) from error
    known = [(source, index) for source, index in zip(sources, truth_of, strict=True) if index is not None]
    name = section.train.name or section.train.resolve().name
    unknown = [source for source, index in zip(sources, truth_of, strict=True) if index is None]
    if not known:
        raise _nothing_known(unknown, name, labels)
    if len({index for _, index in known}) == 1:
        label = escape_text(labels.names[known[0][1]], 60)
        what = f"all {len(known)} training images are of one class, {label}, so that none can speak against another"
        raise UsageError(what, where=TRAIN, fix="Name the folder above, with a folder in it for each class.")
    if unknown:
        where = "lie in a folder that is no class of the network" if table is None else "have no row in the table"
        named = _named(unknown, by_folder=table is None)
        reporter.warn(f"{len(unknown)} of {len(sources)} training images {where} and are left out: {named}")
    found, classes = zip(*known, strict=True)
    return TrainingImages(name, found, classes, len(unknown))


def _named(sources: Sequence[Source], *, by_folder: bool) -> str:
    names = dict.fromkeys(parent_folder_name(source) if by_folder else source.name for source in sources)
    return list_some([f"'{escape_text(name, 60)}'" for name in names], _LISTED)


def _nothing_known(unknown: Sequence[Source], name: str, labels: Labels) -> UsageError:
    folders = dict.fromkeys(map(parent_folder_name, unknown))
    meant = next(filter(None, (did_you_mean(folder, labels.names) for folder in folders)), "")
    shown, named = escape_text(name, 60), _named(unknown, by_folder=True)
    what = f"no image of '{shown}' lies in a folder named after a class of the network; the folders are {named}"
    fix = f"{meant}\nName folders by class or index (cnnviz classes), or give a table: {TRUTH} FILE.csv"
    return UsageError(what, where=TRAIN, fix=fix.strip())
