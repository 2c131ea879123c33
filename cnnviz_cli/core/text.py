"""Foreign text (file names, labels, messages of libraries) made safe to show."""

import unicodedata

# Cc and Cf hold the escape sequences and the direction overrides that let a file name repaint a terminal
# or read backwards; Cs are lone surrogates, which no stream encodes.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str, limit: int = 0) -> str:
    """`text` with control, direction and unencodable characters written as escapes.

    Args:
        limit: the longest result in characters, the middle elided; 0 is no limit.
    """
    shown = "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)
    if limit and len(shown) > limit:
        head = (limit - 1) // 2
        shown = shown[:head] + "…" + shown[len(shown) - (limit - 1 - head) :]
    return shown


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def percent(probability: float) -> str:
    """0.394 as ``39.4 %``."""
    if 0 < probability < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= probability < 1:
        return "> 99.9 %"
    return f"{100 * probability:.1f} %"
