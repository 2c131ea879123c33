"""The saliency and deconv families beside captum, zennit and PAIR's saliency."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

import captum.attr
import numpy as np
import saliency.core
import torch
import zennit.composites
from captum._utils.models.linear_model import SkLearnLasso
from parity_measure import Case
from pytorch_grad_cam import GuidedBackpropReLUModel
from torch import Tensor, nn
from zennit.attribution import Gradient
from zennit.canonizers import AttributeCanonizer, CompositeCanonizer, SequentialMergeBatchNorm
from zennit.layer import Sum

from cnnviz_cli.core.draws import normal, uniform
from cnnviz_cli.core.needs import Evidence, Input, Seeds
from cnnviz_cli.methods.common.paths import _LINE_DRAWS
from cnnviz_cli.models.load.efficientnet_lite import Bottleneck, pad_same

SAMPLES, STEPS = 4, 10
"""Fewer than by default: enough to tell two definitions apart."""


def black(case: Case) -> Tensor:
    """(1, 3, 224, 224) the baseline."""
    return case.black.expand_as(case.x).clone()


def mean(case: Case) -> Tensor:
    """(1, 3, 224, 224) the image's mean colour."""
    return case.x.mean((2, 3), keepdim=True).expand_as(case.x).clone()


def signed(values: Tensor) -> Tensor:
    """Summed over colours."""
    return values.sum(1)


def largest(values: Tensor) -> Tensor:
    """The largest size over colours."""
    return values.abs().amax(1)


def whole(values: Tensor) -> Tensor:
    """As it is, with its colours."""
    return values


def by_captum(kind: str, reduced: Callable[[Tensor], Tensor] = whole, **options: Any) -> Callable[[Case], Any]:
    """A class of captum.attr; a function among the options is called with the case."""

    def run(case: Case) -> Any:
        given = {name: value(case) if callable(value) else value for name, value in options.items()}
        with catch_warnings():
            simplefilter("ignore")  # it says that it sets hooks
            values = getattr(captum.attr, kind)(case.net).attribute(case.x.clone(), target=case.target, **given)
        return reduced(values.detach())

    return run


def noise(case: Case) -> Tensor:
    """(SAMPLES, 3, 224, 224) the noise that our methods draw for the image."""
    sigma = 0.15 * (case.x.max() - case.x.min())
    shape = tuple(case.x.shape[1:])
    return torch.stack([sigma * normal(case.seed, i, shape).to(case.x) for i in range(SAMPLES)])


def noise_tunnel(how: str, reduced: Callable[[Tensor], Tensor] = largest) -> Callable[[Case], Any]:
    """captum's NoiseTunnel over Saliency with our noise in the place of its own draws."""

    def run(case: Case) -> Any:
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(case.net))
        drawn = noise(case)
        with patch("torch.normal", lambda _mean, _std: drawn), catch_warnings():
            simplefilter("ignore")
            values = tunnel.attribute(
                case.x, nt_type=how, nt_samples=SAMPLES, stdevs=1.0, target=case.target, abs=False
            )
        return reduced(values.detach())

    return run


def gradient_shap(case: Case) -> Any:
    """captum's GradientShap with our noise and our places on the line."""
    drawn = noise(case)
    places = [float(uniform(case.seed, _LINE_DRAWS + i, (1,))) for i in range(SAMPLES)]
    method = captum.attr.GradientShap(case.net)
    with patch("torch.normal", lambda _mean, _std: drawn), patch("numpy.random.uniform", lambda *_a: places):
        values = method.attribute(case.x, black(case), n_samples=SAMPLES, stdevs=1.0, target=case.target)
    return signed(values.detach())


def segments(case: Case, switches: Any) -> tuple[Tensor, Tensor]:
    """(1, 1, 224, 224) the number of each pixel's segment, and (n, M) which are seen in each of our draws."""
    labels = torch.tensor(switches.segments.of(case.x[0]))
    evidence = Evidence({Input(): case.x, Seeds(): torch.tensor([case.seed])})
    on = switches.on(int(evidence[Seeds()][0]), int(labels.max()) + 1, 0, switches.count)
    return labels[None, None], on


def surrogate(kind: str, switches: Callable[[Case], Any], **options: Any) -> Callable[[Case], Any]:
    """captum's Lime or KernelShap with our segments and our draws."""

    def run(case: Case) -> Any:
        labels, on = segments(case, switches(case))

        def draws(_inputs: Tensor, **_named: Any) -> Iterator[Tensor]:
            for row in on:
                yield row[None].long()

        method = getattr(captum.attr, kind)(case.net, **{name: value() for name, value in options.items()})
        method.perturb_func = draws
        with torch.no_grad():
            values = method.attribute(
                case.x,
                baselines=mean(case),
                target=case.target,
                feature_mask=labels,
                n_samples=len(on),
                perturbations_per_eval=50,
            )
        return values[:, 0].detach()

    return run


