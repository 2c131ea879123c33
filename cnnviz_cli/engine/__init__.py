"""Carries out plans; the only room with autograd. It knows needs, never a method's name."""

from cnnviz_cli.engine.observe import Observation, observe
from cnnviz_cli.engine.plan import Backward, Plan

__all__ = ["Backward", "Observation", "Plan", "observe"]
