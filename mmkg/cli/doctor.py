"""What ``mmkg doctor`` looks at: Python, packages and pairs of packages known to break, memory, disk, the atlas."""

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmkg.cli.atlas import atlas_folder
from mmkg.errors import ConfigError, MmkgError

_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    verdict: str  # ok | missing (an extra that is not installed) | fault
    found: str
    remedy: str = ""


def installed(package: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine() -> list[Finding]:
    """Run every check; none stops the others."""
    return [check() for check in _CHECKS]


def _python() -> Finding:
    return Finding("python", "ok", sys.version.split()[0])  # 3.11 or later, or this file had not been imported


def _importable(package: str, module: str, extra: str | None) -> Callable[[], Finding]:
    """A check that a package is there and imports."""
    where = f"mmkg[{extra}]" if extra else "mmkg"

    def check() -> Finding:
        found = installed(package)
        if found is None:
            return Finding(package, "missing" if extra else "fault", "not installed", f"pip install '{where}'")
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - a broken package may raise anything; it becomes a finding
            reason = f"{found}, does not import: {type(error).__name__}: {error}"
            return Finding(package, "fault", reason, f"pip install --force-reinstall '{where}'")
        return Finding(package, "ok", found)

    return check


def _dgl() -> Finding:
    os.environ.setdefault("DGLBACKEND", "pytorch")
    found = installed("dgl")
    if found is not None and found != "1.1.3":
        return Finding("dgl", "fault", found, "pip install dgl==1.1.3 (the last one that imports on a current torch)")
    return _importable("dgl", "dgl", "graph")()


def _prefect_and_fastapi() -> Finding:
    prefect, fastapi = installed("prefect"), installed("fastapi")
    if prefect is None or fastapi is None:
        return Finding("prefect + fastapi", "missing", "not installed", "pip install 'mmkg[flows]'")
    pair = f"{prefect} + {fastapi}"
    if prefect.startswith("3.8") and tuple(int(part) for part in fastapi.split(".")[:2]) >= (0, 140):
        return Finding("prefect + fastapi", "fault", pair, "pip install 'fastapi<0.140' (prefect 3.8 does not start)")
    return Finding("prefect + fastapi", "ok", pair)


def _ladybug_and_kuzu() -> Finding:
    ladybug, kuzu = installed("ladybug"), installed("kuzu")
    if ladybug and kuzu:
        return Finding(
            "ladybug + kuzu", "fault", f"{ladybug} + {kuzu}", "pip uninstall kuzu (they crash in one process)"
        )
    if ladybug != "0.22.0":
        return Finding("ladybug", "fault", ladybug or "not installed", "pip install ladybug==0.22.0")
    return Finding("ladybug", "ok", ladybug)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    if total < 4:
        return Finding(
            "memory", "fault", f"{total:.1f} GiB", "4 GiB or more; or lower graph.memory_limit in the config"
        )
    return Finding("memory", "ok", f"{total:.1f} GiB")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / _GIB
    if free < 2:
        return Finding(
            "disk", "fault", f"{free:.1f} GiB free here", "free some space: a build needs about twice its dumps"
        )
    return Finding("disk", "ok", f"{free:.1f} GiB free here")


def _atlas() -> Finding:
    try:
        atlas_folder()
    except ConfigError as error:
        return Finding("atlas", "fault", "missing", str(error))
    return Finding("atlas", "ok", "bundled")


def _neo4j_server() -> Finding:
    """Whether the server that NEO4J_URI names answers; nothing to look at where that is not set."""
    uri = os.environ.get("NEO4J_URI", "")
    if uri in ("", "embedded"):
        return Finding("neo4j server", "ok", "not asked for (NEO4J_URI is not set)")
    if installed("neo4j") is None:
        return Finding("neo4j server", "missing", uri, "pip install 'mmkg[neo4j]'")
    from pydantic import ValidationError

    from mmkg.config import StoreConfig
    from mmkg.store.neo4j import open_driver

    try:
        config = StoreConfig(uri=uri, user=os.environ.get("NEO4J_USER", "neo4j"))
        with open_driver(config) as driver:
            found = driver.get_server_info().agent
    except ValidationError as error:
        return Finding("neo4j server", "fault", uri, f"set NEO4J_URI: {error.errors()[0]['msg']}")
    except MmkgError as error:
        return Finding("neo4j server", "fault", f"{uri} cannot be used", str(error))
    return Finding("neo4j server", "ok", f"{found} at {uri}")


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _memory,
    _disk,
    _atlas,
    _importable("pyarrow", "pyarrow", None),
    _importable("duckdb", "duckdb", None),
    _importable("pyoxigraph", "pyoxigraph", None),
    _importable("numba", "numba", None),
    _ladybug_and_kuzu,
    _importable("torch", "torch", "graph"),
    _dgl,
    _prefect_and_fastapi,
    _importable("neo4j", "neo4j", "neo4j"),
    _neo4j_server,
    _importable("SPARQLWrapper", "SPARQLWrapper", "sparql"),
    _importable("Pillow", "PIL.Image", None),
    _importable("open_clip_torch", "open_clip", "images"),
    _importable("usearch", "usearch.index", "images"),
    _importable("sentence-transformers", "sentence_transformers", "sentence"),
    _importable("transformers", "transformers", "llm"),
    _importable("peft", "peft", "llm"),
)
