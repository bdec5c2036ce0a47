"""What fails on the loader's own machine, as errors of ours: its disk, its folders, its memory."""

import errno
import ssl
from pathlib import Path

import duckdb

from mmkg.errors import StoreError

ENGINE_ERRORS = (duckdb.IOException, duckdb.OutOfMemoryException)  # all others of the engine are mistakes of ours
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
# The way to a server fails with others; the driver makes errors of its own of what its sockets say.
_OF_FILES = _FULL | _REFUSED | {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO}
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "max_temp_directory_size")


def explain_local(error: BaseException, folder: Path, memory_limit: str) -> StoreError | None:
    """Our error for one of this machine's; None where the server, or the way to it, is the matter.

    Args:
        error: the operating system's, Arrow's, DuckDB's, the driver's or the server's.
        folder: of the loader's own files: errors of Arrow and DuckDB may not name any.
        memory_limit: of the relational engine.
    """
    if isinstance(error, ENGINE_ERRORS):
        words = str(error).partition("\n")[0]
        if any(full in str(error) for full in _FULL_WORDS):
            return _full(folder, words)
        if isinstance(error, duckdb.OutOfMemoryException):
            return StoreError(
                f"graph.memory_limit = {memory_limit}: the relational engine needs more ({words}). Raise it, then run "
                "the same again."
            )
        return StoreError(
            f"{folder}: the relational engine cannot read or write a file ({words}). Mend that on this machine, then "
            "run the same again."
        )
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
        return None
    if error.filename is None and error.errno not in _OF_FILES:
        return None
    path = folder if error.filename is None else error.filename
    if error.errno in _FULL:
        return _full(path, error.strerror)
    if error.errno in _REFUSED:
        return StoreError(
            f"{path}: this user may not read or write it ({error.strerror}). Make that possible, or choose a folder "
            "where it is, then run the same again."
        )
    return StoreError(f"{path}: {error.strerror}. Mend that on this machine, then run the same again.")


def _full(path: object, words: str | None) -> StoreError:
    return StoreError(
        f"{path}: the disk of this machine is full ({words}). Free some space there, then run the same again."
    )
