"""The errors that a user of mmkg can meet: each says where, what was expected, what was found, and what to do.

Everything raised on purpose derives from :class:`MmkgError`; the command line prints its message and exits with 1.
Any other exception is a bug of ours and keeps its traceback.
"""

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any


class MmkgError(Exception):
    """Base of all errors that mmkg raises on purpose."""


class ConfigError(MmkgError):
    """A setting is missing, unknown, or has a value that cannot be used."""


class NotInstalled(MmkgError):  # noqa: N818 - reads as what it says
    """A package of an extra is not installed."""


class DumpError(MmkgError):
    """A dump cannot be read at all: missing, truncated, or not what its kind says."""


class FetchError(MmkgError):
    """A dump or an answer cannot be fetched whole: unreachable, refused, cut, or not what it was."""


class ShardError(MmkgError):
    """A shard, manifest or table folder is missing, half-written, or not what its manifest says."""


class BuildError(MmkgError):
    """A build cannot be made, found or switched to."""


class CheckFailed(BuildError):  # noqa: N818
    """A finished build does not pass the checks of its config; the previous one keeps being served."""

    def __init__(self, message: str, report: Any = None, folder: Path | None = None) -> None:
        super().__init__(message)
        self.report = report
        """The mmkg.builds.checks.CheckReport with every check, or None."""
        self.folder = folder
        """Of the version that is not served, or None."""


class StoreError(MmkgError):
    """A store cannot be opened, loaded or verified."""


class OtherBuildServed(StoreError):  # noqa: N818
    """A server holds another build than the one that is to be asked; it holds one at a time."""


class QueryError(StoreError):
    """The store refused a query; carries the engine's own message."""


class NotFound(MmkgError):  # noqa: N818
    """No entity, relation or build is called so."""


class ImageError(MmkgError):
    """Pictures cannot be found, fetched or decoded at all; what is wrong with one of them is a row."""


class EmbeddingError(MmkgError):
    """An embedder cannot be opened, or vectors are not those that were asked for."""


class TrainingError(MmkgError):
    """A run cannot be started, resumed or evaluated."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that nothing has: the nearest known one, and all of them.

    >>> unknown_name("source", "dbpeda", ["dbpedia", "freebase"])
    "no source is called 'dbpeda'. Did you mean 'dbpedia'? Known: dbpedia, freebase."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"no {kind} is called '{name}'.{hint} Known: {', '.join(names) or 'none'}."


def require(module: str, *, extra: str, needed_by: str) -> ModuleType:
    """Import a package of an extra, or say how to install it.

    Args:
        module: what to import, e.g. ``"dgl"``.
        extra: the extra of mmkg that brings it, e.g. ``"graph"``.
        needed_by: who asks, in the user's words, e.g. ``"the RGAT encoder"``.

    Raises:
        NotInstalled: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise NotInstalled(
                f"{needed_by} needs '{package}', which is installed but does not import: {error}. "
                f"Reinstall it: pip install --force-reinstall 'mmkg[{extra}]'"
            ) from error
        raise NotInstalled(f"{needed_by} needs '{package}': pip install 'mmkg[{extra}]'") from error
