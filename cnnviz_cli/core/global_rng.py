"""The random numbers that a network may draw in its forward: torch's, numpy's and Python's global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Start the global generators at `seed` (from 0 on), and leave them afterwards as they were."""
    import numpy as np
    import torch

    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count()) if used else ()):
        _seed_all(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def random_state() -> tuple[Any, ...]:
    """What changes with every draw from one of the generators; to be compared."""
    import numpy as np
    import torch

    _, keys, *rest = np.random.get_state(legacy=True)
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = tuple(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()) if used else ()
    return torch.get_rng_state().numpy().tobytes(), devices, np.asarray(keys).tobytes(), *rest, random.getstate()


@contextmanager
def reseed_forwards(net: nn.Module, seed: int) -> Iterator[None]:
    """Within, every forward of `net` starts at `seed`, so that altered inputs meet the same draws as the image did."""

    def start(_net: nn.Module, _inputs: Any) -> None:
        _seed_all(seed)

    with seeded_rng(seed):
        hook = net.register_forward_pre_hook(start)
        try:
            yield
        finally:
            hook.remove()


def _seed_all(seed: int) -> None:
    import numpy as np
    import torch

    if torch.cuda.is_initialized() or torch.backends.mps.is_available():  # type: ignore[no-untyped-call]
        torch.manual_seed(seed)
    else:  # torch would write down the stack for devices that have not started, at every forward: 1 ms
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
