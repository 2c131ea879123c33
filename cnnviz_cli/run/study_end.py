"""What is made of all records of a study, from them and its kit alone, by its run or by a merge. No torch here."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from time import time_ns
from typing import TYPE_CHECKING, Any

from cnnviz_cli.core.families import STUDIES
from cnnviz_cli.core.findings import Findings
from cnnviz_cli.core.records import ImageRecord, ModelRecord, Output, Run, Table
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.output.manifest import Conclusion, write_table_file
from cnnviz_cli.files.output.resume import read_stamp
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.study_kit import Kit

if TYPE_CHECKING:
    from cnnviz_cli.core.figure_settings import FigureSize
    from cnnviz_cli.render.figures import Figure

_RECENT = 2 * 10**9


@dataclass(frozen=True)
class Concluding:
    """What a study concludes from, and what it writes with.

    Attributes:
        name: of the study.
        kit: what the study has left for this.
        records: gives those of all images or units, in their order, as often as it is called.
        warn: one line that a user should act on.
    """

    name: str
    sink: Sink
    run: Run
    model: ModelRecord
    kit: Kit
    records: Callable[[], Iterator[ImageRecord]]
    warn: Callable[[str], None]

    @property
    def model_words(self) -> str:
        """The network and its weights, as captions have them."""
        return f"{self.model.name} ({self.model.weights})"

    @property
    def size(self) -> FigureSize:
        """The room that figures have."""
        from cnnviz_cli.run.study_files import figure_size

        return figure_size(self.run.config)

    def write_sheet(self, stem: str, figure: Figure, **more: Any) -> Output:
        """Write a figure about all images, called `stem`; see `run.study_files.write_study_figure`."""
        from cnnviz_cli.run.study_files import write_study_figure

        return write_study_figure(self.sink, self.run, self.model, self.name, stem, figure, **more)

    def write_table(self, path: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
        """Write a table as CSV. Cells of foreign text go through `core.text.harmless_cell` first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
        data = text.getvalue().encode("utf-8", "surrogateescape")
        return Table(path=path, sha256=write_table_file(self.sink, path, data))

    def write_arrays(self, path: str, arrays: Mapping[str, Any]) -> Table:
        """Write arrays as an .npz file, which the manifest lists among the tables."""
        from cnnviz_cli.run.present import encode_arrays

        return Table(path=path, sha256=write_table_file(self.sink, path, encode_arrays(arrays)))

    def findings(self, **members: Any) -> Findings:
        """What was found, with the study's own member."""
        return Findings(study=self.name, seen=list(self.kit.seen), **members)


def conclude_study(
    name: str,
    sink: Sink,
    run: Run,
    model: ModelRecord,
    kit: Kit,
    records: Callable[[], Iterable[bytes]],
    warn: Callable[[str], None],
) -> Conclusion:
    """What is made of all records, which `records` gives as JSON. Raises OutputError if the disk refuses."""
    module, _, member = STUDIES[name].concluded_by.partition(":")
    conclude: Callable[[Concluding], Conclusion] = getattr(import_module(module), member)
    return conclude(
        Concluding(name, sink, run, model, kit, lambda: map(ImageRecord.model_validate_json, records()), warn)
    )


def images_digest(sources: Sequence[Source]) -> str | None:
    """Of the names, sizes and times of images; None where one was changed just now, or cannot be asked."""
    found, now = sha256(), time_ns()
    for source in sources:
        stamp = read_stamp(source)
        if stamp is None or stamp[1] > now - _RECENT:
            return None
        found.update(f"{source.name}\0{stamp[0]}\n".encode("utf-8", "surrogatepass"))
    return found.hexdigest()
