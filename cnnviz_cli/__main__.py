"""``python -m cnnviz_cli`` and the console script."""

import gc
import signal
import sys


def main() -> int:
    """Run cnnviz and return the exit code."""
    # Before and after the work there is nothing to save, and where Python was when it was stopped is of no interest.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from cnnviz_cli.cli.main import main as command
        from cnnviz_cli.core.process import wait_without_spinning_if_busy
    except Exception as error:  # the boundary of all errors is not there yet
        return _without_boundary(error)

    wait_without_spinning_if_busy()
    code = command()
    # Before it ends Python would look through all of torch for garbage, which takes most of a second.
    gc.freeze()
    return code


def _without_boundary(error: Exception) -> int:
    """Say what keeps the command from being imported, if it is the environment; else it is a bug like any other."""
    from cnnviz_cli.core.process import environment_error

    known = environment_error(error)
    if known is None:
        raise error
    print(f"error: {known.where}: {known.what}\n  {known.fix}", file=sys.stderr)
    return int(known.code)


if __name__ == "__main__":
    sys.exit(main())
