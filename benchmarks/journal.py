"""How long it takes to find that a million images are already done: ``python -m benchmarks.journal [COUNT]``.

The journal is synthetic. Every image and every figure in it is looked up on disk, but all of them are the same two
files, so that what is measured is our own work and the calls, not the making of two million files.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnviz_cli.core.records import Cost, ImageRecord, ModelRecord, Output, Prediction, Run, Tool
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.journal import record_in_line
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.resume import Ledger, RunHeader
from cnnviz_cli.files.output.run_report import peak_memory
from cnnviz_cli.files.output.shards import SINGLE_SHARD, Shard
from cnnviz_cli.files.output.sink import Sink

HEADER = RunHeader(
    {"palette": "inferno"},
    Tool(cnnviz="0", python="3", torch="2", torchvision="0", pillow="0"),
    Run(
        command="gradcam",
        status="ok",
        config={},
        config_sha256="0",
        device="cpu",
        precision="fp32",
        plan=Cost(forwards=1, backwards=1, variants=0),
    ),
    ModelRecord(name="m", weights="w", weights_sha256="0", num_classes=1000, preprocessing={}),
)
FOLDER = "pictures"


def record(name: str) -> ImageRecord:
    """One image with one figure."""
    predictions = [Prediction(index=n, label=f"class number {n}", probability=0.1) for n in range(5)]
    output = Output(
        family="gradcam",
        method="gradcam",
        layer="stages.6",
        target=predictions[0],
        path=f"{FOLDER}/gradcam.png",
        sha256="0" * 64,
        width=500,
        height=375,
        range=(0.0, 1.2345),
        state="ok",
    )
    return ImageRecord(
        source=name,
        sha256="0" * 64,
        width=500,
        height=375,
        status="ok",
        error=None,
        predictions=predictions,
        outputs=[output],
    )


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took, and the most memory until then."""
    start, busy = time.perf_counter(), time.process_time()
    yield
    wall, core = time.perf_counter() - start, time.process_time() - busy
    print(f"{what}: {wall:.1f} s ({core:.1f} s of a core), peak {(peak_memory() or 0) / 2**20:.0f} MiB", flush=True)


def written(ledger: Ledger, names: list[str]) -> None:
    """Append a line for each name: the first as a run does, the others as copies of it with another name."""
    ledger._sink.write(f"{FOLDER}/gradcam.png", b"x" * 1000)
    ledger.append(record(names[0]))
    line = ledger._journal.path.read_bytes().splitlines(keepends=True)[-1]
    data, first = record_in_line(line), names[0].encode()
    crc = b'"crc":%d,' % zlib.crc32(data)
    for name in names[1:]:
        copy = line.replace(first, name.encode())
        ledger._journal.write_line(copy.replace(crc, b'"crc":%d,' % zlib.crc32(record_in_line(copy)), 1))


def main(count: int) -> None:
    """Write a journal of `count` images, resume over it, and merge it as two shards."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "input.jpg").write_bytes(b"x")
        with timed("the list"):
            names = [f"some/folder/photograph-{number:08}.jpg" for number in range(count)]
            places = [(Source(name, "input.jpg", source), FOLDER) for source in names]
        for shards in ([SINGLE_SHARD], [Shard(0, 2), Shard(1, 2)]):
            out = root / f"out-{len(shards)}"
            sink = Sink(out)
            sink.open()
            for shard in shards:
                mine = [places[at] for at in shard.positions(count, 1)]
                with timed(f"writing {len(mine)} lines"), Ledger(sink, shard) as ledger:
                    ledger._started += 10**12  # as if the input had lain there for long
                    ledger.begin(HEADER, names, mine)
                    written(ledger, [source.name for source, _ in mine])
            for shard in shards if len(shards) == 1 else ():
                with timed("resuming and writing the manifest"), Ledger(sink, shard) as ledger:
                    found = ledger.begin(HEADER, names, places)
                    ledger.finish(interrupted=False)
                if found.done != count:
                    raise SystemExit(f"only {found.done} of {count} were found")
            if len(shards) > 1:
                with timed("merging two shards"):
                    merged = merge_shards(out)
                if merged.summary.images != count:
                    raise SystemExit(f"only {merged.summary.images} of {count} were merged")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
