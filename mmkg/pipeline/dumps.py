"""From the config to finished reads: what is fetched, which dumps there are, and each of them read."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmkg.builds.retention import pull_folder
from mmkg.config import Config, LinkConfig, SourceConfig
from mmkg.shards import Stage, StageResult, digest, file_sha256, run_stage, write_json
from mmkg.sources import dump_names, find_dumps, read_dump, read_links
from mmkg.sources.reader import READER_VERSION

Progress = Callable[[int, int], None]
StepProgress = Callable[[str, int, int | None], None]
"""What is being fetched, decoded, embedded or loaded, how much of it is done, and how much there is, if known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dump:
    """One file to read: which section of the config names it, and what provenance calls it."""

    section: SourceConfig | LinkConfig
    path: Path
    name: str

    @property
    def is_link(self) -> bool:
        """Whether it holds identity links."""
        return isinstance(self.section, LinkConfig)


def fetch(config: Config, section: SourceConfig, progress: StepProgress | None = None) -> list[Path]:
    """Bring what a source names by URL or endpoint to this machine; what has not changed is not fetched again.

    Raises:
        FetchError: something cannot be fetched whole.
    """
    root = config.graph.folder
    if section.sparql is not None:
        from mmkg.sources.sparql import pull

        endpoint = section.sparql.endpoint
        told = None if progress is None else lambda done, total: progress(endpoint, done, total)
        return list(pull(section.sparql, pull_folder(root, section.sparql), progress=told).files)
    if not section.urls:
        return []
    from mmkg.sources.fetch import fetch_dumps

    downloads = fetch_dumps(section, config.fetch, root / "downloads", progress=progress)
    return [download.path for download in downloads]


def list_dumps(config: Config, fetched: Sequence[Sequence[Path]] = ()) -> list[Dump]:
    """All dumps that a config names, in its order.

    Args:
        config: describes the graph.
        fetched: for each of its sources, what `fetch` brought.

    Raises:
        DumpError: a path matches nothing.
    """
    brought = [*fetched, *[()] * (len(config.sources) + len(config.links) - len(fetched))]
    sections: tuple[SourceConfig | LinkConfig, ...] = (*config.sources, *config.links)
    found = [
        (section, path)
        for section, files in zip(sections, brought, strict=True)
        for path in (*find_dumps(section.paths), *files)
    ]
    names = dump_names([path for _, path in found])
    return [Dump(section=section, path=path, name=name) for (section, path), name in zip(found, names, strict=True)]


def dump_digest(root: Path, path: Path) -> str:
    """SHA-256 of a dump, remembered by its size and time of change so that an unchanged dump is not read again."""
    status = path.stat()
    known_path = root / "dump_digests" / f"{digest(str(path.resolve()))}.json"
    identity = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino]
    if known_path.exists():
        known = json.loads(known_path.read_text(encoding="utf-8"))
        if known["identity"] == identity:
            return str(known["sha256"])
    sha256 = file_sha256(path)
    known_path.parent.mkdir(parents=True, exist_ok=True)
    write_json(known_path, {"identity": identity, "sha256": sha256})
    return sha256


def read(config: Config, dump: Dump, progress: Progress | None = None) -> StageResult:
    """Read one dump into `triples_raw`, `qualifiers_raw`, `rejects` and `dumps`."""
    root = config.graph.folder
    settings = dump.section.model_dump(mode="json", include={"kind", "name", "base_iri"})
    stage = Stage(
        name="read",
        version=READER_VERSION,
        inputs={dump.name: dump_digest(root, dump.path)},
        settings={**settings, "link": dump.is_link},
    )

    def work(folder: Path) -> dict[str, Any]:
        workers = config.graph.workers or os.cpu_count() or 1
        if isinstance(dump.section, LinkConfig):
            counts = read_links(dump.section, dump.path, dump.name, folder, workers=workers, progress=progress)
        else:
            counts = read_dump(dump.section, dump.path, dump.name, folder, workers=workers, progress=progress)
        return dataclasses.asdict(counts)

    return run_stage(root / "stages", stage, work, resumable=True)
