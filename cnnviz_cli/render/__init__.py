"""Panels in, pictures out. It knows kinds of panel, never a method's name."""
