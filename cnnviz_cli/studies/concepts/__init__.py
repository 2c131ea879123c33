"""Concepts: directions of a layer that recur over a folder, and what each adds to a score."""
