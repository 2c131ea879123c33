"""What a second run of the same, or nearly the same, does in the folder of the first."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run.resuming import BROKEN, Listener, files_of, photographs, run

from cnnviz_cli.core.errors import ExitCode, OutputError, UsageError
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.file_lock import LockedFile
from cnnviz_cli.files.output.journal import JournalEntry, read_journal
from cnnviz_cli.files.output.verify import verify

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture
def undisturbed(tmp_path: Path, sources: list[Source]) -> dict[str, bytes]:
    """The files of a run that nothing came between."""
    run(tmp_path / "undisturbed", sources)
    return files_of(tmp_path / "undisturbed")


def stop_after(count: int) -> Callable[[int], None]:
    def stop(done: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return stop


def names(sources: list[Source]) -> list[str]:
    return [source.name for source in sources]


@pytest.mark.parametrize("count", range(1, 8))
def test_an_interrupted_run_goes_on_where_it_stopped(
    count: int, tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out, heard = tmp_path / "out", Listener()
    assert run(out, sources, Listener(stop_after(count))).status == "interrupted"
    outcome = run(out, sources, heard)
    # The broken one is the fourth, and is tried again.
    done = count if count < 4 else count - 1
    assert heard.done_ == names(sources)[count:] if count < 4 else [BROKEN, *names(sources)[count:]]
    assert f"{done} of 7 images are already done; --force does them again" in heard.said
    assert (outcome.done_before, heard.begun, outcome.summary.images) == (done, 7 - done, 7)
    assert [record.source for record in outcome.first] == names(sources)
    assert files_of(out) == undisturbed
    assert json.loads((out / "run.json").read_text())["resumed"] == done


def test_a_finished_run_does_nothing_but_try_what_failed(
    tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out, heard = tmp_path / "undisturbed", Listener()
    assert run(out, sources, heard, batch_size="2", threads="1").status == "partial"
    assert heard.done_ == [BROKEN]
    Image.new("RGB", (20, 20), "red").save(sources[3].path)
    heard = Listener()
    assert run(out, sources, heard).status == "ok"
    assert heard.done_ == [BROKEN]
    heard = Listener()
    before = files_of(out)
    assert run(out, sources, heard).status == "ok"
    assert (heard.done_, heard.begun) == ([], 0)
    assert files_of(out) == before
    assert before.keys() == undisturbed.keys() | {f"{BROKEN}/gradcam.png"}
    assert not [problem for problem in verify(out) if problem.failure]


def test_force_does_everything_again(tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]) -> None:
    out, heard = tmp_path / "undisturbed", Listener()
    assert run(out, sources, heard, force=True).done_before == 0
    assert heard.done_ == names(sources)
    assert files_of(out) == undisturbed


def test_an_input_with_other_bytes_is_done_again_and_one_that_was_only_touched_is_not(
    tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out = tmp_path / "undisturbed"
    for source in sources:
        os.utime(source.path, (1, 1))
    heard = Listener()
    run(out, sources, heard)
    assert heard.done_ == [BROKEN]
    assert files_of(out) == undisturbed
    Image.fromarray(np.zeros((14, 16, 3), dtype=np.uint8)).save(sources[1].path)
    heard = Listener()
    run(out, sources, heard)
    assert heard.done_ == [sources[1].name, BROKEN]
    assert files_of(out)["manifest.json"] != undisturbed["manifest.json"]


def test_size_and_time_that_stayed_are_taken_for_the_same_bytes(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = importlib.import_module("cnnviz_cli.files.output.resume")
    monkeypatch.setattr(resume, "_RECENT", -(10**12))  # as if the pictures had lain there for long
    run(tmp_path / "out", sources)
    stamps = [
        line.stamp for line in read_journal(tmp_path / "out" / "manifest.jsonl") if isinstance(line, JournalEntry)
    ]
    found = [source.path.stat() for source in sources]
    assert stamps == [(one.st_size, one.st_mtime_ns) for one in found]
    inputs = importlib.import_module("cnnviz_cli.files.output.resume")
    monkeypatch.setattr(inputs, "file_digest", lambda *_: pytest.fail("nothing has to be read"))
    heard = Listener()
    run(tmp_path / "out", sources, heard)
    assert heard.done_ == [BROKEN]


def test_a_picture_in_an_archive_is_done_again_when_its_bytes_change(tmp_path: Path) -> None:
    photographs(tmp_path / "in")
    archive = tmp_path / "in.zip"

    def pack(*names: str) -> list[Source]:
        with zipfile.ZipFile(archive, "w") as packed:
            for place, name in enumerate(names):
                packed.write(tmp_path / "in" / name, f"{place}.png")
        return find_images([archive], recursive=False)

    run(tmp_path / "out", pack("0.png", "1.png", "2.png"))
    heard = Listener()
    found = pack("0.png", "5.png", "2.png")
    run(tmp_path / "out", found, heard)
    assert heard.done_ == [found[1].name]


def test_a_picture_that_changed_lately_leaves_no_stamp(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "out", sources)
    lines = [line for line in read_journal(tmp_path / "out" / "manifest.jsonl") if isinstance(line, JournalEntry)]
    assert [line.stamp for line in lines] == [None] * 7


@pytest.mark.parametrize("harm", ["gone", "shorter", "link"])
def test_an_image_whose_pictures_are_not_what_they_were_is_done_again(
    harm: str, tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out, heard = tmp_path / "undisturbed", Listener()
    picture = out / sources[5].name / "gradcam.png"
    content = picture.read_bytes()
    picture.unlink()
    if harm == "shorter":
        picture.write_bytes(content[:-1])
    elif harm == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        picture.symlink_to(tmp_path / "elsewhere")
    run(out, sources, heard)
    assert heard.done_ == [BROKEN, sources[5].name]
    assert files_of(out) == undisturbed
    assert not picture.is_symlink()


def test_a_list_that_grew_or_shrank_keeps_what_is_done(tmp_path: Path, sources: list[Source]) -> None:
    whole, heard = tmp_path / "whole", Listener()
    run(tmp_path / "out", sources[2:])
    run(tmp_path / "out", sources, heard)
    assert heard.done_ == [*names(sources)[:2], BROKEN]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert [image["source"] for image in manifest["images"]] == names(sources)
    heard = Listener()
    run(tmp_path / "out", sources[4:], heard)
    assert heard.done_ == []
    run(whole, sources[4:])
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_a_name_that_got_another_folder_is_done_again(tmp_path: Path, sources: list[Source]) -> None:
    twin = replace(sources[0], name=sources[0].name.upper())
    run(tmp_path / "out", sources[:1])
    heard = Listener()
    run(tmp_path / "out", [twin, *sources[:1]], heard)
    assert heard.done_ == [twin.name, sources[0].name]


def test_an_unfinished_run_with_other_settings_is_not_overwritten(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources, Listener(stop_after(2)))
    before = files_of(out)
    with pytest.raises(UsageError) as caught:
        run(out, sources, palette="viridis", alpha="0.5")
    assert caught.value.code is ExitCode.USAGE
    assert "2 of 7" in caught.value.what
    assert caught.value.fix.splitlines()[:2] == ["alpha: null -> 0.5", "palette: auto -> viridis"]
    assert "--force" in caught.value.fix
    assert files_of(out) == before
    heard = Listener()
    run(out, sources, heard)
    assert heard.done_ == names(sources)[2:]
    assert run(out, sources, heard, palette="viridis", alpha="0.5", force=True).done_before == 0


def test_a_run_that_finished_nothing_protects_nothing(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "out", sources[3:4])
    heard = Listener()
    run(tmp_path / "out", sources, heard, palette="viridis")
    assert (len(heard.done_), heard.warned) == (7, [])


def test_a_finished_run_is_not_overwritten_by_other_settings_unless_by_force(
    tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out, heard = tmp_path / "undisturbed", Listener()
    with pytest.raises(UsageError, match=r"a finished run with other settings is in the way \(6 of 7 images") as caught:
        run(out, sources, palette="viridis")
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.fix.splitlines() == [
        "palette: auto -> viridis",
        "To keep its figures, choose another folder: --output DIR",
        "To replace them with the new figures: --force",
    ]
    assert files_of(out) == undisturbed
    run(out, sources, heard, palette="viridis", force=True)
    assert heard.done_ == names(sources)
    (warning,) = heard.warned
    assert "6 images done with other settings (palette: auto -> viridis): removed and done again" in warning
    run(tmp_path / "fresh", sources, palette="viridis")
    assert files_of(out) == files_of(tmp_path / "fresh") != undisturbed


def test_a_scale_of_the_whole_run_is_all_or_nothing(tmp_path: Path, sources: list[Source]) -> None:
    good = [source for source in sources if source.name != BROKEN]
    run(tmp_path / "plain", good, scale="run")
    run(tmp_path / "out", good, Listener(stop_after(3)), scale="run")
    heard = Listener()
    run(tmp_path / "out", good, heard, scale="run")
    assert heard.done_ == names(good)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "plain")
    heard = Listener()
    run(tmp_path / "out", good, heard, scale="run")
    assert heard.done_ == []
    run(tmp_path / "out", good[1:], heard, scale="run")
    assert heard.done_ == names(good)[1:]


def test_every_cut_of_the_last_line_is_recovered_from(
    tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    run(out, sources)
    journal = out / "manifest.jsonl"
    whole = journal.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in (start, start + 1, (start + len(whole)) // 2, len(whole) - 1):
        journal.write_bytes(whole[:cut])
        heard = Listener()
        run(out, sources, heard)
        assert heard.done_ == [BROKEN, sources[-1].name]
        assert files_of(out) == undisturbed
        assert all(line is not None for line in read_journal(journal))


def test_damaged_lines_are_told_and_done_again(
    tmp_path: Path, sources: list[Source], undisturbed: dict[str, bytes]
) -> None:
    out, heard = tmp_path / "undisturbed", Listener()
    journal = out / "manifest.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * 40 + lines[1][40:]
    lines[2] = lines[2].replace(b'"width":16', b'"width":17', 1)
    journal.write_bytes(b"".join(lines))
    run(out, sources, heard)
    assert heard.done_ == [*names(sources)[:2], BROKEN]
    assert "2 lines of the journal cannot be read" in heard.warned[0]
    assert files_of(out) == undisturbed


def test_what_a_killed_run_left_half_written_is_removed_and_nothing_else(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources, Listener(stop_after(2)))
    left = [out / ".cnnviz-0123456789ab.tmp", out / sources[5].name / ".cnnviz-0-of-2-0123456789ab.tmp"]
    kept = [out / ".cnnviz-notes.tmp", out / sources[5].name / "mine.tmp"]
    for path in left + kept:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    run(out, sources)
    assert [path.exists() for path in left + kept] == [False, False, True, True]


def test_a_second_process_stops_with_a_clear_message(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"

    def second(_count: int) -> None:
        with pytest.raises(OutputError, match="another process is working on this output folder") as caught:
            run(out, sources)
        assert caught.value.code is ExitCode.OUTPUT

    assert run(out, sources[:1], Listener(second)).status == "ok"
    assert run(out, sources[:1]).status == "ok"


FORKED = """
import os, sys, time
from pathlib import Path
from cnnviz_cli.files.output.file_lock import LockedFile, is_locked
held = LockedFile(Path(sys.argv[1]))
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, b"x")
    time.sleep(30)
    os._exit(0)
os.read(reader, 1)
assert is_locked(Path(sys.argv[1]))
held.close()
assert not is_locked(Path(sys.argv[1]))
os.kill(child, 9)
os.waitpid(child, 0)
"""


def test_a_lock_is_not_kept_alive_by_a_fork_and_follows_no_link(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKED, str(tmp_path / "lock")], check=True)
    (tmp_path / "link").symlink_to(tmp_path / "lock")
    with pytest.raises(OSError, match="link"):
        LockedFile(tmp_path / "link")
