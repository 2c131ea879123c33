"""Hypothesis without a stop-watch (the machine may be busy), with the same examples on every run and worker."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")