def exact_lasso() -> SkLearnLasso:
    """captum's default surrogate, solved to the end: scikit-learn stops at 1e-4 by default."""
    return SkLearnLasso(alpha=0.01, tol=1e-10, max_iter=100_000)


def by_pair(kind: str, reduced: Callable[[Tensor], Tensor] = signed, **options: Any) -> Callable[[Case], Any]:
    """A class of PAIR's saliency, which has channels last; in double precision, as NumPy calculates."""

    def run(case: Case) -> Any:
        def call(inputs: Any, **_named: Any) -> dict[str, Any]:
            batch = torch.as_tensor(np.asarray(inputs)).permute(0, 3, 1, 2).to(case.x)
            return {saliency.core.INPUT_OUTPUT_GRADIENTS: case.gradients(batch).permute(0, 2, 3, 1).double().numpy()}

        given = {name: last(value(case)) if callable(value) else value for name, value in options.items()}
        values = torch.as_tensor(getattr(saliency.core, kind)().GetMask(last(case.x), call, **given))
        return reduced(values.permute(2, 0, 1)[None] if values.dim() == 3 else values)

    return run


def pair_guided_ig(case: Case) -> Any:
    """PAIR's GuidedIG, which asks NumPy's quantile for what has another name since NumPy 1.22."""
    plain = np.quantile

    def quantile(values: Any, share: float, interpolation: Any) -> Any:
        return plain(values, share, method=interpolation)

    with patch("numpy.quantile", quantile):
        return by_pair("GuidedIG", x_baseline=black, x_steps=STEPS)(case)


def pair_xrai(case: Case) -> Any:
    """PAIR's XRAI of attributions by captum, from black and from white."""
    path = captum.attr.IntegratedGradients(case.net)
    ends = black(case), -black(case)
    shares = [path.attribute(case.x, end, case.target, n_steps=STEPS, method="gausslegendre") for end in ends]
    return by_pair("XRAI", whole, base_attribution=lambda _case: (shares[0] + shares[1]).detach() / 2)(case)


def last(picture: Tensor) -> Any:
    """(224, 224, 3) float64."""
    return picture[0].permute(1, 2, 0).double().numpy()


class BottleneckCanonizer(AttributeCanonizer):  # type: ignore[misc]
    """What zennit needs to be told of the bundled network: that `x + y` is a sum of signals."""

    def __init__(self) -> None:
        super().__init__(self._attributes)

    @staticmethod
    def _attributes(_name: str, module: nn.Module) -> dict[str, Any] | None:
        if not isinstance(module, Bottleneck):
            return None

        def forward(self: Any, x: Tensor) -> Tensor:
            y = x if self.expand is None else self.expand(x)
            y = self.project(self.depthwise(pad_same(y, self.kernel) if self.strided else y))
            return self.canonizer_sum(torch.stack([x, y], dim=-1)) if self.residual else y

        return {"forward": forward.__get__(module), "canonizer_sum": Sum()}


class Merged(SequentialMergeBatchNorm):  # type: ignore[misc]
    """zennit's, of which nothing is left behind: see tools/faults/zennit_batch_norm.py."""

    @staticmethod
    def merge_batch_norm(modules: Any, batch_norm: Any) -> None:
        SequentialMergeBatchNorm.merge_batch_norm(modules, batch_norm)
        batch_norm.eps = 0.0


def by_zennit(
    composite: str | None,
    *,
    told: bool = True,
    exact: bool = True,
    boxed: bool = False,
    reduced: Callable[[Tensor], Tensor] = signed,
) -> Callable[[Case], Any]:
    """zennit's gradient under one of its composites, BatchNorm merged; `told` of the sums, `exact` to the last."""

    def run(case: Case) -> Any:
        canonizers = [Merged() if exact else SequentialMergeBatchNorm(), *([BottleneckCanonizer()] if told else [])]
        options: dict[str, Any] = {"canonizers": [CompositeCanonizer(canonizers)]}
        if boxed:
            # The first convolution gets the input padded with zeros, where no other padding is possible.
            low = pad_same(black(case), 3) if exact else case.black
            options |= {"low": low, "high": -low}
        kind = composite and getattr(zennit.composites, composite)(**options)
        with Gradient(case.net, kind) as attributor:
            scores = case.net(case.x)
            start = torch.zeros_like(scores)
            start[0, case.target] = 1 if composite in (None, "GuidedBackprop", "DeconvNet") else scores[0, case.target]
            _, values = attributor(case.x.clone(), start.detach())
        return reduced(values.detach())

    return run


def grad_cam_guided(case: Case) -> Any:
    """grad-cam's GuidedBackpropReLUModel, which has channels last."""
    values = GuidedBackpropReLUModel(case.net)(case.x.clone(), case.target)
    return torch.as_tensor(values).permute(2, 0, 1)
