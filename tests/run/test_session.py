"""A session: evidence of a batch, under whatever it is asked, and of an altered twin of the network."""

from __future__ import annotations

from copy import deepcopy

import pytest
import tiny
import torch

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.needs import Activation, Given
from cnnviz_cli.core.report import Reporter
from cnnviz_cli.run.session import Session


@pytest.fixture
def session(tiny_network: None) -> Session:  # noqa: ARG001  (what is loaded in the place of a model)
    return Session.load("all", load_settings("all", {("device",): "cpu"}, None, {}), Reporter())


def test_a_session_observes_what_it_is_asked_and_what_it_is_given(session: Session) -> None:
    batch, need, mine = tiny.pictures(2).float(), Activation("conv1"), Given("order")
    found = session.observe(batch, [need, mine], {"order": torch.tensor([3, 4])}, digests=["a", "b"])
    assert found.evidence[need].shape[0] == 2
    assert found.evidence[mine].tolist() == [3, 4]
    assert found.logits.shape == (2, 5)


def test_an_altered_twin_is_asked_the_same_and_the_session_stays(session: Session) -> None:
    batch = tiny.pictures(2).float()
    before = session.observe(batch, [], digests=["a", "b"]).logits
    twin = deepcopy(session.net)
    with torch.no_grad():
        next(twin.parameters()).mul_(-1)
    altered = session.with_net(twin)
    changed = altered.observe(batch, [], digests=["a", "b"]).logits
    assert not torch.allclose(changed, before)
    assert torch.equal(session.observe(batch, [], digests=["a", "b"]).logits, before)
    name, kernels = altered.context.kernels
    assert torch.equal(kernels, dict(twin.named_modules())[name].weight)
