"""Arrays in files of numpy's (.npz, .npy) that anyone may have written: within bounds, no pickles, one error."""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from cnnviz_cli.core.file_reading import oversize_error
from cnnviz_cli.core.text import all_lines

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

NPZ, NPY = b"PK", b"\x93NUMPY"
"""What the bytes of each kind begin with; numpy takes all others for a pickle."""


class ArrayFileError(Exception):
    """Why the bytes are not those of arrays, in one line."""


def read_npz(
    data: bytes, max_bytes: int, *, names: Collection[str] | None = None, max_arrays: int | None = None
) -> dict[str, Array]:
    """The arrays of an .npz file: all, or those of these names that are there.

    Args:
        max_bytes: what they unpack to at the most. An archive says so before any of it is unpacked.
        max_arrays: how many there are at the most.

    Raises:
        OversizeError: there is more.
        ArrayFileError: the bytes are no archive, are damaged, or hold what is no array.
    """
    import numpy as np

    if not data.startswith(NPZ):
        raise ArrayFileError("it is no archive of numpy's")
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            wanted = [name for name in file.files if names is None or name in names]
            unpacked = sum(one.file_size for one in file.zip.infolist() if one.filename.removesuffix(".npy") in wanted)
            if unpacked <= max_bytes and (max_arrays is None or len(wanted) <= max_arrays):
                return {name: _as_array(file[name]) for name in wanted}
    except Exception as error:  # of numpy, of zipfile, of what unpacks for it: a dozen kinds
        raise _unreadable(error) from error
    raise oversize_error(max_bytes)


def read_npy(data: bytes) -> Array:
    """The array of an .npy file. Raises ArrayFileError where the bytes are none."""
    import numpy as np

    if not data.startswith(NPY):
        raise ArrayFileError("it is no array of numpy's (.npy)")
    try:
        return _as_array(np.load(BytesIO(data), allow_pickle=False))
    except Exception as error:  # as above
        raise _unreadable(error) from error


def _as_array(found: Any) -> Array:
    if isinstance(found, bytes):  # what numpy makes of a member that is no array
        raise ArrayFileError("it holds what is no array")
    array: Array = found
    return array


def _unreadable(error: Exception) -> ArrayFileError:
    if isinstance(error, BadZipFile):
        return ArrayFileError("it is no archive of numpy's, or is damaged")
    return ArrayFileError("it does not fit into memory" if isinstance(error, MemoryError) else all_lines(error))
