"""Explanation images of convolutional networks, rendered to disk."""

__version__ = "0.1.0"
