"""Write the data files of cnnviz_cli/models from the installed torchvision: ``python tools/make_tables.py``.

The command line lists and checks models in milliseconds, which rules out importing torchvision to ask it.
"""

from pathlib import Path

import torchvision
from torchvision import models

HOME = Path(__file__).parent.parent / "cnnviz_cli" / "models"


def zoo() -> str:
    """One line for each published set of weights that classifies; the model's default is marked."""
    header = "model\tweights\tdefault\tinput\tparameters\tacc1\tmegabytes"
    lines = [f"# torchvision {torchvision.__version__.split('+')[0]}, by tools/make_tables.py", header]
    for name in models.list_models(module=models):
        published = models.get_model_weights(name)
        for entry in published:
            if not entry.meta["categories"]:
                continue  # VGG16's IMAGENET1K_FEATURES has no classifier
            default = "*" if entry is published.DEFAULT else "-"
            crop = entry.transforms().crop_size[0]
            acc1 = entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]
            facts = (name, entry.name, default, crop, entry.meta["num_params"], acc1, entry.meta["_file_size"])
            lines.append("\t".join(map(str, facts)))
    return "\n".join(lines) + "\n"


def labels() -> str:
    """The 1000 category names, one a line, in the order of the class scores."""
    return "\n".join(models.ResNet50_Weights.DEFAULT.meta["categories"]) + "\n"


if __name__ == "__main__":
    (HOME / "zoo.tsv").write_text(zoo(), encoding="utf-8")
    (HOME / "imagenet_labels.txt").write_text(labels(), encoding="utf-8")
