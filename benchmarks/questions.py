"""What attacks and influence take beside captum's, in processor time of one thread."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from benchmarks.dream import loaded, processor_seconds
from benchmarks.evaluate import CHELSEA
from benchmarks.measure import Line, line, matmul_limit
from cnnviz_cli.core.attacks import Attack
from cnnviz_cli.engine.device import keep_freed_memory
from cnnviz_cli.engine.observe import observe
from cnnviz_cli.engine.plan import Plan
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.studies.influence.tracin import Head, Training, find_influential

STEPS, EPS = 10, 1e-6
"""The budget flips nothing, so that both go the whole way."""

FORWARDS = 4
"""Beside the steps: of the image, twice, of the end of the walk, and of that in 8 bits."""

TRAINING, ASKED, CLASSES, CHANNELS, MOST = 10_000, 5, 1000, 1280, 10


def everything(rounds: int) -> list[Line]:
    """Both, in one process."""
    threads = torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(1)
    try:
        return [_attack(rounds), _influence(rounds)]
    finally:
        torch.set_num_threads(threads)


def _attack(rounds: int) -> Line:
    """The walk and the numbers told of it, without maps; its limit is what forwards and backwards of the folded network
    take."""
    from captum.robust import PGD

    model = loaded()
    net, spec = model.net, model.preprocessing.input_spec
    inputs = model.preprocessing.prepare(read_image(CHELSEA).image)[0].unsqueeze(0)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    black, white = (torch.tensor(end, device="cpu").view(1, -1, 1, 1) for end in (spec.black, spec.white))
    pixels = (inputs - black) / (white - black)
    label = net(inputs).argmax(1)
    need = Attack(0, None, False, "linf", EPS, STEPS, 1 / STEPS, 0, spec.black, spec.white)
    plan = Plan.of([need])
    peer = PGD(lambda seen: net(black + seen * (white - black)), nn.CrossEntropyLoss(reduction="none"), 0.0, 1.0)
    folded = fuse(deepcopy(net)).requires_grad_(False).to(memory_format=torch.channels_last)

    def alone() -> None:
        for _ in range(FORWARDS):
            with torch.inference_mode():
                folded(inputs)
        for _ in range(STEPS):
            leaf = inputs.detach().requires_grad_()
            torch.autograd.grad(folded(leaf)[0, label[0]], leaf)

    def theirs() -> Tensor:
        found: Tensor = peer.perturb(pixels.clone().requires_grad_(), EPS, EPS / STEPS, STEPS, label)
        return found

    work: dict[str, Callable[[], object]] = {
        "cnnviz": lambda: observe(net, inputs, plan, lambda _scores: label[:, None]),
        "captum's PGD": theirs,
        "alone": alone,
    }
    times = processor_seconds(work, rounds)
    limit = times["captum's PGD"] / times["alone"]
    why = f"{FORWARDS} more forwards tell what the walk did, also in 8 bits; captum tells nothing"
    return line(f"attack: {STEPS} steps of PGD", times, "captum's PGD", "cnnviz", ">= 1", limit, why)


def _influence(rounds: int) -> Line:
    """From features on: captum's network is a last layer without a bias, of which both mean the same."""
    from captum.influence import TracInCPFast

    draws = np.random.default_rng(0)
    features = np.maximum(draws.standard_normal((TRAINING, CHANNELS), dtype=np.float32), 0)
    classes = draws.integers(0, CLASSES, TRAINING)
    asked, targets = features[:ASKED] + np.float32(0.1), draws.integers(0, CLASSES, ASKED)
    layer = nn.Linear(CHANNELS, CLASSES, bias=False, device="cpu", dtype=torch.float32)
    net = nn.Sequential(layer).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(draws.standard_normal((CLASSES, CHANNELS), dtype=np.float32) / CHANNELS))
    data = torch.utils.data.TensorDataset(torch.from_numpy(features), torch.from_numpy(classes))
    peer = TracInCPFast(
        net,
        layer,
        data,
        checkpoints=["only"],
        checkpoints_load_func=lambda _net, _path: 1.0,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=1000,
    )
    head = Head(layer.weight.detach().double().numpy(), None, sigmoid=False)
    training = Training.of(classes.tolist(), [str(number) for number in range(TRAINING)])
    chunks = np.array_split(features, 10)
    question = (torch.from_numpy(asked), torch.from_numpy(targets))

    def theirs() -> None:
        peer.influence(question, k=MOST, proponents=True)
        peer.influence(question, k=MOST, proponents=False)

    work: dict[str, Callable[[], object]] = {
        "cnnviz": lambda: find_influential(head, chunks, training, asked.astype(np.float64), targets, MOST),
        "captum's TracInCPFast": theirs,
    }
    times = processor_seconds(work, rounds)
    # In double precision, two products: the scores of the training images, and their gradients by those asked about.
    products = 2.0 * TRAINING * (CLASSES * CHANNELS + ASKED * (CLASSES + CHANNELS))
    limit = matmul_limit(times["captum's TracInCPFast"], products, torch.float64)
    name = f"influence of {TRAINING:,} features on {ASKED} images, {MOST} of each sign"
    return line(name, times, "captum's TracInCPFast", "cnnviz", ">= 1", limit)
