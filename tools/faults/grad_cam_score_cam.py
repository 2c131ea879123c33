"""grad-cam: Score-CAM masks the image at other positions than it draws the map.

The mask is upsampled by `torch.nn.UpsamplingBilinear2d`, which aligns corners; the map by `cv2.resize`, which does not.
`torch.nn.Upsample(size=..., mode='bilinear', align_corners=False)` for the mask fixes it.
"""

import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import nn

maps = torch.zeros(1, 7, 7)
maps[0, 1, 1] = 1
mask = nn.UpsamplingBilinear2d(size=(224, 224))(maps[None])[0, 0]  # as in ScoreCAM.get_cam_weights
drawn = torch.tensor(scale_cam_image(maps.numpy(), (224, 224)))[0]  # as in BaseCAM.compute_cam_per_layer
centre = [(picture.sum(0) @ torch.arange(224.0) / picture.sum()).item() for picture in (mask, drawn)]
print(f"a peak in column 1 of 7 masks around pixel {centre[0]:.1f} and is drawn around {centre[1]:.1f}")
