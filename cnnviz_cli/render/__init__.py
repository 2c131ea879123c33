"""Panels in, figures out. It knows kinds of panel, never a method's name.

Only `style` is imported here: names of palettes are checked at start-up, where numpy and Pillow would be felt.
"""

from cnnviz_cli.render.style import FORMATS, PALETTES, SIGNED_PALETTES, SUFFIXES, Caption, Finding, Style

__all__ = ["FORMATS", "PALETTES", "SIGNED_PALETTES", "SUFFIXES", "Caption", "Finding", "Style"]
