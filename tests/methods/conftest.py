"""The `run` fixture."""

import pytest
from running import Runner, run_method


@pytest.fixture
def run() -> Runner:
    """`run(name, net, batch, choose=..., rank=..., **options)` gives the method's panels."""
    return run_method
