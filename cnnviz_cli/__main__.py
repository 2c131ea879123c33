"""``python -m cnnviz_cli`` and the console script."""

import sys

from cnnviz_cli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
