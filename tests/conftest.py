"""Hypothesis without a stop-watch (the machine may be busy), with the same examples on every run and worker.

And Ctrl-C in force: a shell starts what goes on in the background with SIGINT ignored, which the processes that tests
start would inherit, and then no test of Ctrl-C could pass.
"""

import os
import signal

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

# Commands started by tests read and draw by themselves, unless a test is about the processes that do it.
os.environ["CNNVIZ_WORKERS"] = "0"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
