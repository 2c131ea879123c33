"""Did you mean ...?"""

from collections.abc import Iterable
from difflib import get_close_matches


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence for an error's `fix`, or an empty string."""
    names = closest(word, known)
    if not names:
        return ""
    quoted = [f"'{name}'" for name in names]
    listed = quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]
    return f"Did you mean {listed}?"
