"""A run on the nodes of a Ray cluster: one process with the model for each device, one journal where it was started."""

from cnnviz_cli.cluster.cluster_run import execute

__all__ = ["execute"]
