"""captum: TCAV's magnitude is the mean of the scores, not what its documentation defines.

`TCAV` documents `magnitude_score = SUM(ABS(TCAV * (TCAV > 0))) / SUM(ABS(TCAV))`, which lies between 0 and 1, and
`_tcav_sub_computation` returns `torch.mean(tcav_score, dim=1)`, which has the scale of the gradient and any sign.
Dividing the sum of the positive scores by the sum of all absolute ones would mend it.
"""

import tempfile

import torch
from captum.concept import TCAV, Concept
from captum.concept._utils.classifier import Classifier
from torch import nn
from torch.utils.data import DataLoader


class Fixed(Classifier):
    def __init__(self):
        pass

    def train_and_eval(self, dataloader, **named):
        pass

    def weights(self):
        return torch.tensor([[1.0, 0.0], [-1.0, 0.0]])

    def classes(self):
        return [0, 1]


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x).prod(1, keepdim=True)


points = [torch.rand(2) for _ in range(4)]
concepts = [Concept(number, name, DataLoader(points)) for number, name in enumerate(("first", "other"))]
inputs = torch.tensor([[1.0, 3.0], [1.0, -1.0]])  # slopes along the first are 3 and -1
with tempfile.TemporaryDirectory() as folder:
    scores = TCAV(Product(), ["layer"], classifier=Fixed(), save_path=folder).interpret(inputs, [concepts], target=0)
print(f"documented: {3 / (3 + 1):.2f}; returned: {scores['0-1']['layer']['magnitude'][0]:.2f}, the mean (3 - 1) / 2")
