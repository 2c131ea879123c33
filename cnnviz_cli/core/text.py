"""Foreign text (file names, labels, messages) made safe to show, and names that a mistyped one may mean."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

# Cc and Cf hold the escape sequences and the direction overrides that let a file name repaint a terminal
# or read backwards; Cs are lone surrogates, which no stream encodes.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def escape_text(text: str, limit: int = 0) -> str:
    """`text` with control, direction and unencodable characters as escapes, cut in the middle to `limit` if not 0."""
    shown = "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)
    if limit and len(shown) > limit:
        head = (limit - 1) // 2
        shown = shown[:head] + "…" + shown[len(shown) - (limit - 1 - head) :]
    return shown


def first_line(error: BaseException, limit: int = 200) -> str:
    """The first line of what an error of foreign code says, safe to show; its kind where it says nothing."""
    return escape_text((str(error).strip() or type(error).__name__).partition("\n")[0], limit)


def all_lines(error: BaseException, limit: int = 200) -> str:
    """All that an error of foreign code says as one line, safe to show; its kind where it says nothing."""
    return escape_text(" ".join(str(error).split()) or type(error).__name__, limit)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def is_text(text: str) -> bool:
    """Whether a file in UTF-8 can hold it: JSON can spell halves of letters, which none can."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""With what a cell begins that spreadsheets compute; the last four are full-width."""


def harmless_cell(text: str) -> str:
    """A cell of foreign text that neither a spreadsheet computes nor a terminal obeys (OWASP, "CSV Injection")."""
    shown = "".join(_escape(char) if unicodedata.category(char) == "Cc" else char for char in text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def format_percent(probability: float) -> str:
    """0.394 as ``39.4 %``."""
    if 0 < probability < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= probability < 1:
        return "> 99.9 %"
    return f"{100 * probability:.1f} %"


def closest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names most like `word`, best first; case is ignored, an empty list if none is near."""
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    folded = word.casefold()
    found = get_close_matches(folded, by_folded, n=count, cutoff=0.6)
    # A fragment ("lite0") is a poor match by ratio and an obvious one to a person.
    if len(folded) >= 3:
        found += [name for name in by_folded if folded in name and name not in found]
    return [by_folded[name] for name in found[:count]]


def list_some(names: Sequence[str], most: int) -> str:
    """``a, b, c and 2 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def list_all(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def join_terms(terms: Iterable[tuple[float, str]]) -> str:
    """A sum in words: ``espresso minus 0.5 x channel 12``."""
    parts: list[str] = []
    for weight, name in terms:
        sign = "minus" if weight < 0 else "plus" if parts else ""
        size = "" if abs(weight) == 1 else f"{abs(weight):g} x"
        parts.append(" ".join(filter(None, [sign, size, name])))
    return " ".join(parts)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence for an error's `fix`, or an empty string."""
    names = closest(word, known)
    if not names:
        return ""
    quoted = [f"'{name}'" for name in names]
    listed = quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]
    return f"Did you mean {listed}?"
