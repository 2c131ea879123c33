"""One short file a method. Importing this package registers them all; a new file needs no other line anywhere."""

from importlib import import_module
from pkgutil import iter_modules

_NO_METHODS = ("api", "common")

for _module in sorted(iter_modules(__path__), key=lambda found: found.name):
    if _module.name not in _NO_METHODS:
        import_module(f"{__name__}.{_module.name}")
