"""lucent: bytes are truncated.

`export` writes `(image * 255).astype(np.uint8)`: every value is up to a level too dark, half a level on average.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from lucent.optvis.render import export
from PIL import Image

with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "picture.png")
    export(torch.full((1, 3, 4, 4), 0.999), path)
    print("0.999 is written as", int(np.asarray(Image.open(path)).max()), "of 255")
