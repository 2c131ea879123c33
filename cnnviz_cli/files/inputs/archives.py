"""Zip and tar archives of images, read in place: nothing is ever unpacked onto the disk."""

from collections.abc import Iterator
from pathlib import Path

from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.inputs.folder_walk import natural_key
from cnnviz_cli.files.inputs.image_source import ArchiveMember, BrokenArchiveError, UnreadableContent

_PACKINGS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}
ARCHIVE_SUFFIXES = (".zip", *_PACKINGS)

_LONGEST = 1000  # of a member's name, in characters; a path on a disk is hardly longer


def is_archive(name: str) -> bool:
    """Whether a file is taken for an archive; its name says so."""
    return name.casefold().endswith(ARCHIVE_SUFFIXES)


def list_archive(path: Path) -> Iterator[ArchiveMember]:
    """The files of an archive under names that are harmless, in natural order.

    Of a compressed tar archive in its own order, since it can only be read forwards. What is hidden is left out.
    Archives in archives are files like others. Where the archive breaks off, a last member with an empty name says why.
    """
    found = _until_broken(path)
    yield from sorted(found, key=_order) if path.name.casefold().endswith((".zip", ".tar")) else found


def _order(member: ArchiveMember) -> tuple[bool, str]:
    return not member.name, "\0".join(map(natural_key, member.name.split("/")))


def _until_broken(path: Path) -> Iterator[ArchiveMember]:
    count = 0
    try:
        for member in _raw(path):
            name = _harmless(member.name)
            if name and not any(part.startswith(".") for part in name.split("/")):
                count += 1
                yield ArchiveMember(name, member.reader)
    except (BrokenArchiveError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else escape_text(str(error), 160)
        after = f" after {count:,} of its files" if count else ""
        yield ArchiveMember("", UnreadableContent(f"this archive cannot be read{after}: {why}"))


def _raw(path: Path) -> Iterator[ArchiveMember]:
    # Not at the top, since most runs see no archive.
    from cnnviz_cli.files.inputs import tar_archive, zip_archive

    name = path.name.casefold()
    if name.endswith(".zip"):
        return zip_archive.list_zip(path)
    return tar_archive.list_tar(path, next(packing for suffix, packing in _PACKINGS.items() if name.endswith(suffix)))


def _harmless(name: str) -> str:
    """A member's name as a path below the archive: nothing leads upwards or to the root, and nothing ends it early."""
    parts = [part for part in name.replace("\0", "\\x00").split("/") if part not in ("", ".", "..")]
    short = "/".join(parts)
    return short if len(short) <= _LONGEST else f"{short[: _LONGEST // 2]}…{short[-_LONGEST // 2 :]}"
