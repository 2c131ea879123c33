"""Words that every room shares: no I/O, and no torch at import."""
