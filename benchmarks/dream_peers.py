"""`python -m benchmarks dream-peers`: what a picture takes beside lucent 0.1.8 and Horama 0.3.0, in processor time.

They are in no extra, since lucent pins an old kornia. Both run from a folder of their own:

    pip install --target build/peers --no-deps torch-lucent==0.1.8 kornia==0.4.1 horama==0.3.0 einops decorator
    pip install --target build/peers ipython
    PYTHONPATH=build/peers python -m benchmarks dream-peers

A class of the bundled network at 224 pixels, four pictures together, the same number of steps each, one thread. lucent
paints its own `param.image(224, batch=4)` by its own standard transforms. Horama paints one picture after the other; it
gets two crops a step, the fewest with which it runs, where its default is six.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable

import torch

from benchmarks.dream import TARGET, dreamer, loaded, processor_seconds
from benchmarks.measure import Line, line
from cnnviz_cli.engine.device import keep_freed_memory

PICTURES, STEPS, CROPS = 4, 20, 2


def _lucent(net: torch.nn.Module) -> Callable[[], object]:
    from lucent.optvis import objectives, param, render, transform

    pictures = [objectives.channel("labels", TARGET, batch=number) for number in range(PICTURES)]
    transforms = [*transform.standard_transforms, lambda picture: 2 * picture - 1]
    return lambda: render.render_vis(
        net,
        objectives.Objective.sum(pictures),
        lambda: param.image(224, batch=PICTURES),
        transforms=transforms,
        thresholds=(STEPS,),
        preprocess=False,
        progress=False,
        show_image=False,
    )


def _horama(net: torch.nn.Module) -> Callable[[], object]:
    import horama

    def work() -> None:
        for _ in range(PICTURES):
            with contextlib.redirect_stderr(io.StringIO()):
                horama.fourier(
                    lambda views: net(views)[:, TARGET].mean(),
                    total_steps=STEPS,
                    image_size=224,
                    values_range=(-1.0, 1.0),
                    crops_per_iteration=CROPS,
                    device="cpu",
                )

    return work


def lines(rounds: int) -> list[Line]:
    """Theirs over ours, of `fourier` and of the default."""
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    model = loaded()
    plain = loaded().net.requires_grad_(False)
    contestants = {
        f"fourier, {PICTURES} x {STEPS} steps": dreamer(model, "fourier", {}, pictures=PICTURES, steps=STEPS),
        "lucent 0.1.8": _lucent(plain),
        f"Horama 0.3.0, {CROPS} crops a step": _horama(plain),
    }
    times = processor_seconds(contestants, rounds)
    ours, *peers = contestants
    return [line(f"a dream at 224 x 224: {peer} over ours", times, peer, ours, ">= 1.2") for peer in peers]


def main() -> None:
    """Print them."""
    for one in lines(5):
        print(f"{one.name}: {one.ratio:.2f} ({one.seconds[0]:.1f} s over {one.seconds[1]:.1f} s), {one.bound}")


if __name__ == "__main__":
    main()
