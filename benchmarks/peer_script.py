"""Grad-CAM overlays of a folder, as a user of grad-cam writes it: ``python -m benchmarks.peer_script IN OUT WEIGHTS``.

After the README of grad-cam: a context, ``target_layers``, no targets for the likeliest class, ``show_cam_on_image``;
and torchvision's transforms. The network is cnnviz's bundled one, so that both sides compute the same.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from cnnviz_cli.models.load.efficientnet_lite import EfficientNetLite

images, output, weights = sys.argv[1:]
model = EfficientNetLite()
# The package of the weights names its tensors otherwise, in the order of the network's.
model.load_state_dict(dict(zip(model.state_dict(), torch.load(weights).values(), strict=True)))
model.eval()
target_layers = [model.head]

crop = transforms.Compose([transforms.Resize(256, interpolation=InterpolationMode.BICUBIC), transforms.CenterCrop(224)])
normalize = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])

Path(output).mkdir(parents=True, exist_ok=True)
with GradCAM(model=model, target_layers=target_layers) as cam:
    for path in sorted(Path(images).iterdir()):
        photo = crop(Image.open(path).convert("RGB"))
        grayscale_cam = cam(input_tensor=normalize(photo)[None], targets=None)[0]
        overlay = show_cam_on_image(np.float32(photo) / 255, grayscale_cam, use_rgb=True)
        Image.fromarray(overlay).save(Path(output, f"{path.stem}.png"))
