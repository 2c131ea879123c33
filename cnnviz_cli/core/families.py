"""The families of methods: each is a subcommand. Every command line names them, so this imports next to nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cnnviz_cli.core.value import value

ALL = "all"
"""Where a method is chosen: every one of the family."""

EVALUATE = "evaluate"
"""The command that judges maps, and the section of settings that says by what, which every command has."""

SELECTOR = "method"
"""The flag and the key, in every family, that name its methods."""


@value
class Family:
    """A group of methods that one subcommand runs; `name` is also the YAML section and the stem of the file names.

    Attributes:
        summary: one line for ``--help``.
        palette: the colours of its maps that are zero or more, where none are chosen.
        with_images: the default where images are given, if that is another one.
        former_selector: what the flag and the YAML key that name methods were called; still read for one release.
    """

    name: str
    default: str
    summary: str
    palette: str = "inferno"
    former_selector: str = ""
    with_images: str = ""


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            "features",
            "feature-maps",
            "Activations of the convolutional layers: a grid of feature maps for each layer.",
            palette="viridis",
        ),
        Family("saliency", "gradient", "Which pixels the class score depends on."),
        Family(
            "deconv",
            "deconvnet",
            "What the strongest feature maps respond to, projected back to pixels.",
            former_selector="variant",
        ),
        Family("gradcam", "gradcam", "Where the evidence for a class lies: a heat map over the image."),
    )
}
"""The families that ``all`` runs."""

DREAM = Family(
    "dream",
    "pyramid",
    "What the network has learnt, painted from noise; and what it sees in an image, painted into it.",
    with_images="octaves",
)
"""A family with a command of its own, which paints a picture where others explain one; ``all`` leaves it out."""

ATTACK = Family(
    "attack",
    "pgd",
    "The smallest change of an image that flips its label, and the explanation before and after it.",
)
"""A family with a command of its own, which changes the image that is explained; ``all`` leaves it out."""

APART: Mapping[str, Family] = {DREAM.name: DREAM, ATTACK.name: ATTACK}
"""The families that ``all`` leaves out."""

EVERY_FAMILY: Mapping[str, Family] = {**FAMILIES, **APART}
"""Those that ``all`` runs, and those that it leaves out."""


@value
class StudyEntry:
    """A study: what is found out of all images of a folder together.

    Attributes:
        summary: one line for ``--help``.
        made_by: ``module:class``, a `run.study.Study`.
        concluded_by: ``module:function``, which makes of a `run.study_end.Concluding` what the manifest has of all
            records; without torch.
        command: whether it has a command of its own, by its name.
        sheets: stems of the figures about all images, as far as they are known before the run.
    """

    name: str
    summary: str
    made_by: str
    concluded_by: str
    command: bool = True
    sheets: tuple[str, ...] = ()


TOP_IMAGES = "top-images"
"""The study that some families make in the place of figures of each image."""

STUDIES: dict[str, StudyEntry] = {
    study.name: study
    for study in (
        StudyEntry(
            "concepts",
            "What recurs in a folder of images, where it is, and what it adds to the score of a class.",
            "cnnviz_cli.studies.concepts.study:ConceptsStudy",
            "cnnviz_cli.studies.concepts.conclude:conclude_concepts",
            sheets=("concepts",),
        ),
        StudyEntry(
            "dissect",
            "Which channel of a network finds which annotated thing.",
            "cnnviz_cli.studies.dissection.study:DissectionStudy",
            "cnnviz_cli.studies.dissection.sheets:conclude",
            sheets=("dissection", "dissection.labels"),
        ),
        StudyEntry(
            "influence",
            "Training images that helped a network with an image and that harmed, by the gradients of its last layer.",
            "cnnviz_cli.studies.influence.study:InfluenceStudy",
            "cnnviz_cli.studies.influence.figures:conclude",
            sheets=("influence-training",),
        ),
        StudyEntry(
            "tcav",
            "How far a class depends on concepts that are named by folders of images.",
            "cnnviz_cli.studies.tcav.study:TcavStudy",
            "cnnviz_cli.studies.tcav.conclusion:conclude",
            sheets=("tcav",),
            command=False,
        ),
        StudyEntry(
            TOP_IMAGES,
            "For each channel the images that excite it most.",
            "cnnviz_cli.studies.top_images.study:TopImages",
            "cnnviz_cli.studies.top_images.sheets:conclude_top_images",
            command=False,
        ),
    )
}
"""By name; where they are made is imported when it is needed."""
