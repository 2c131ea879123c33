"""Where a peer does something else than it says: scripts in tools/faults that its maintainers can run.

No line of cnnviz is in them. A script's docstring says whose fault it is, which, why, and what would mend it.
"""

from __future__ import annotations

import ast
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from warnings import catch_warnings, simplefilter

FOLDER = Path(__file__).parent / "faults"
DREAMS = Path(__file__).parent / "dream_faults"
"""Of libraries that dream, which are in no extra; docs/dream.md lists them and says how they are run."""


@dataclass(frozen=True)
class Fault:
    """One script.

    Attributes:
        name: of its file.
        peer: the library.
        title: what is wrong, as the title of an issue.
        cause: why.
        code: the script without its docstring.
    """

    name: str
    peer: str
    title: str
    cause: str
    code: str

    def output(self) -> str:
        """What the script prints."""
        printed = StringIO()
        with redirect_stdout(printed), redirect_stderr(StringIO()), catch_warnings():
            simplefilter("ignore")
            exec(compile(self.code, self.name, "exec"), {"__name__": "__main__"})
        return printed.getvalue().strip()


def faults(folder: Path = FOLDER) -> list[Fault]:
    """All of them, sorted by name."""
    return [_read(path) for path in sorted(folder.glob("*.py"))]


def _read(path: Path) -> Fault:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    first, _, cause = (ast.get_docstring(tree) or "").partition("\n\n")
    peer, title = first.removesuffix(".").split(": ", 1)
    code = "\n".join(source.splitlines()[tree.body[0].end_lineno or 0 :]).strip()
    return Fault(path.stem, peer, title, " ".join(cause.split()), code + "\n")
