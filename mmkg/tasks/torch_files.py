"""Files of ``torch.save``, read as data (tensors, numbers, texts, lists, dictionaries) while no code of them runs."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.errors import DumpError, require
from mmkg.tasks.edge_split import Int64Array

NEEDED_BY = "the reader of files of torch.save"

_REFUSED = re.compile(r"Unsupported global: GLOBAL (\S+)")


def load_saved(path: Path) -> Any:
    """Return what ``torch.save`` wrote, on the CPU; large tensors are mapped, not read.

    Raises:
        DumpError: the file is missing, cut, damaged, or holds more than data.
        NotInstalled: torch is missing.
    """
    torch = require("torch", extra="graph", needed_by=NEEDED_BY)
    if not path.is_file():
        raise DumpError(f"{path}: no such file. Put it there.")
    try:
        # files of torch before 1.6 are no zip archives, and cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (EOFError, KeyError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        if refused := _REFUSED.search(str(error)):
            raise DumpError(
                f"{path}: expected tensors, numbers, texts, lists and dictionaries, found {refused[1]}. Loading such a "
                "file can run code that is in it. If you trust it, load it with torch.load(…, weights_only=False), "
                "turn what it holds into tensors, and torch.save it anew."
            ) from error
        found = str(error).partition("\n")[0]
        raise DumpError(
            f"{path}: expected a file of torch.save, found it cut, damaged or another one ({found}). Fetch it again."
        ) from error


def mapping_of(found: Any, where: Path | str) -> Mapping[Any, Any]:
    """Return what was found if it is a dictionary.

    Raises:
        DumpError: it is something else; ``where`` begins the message.
    """
    if not isinstance(found, Mapping):
        raise DumpError(f"{where}: expected a dictionary, found a {type(found).__name__}. Is it another file?")
    return found


def array_of(found: Any, where: str) -> np.ndarray[Any, Any]:
    """Return a tensor, a list of numbers, or lists of lists, as an array.

    Raises:
        DumpError: it is something else; ``where`` begins the message.
    """
    torch = require("torch", extra="graph", needed_by=NEEDED_BY)
    try:
        return torch.as_tensor(found).numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DumpError(f"{where}: expected numbers, found a {type(found).__name__} ({error}).") from error


def nodes_of(found: Any, where: str, num_nodes: int) -> Int64Array:
    """Return whole numbers of any shape, each a node: 0 … ``num_nodes`` - 1.

    Raises:
        DumpError: they are other numbers; ``where`` begins the message.
    """
    value = array_of(found, where)
    if not value.size:
        return value.astype(np.int64)
    if value.dtype.kind not in "iu":
        raise DumpError(f"{where}: expected nodes, whole numbers, found {value.dtype}.")
    outside = (value < 0) | (value >= num_nodes)
    if outside.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(outside))
        raise DumpError(
            f"{where}, row {place[0]}: expected a node, 0 to {num_nodes - 1}, found {value[place]}. "
            f"{np.count_nonzero(outside):,} of {value.size:,} are out of range: are the files of one graph?"
        )
    return value.astype(np.int64)


def vector_of(found: Any, where: str, num_nodes: int) -> Int64Array:
    """Return (E,) nodes; a matrix of one column counts as a vector.

    Raises:
        DumpError: it is something else; ``where`` begins the message.
    """
    value = nodes_of(found, where, num_nodes)
    if value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim != 1:
        raise DumpError(f"{where}: expected one node a row, found shape {shape_text(value)}.")
    return value


def shape_text(value: np.ndarray[Any, Any]) -> str:
    """Return the shape of an array as people write it: ``3 × 2``."""
    return " × ".join(map(str, value.shape)) or "a single number"
