"""A run on the nodes of a Ray cluster: one process with the model for each device, one journal where it was started."""

from cnnviz_cli.cluster.execution import execute

__all__ = ["execute"]
