"""The digest of a manifest, derived from its definition in docs/resume.md and not by the code that writes it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the digest of everything else in it."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return {**rest, "sha256": hashlib.sha256(text.encode()).hexdigest()}
