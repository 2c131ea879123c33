"""One run: sources, batches, engine, pictures, files, manifest. The only room in which the others meet."""

from cnnviz_cli.run.execute import Outcome, execute
from cnnviz_cli.run.sketch import Sketch, dry_run

__all__ = ["Outcome", "Sketch", "dry_run", "execute"]
