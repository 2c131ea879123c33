"""Hypothesis without a stop-watch (the machine may be busy) and with the same examples on every run."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")
