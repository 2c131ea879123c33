"""Whether concepts that a file has are of the network that a session has loaded."""

from __future__ import annotations

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.tables.concept_file import ConceptFile
from cnnviz_cli.run.session import Session


def check_network_of(session: Session, found: ConceptFile, where: str) -> None:
    """Raise UsageError unless concepts are of the session's network, with the same weights."""
    facts, model = found.facts, session.model
    shown = escape_text(found.name, 60)
    if facts.weights_sha256 != model.weights_sha256:
        of = escape_text(f"{facts.model} ({facts.weights})", 100)
        now = escape_text(f"{model.name} ({model.weights})", 100)
        others = f"other weights of {of}" if of == now else f"{of}, not of {now}"
        raise UsageError(f"the concepts in '{shown}' are of {others}", where=where, fix="Name that network: --model")
    if facts.layer not in {info.name for info in session.context.layers}:
        raise UsageError(
            f"the network has no layer '{escape_text(facts.layer, 60)}', of which '{shown}' is", where=where
        )
    channels = session.context.layers[facts.layer].shape[0]
    if found.basis.shape[1] != channels:
        what = f"'{shown}' has {found.basis.shape[1]} channels, and layer '{facts.layer}' has {channels}"
        raise UsageError(what, where=where)
