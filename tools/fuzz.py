"""Run every file of a folder through the decoder, each in a process that may die (`make fuzz-corpus CORPUS=dir`).

The exit code is 1 if a process died, a file took too long, or something else than a named failure came out of one. Time
is the processor's, so that a busy machine changes nothing; what does not come back is ended after `PATIENCE` times as
long.

With ``--explain`` the folder then goes through ``cnnviz gradcam`` with the bundled model, and the manifest is verified.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

LIMIT = 2.0
"""Seconds that a file may take."""
PATIENCE = 15

SAID = re.compile(r"(warning|failed|error|fix|hint): |  ")
"""How every line begins that cnnviz writes to stderr under ``-q``."""


@dataclass
class Answer:
    """What became of one file.

    Attributes:
        kind: ``ok``, ``failed`` by name, ``raised`` something else, ``died`` with its process, or ``slow``.
        why: in words.
        seconds: of processor time.
        spoken: what reached standard error meanwhile, which is a C library's.
    """

    name: str
    kind: str
    why: str = ""
    seconds: float = 0.0
    spoken: str = ""


class Warden:
    """A process that decodes what it is told to, and is replaced when it dies. A context manager."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (as long as this object)
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, path: Path, name: str) -> Answer:
        """What the process says of one file, or how it ended over it."""
        child = self._child or self._started()
        self._errors.seek(0, os.SEEK_END)
        before = self._errors.tell()
        assert child.stdin
        with suppress(BrokenPipeError):  # it is gone already, which shows below
            child.stdin.write(os.fsencode(path) + b"\0")
            child.stdin.flush()
        line = self._line(child, LIMIT * PATIENCE)
        if line:
            answer = Answer(name, **json.loads(line))
        else:
            hung = child.poll() is None
            self._end()
            answer = Answer(name, "slow", seconds=LIMIT * PATIENCE) if hung else Answer(name, "died", ended(child))
        self._errors.seek(before)
        answer.spoken = self._errors.read().decode(errors="replace").strip()
        if answer.seconds > LIMIT:
            answer.kind = "slow"
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self._end()
        self._errors.close()

    def _end(self) -> None:
        """End the process, whatever it is doing."""
        if self._child:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--child"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._child = child
        if self._line(child, 120) != b"ready\n":
            self._errors.seek(0)
            sys.exit(f"the process that decodes does not start:\n{self._errors.read().decode(errors='replace')}")
        return child

    @staticmethod
    def _line(child: subprocess.Popen[bytes], patience: float) -> bytes:
        """What the process says next; nothing if it dies or is silent for too long."""
        assert child.stdout
        if not select.select([child.stdout], [], [], patience)[0]:
            return b""
        line = child.stdout.readline()
        if not line:
            child.wait()
        return line


def ended(child: subprocess.Popen[bytes]) -> str:
    """How a process ended."""
    code = child.returncode
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def decode_what_is_asked(paths: BinaryIO, answers: BinaryIO) -> None:
    """The process's own work: a path, an answer, until there are no more paths."""
    from cnnviz_cli.core.errors import ImageError
    from cnnviz_cli.files.images.decode import read_image
    from cnnviz_cli.models.input.preprocessing import Preprocessing

    preprocessing = Preprocessing(256, 224, (0.5,) * 3, (0.5,) * 3, "bicubic")  # the bundled model's
    answers.write(b"ready\n")
    answers.flush()
    while path := _until_nul(paths):
        began = time.process_time()
        kind, why = "ok", ""
        try:
            preprocessing.crop_image(read_image(Path(os.fsdecode(path))).image)
        except ImageError as error:
            kind, why = "failed", error.what
        except Exception as error:
            kind, why = "raised", f"{type(error).__name__}: {error}"
        answer = {"kind": kind, "why": why, "seconds": time.process_time() - began}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _until_nul(paths: BinaryIO) -> bytes:
    found = bytearray()
    while (byte := paths.read(1)) not in (b"", b"\0"):
        found += byte
    return bytes(found)


@dataclass
class Findings:
    """What became of all files."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def bad(self) -> list[Answer]:
        """What must not be."""
        return [answer for answer in self.answers if answer.kind in ("raised", "died", "slow")]

    def lines(self) -> Iterator[str]:
        """The report."""
        counts = Counter(answer.kind for answer in self.answers)
        shown = ", ".join(f"{counts[kind]} {kind}" for kind in ("ok", "failed", "raised", "died", "slow"))
        yield f"{len(self.answers)} files: {shown}"
        reasons = Counter(
            re.split(r"[:(;]", answer.why)[0].strip() for answer in self.answers if answer.kind == "failed"
        )
        yield from (f"  failed {count:4}  {reason}" for reason, count in reasons.most_common())
        yield from (f"  {answer.kind} after {answer.seconds:.2f} s: {answer.name} {answer.why}" for answer in self.bad)
        yield "slowest:"
        slowest = sorted(self.answers, key=lambda answer: -answer.seconds)[:5]
        yield from (f"  {answer.seconds:6.2f} s  {answer.name}" for answer in slowest)
        spoken = [answer for answer in self.answers if answer.spoken]
        yield f"on standard error of the process that decodes: of {len(spoken)} files"
        words = Counter(answer.spoken.splitlines()[0].split(":")[0] for answer in spoken)
        yield from (f"  {count:4}  {word}" for word, count in words.most_common())


def decoded(files: Sequence[Path], corpus: Path) -> Findings:
    """Each file through the decoder and the bundled model's preprocessing."""
    with Warden() as warden:
        return Findings([warden.ask(path, str(path.relative_to(corpus))) for path in files])


def explained(files: Sequence[Path]) -> Iterator[str]:
    """The whole command over the files, and what is wrong with how it went; first a line that says how that was."""
    with tempfile.TemporaryDirectory() as folder:
        listed, out = Path(folder, "list"), Path(folder, "out")
        listed.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in files))
        began = time.monotonic()
        done = _cnnviz("gradcam", "--files-from", str(listed), "-o", str(out), "-q")
        seconds = time.monotonic() - began
        manifest: dict[str, Any] = json.loads((out / "manifest.json").read_bytes()) if done.returncode in (0, 3) else {}
        yield f"cnnviz gradcam: exit code {done.returncode} after {seconds:.0f} s, {manifest.get('summary')}"
        if not manifest:
            yield f"no manifest: {done.stderr[-500:]}"
            return
        if len(manifest["images"]) != len(files):
            yield f"{len(manifest['images'])} records of {len(files)} files"
        yield from (
            f"foreign words on standard error: {line}" for line in done.stderr.splitlines() if not SAID.match(line)
        )
        verified = _cnnviz("verify", str(out))
        if verified.returncode:
            yield f"cnnviz verify: exit code {verified.returncode}: {verified.stderr[-500:]}"


def _cnnviz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cnnviz_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--explain", action="store_true", help="then run cnnviz gradcam over the folder and verify it")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        decode_what_is_asked(sys.stdin.buffer, sys.stdout.buffer)
        return 0
    if given.corpus is None or not given.corpus.is_dir():
        parser.error("name a folder: make fuzz-corpus CORPUS=dir")
    files = sorted(path for path in given.corpus.rglob("*") if path.is_file())
    findings = decoded(files, given.corpus)
    print(*findings.lines(), sep="\n", flush=True)
    wrong: list[str] = []
    if given.explain:
        summary, *wrong = explained(files)
        print(summary, *wrong, sep="\n")
    return 1 if findings.bad or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
