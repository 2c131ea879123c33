"""``python -m cnnviz_cli`` and the console script."""

import gc
import signal
import sys


def main() -> int:
    """Run cnnviz and return the exit code."""
    # Before and after the work there is nothing to save, and nobody wants to see where Python was when it was stopped.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cnnviz_cli.cli.main import main as command

    code = command()
    # Before it ends Python would look through all of torch for garbage, which takes most of a second.
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(main())
