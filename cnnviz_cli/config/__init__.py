"""Flags, environment and YAML, one validated result."""
