"""Reading the dumps of knowledge bases: from lines of files to `triples_raw`, `qualifiers_raw`, `rejects`, `dumps`.

No line is lost: lines = triples + qualifiers + rejects + comments + blank, for every dump. To add a source: one file
that introduces itself, one line in `SOURCES`, one entry in ``tests/contracts/test_source.py``.

The way of a line: `streams` decompresses, `blocks` cuts, `sniff` sees the syntax, `tokenizer` and `gather` (N-Triples),
`lines_turtle`, `lines_tsv` or `document` (all else) make rows of it, `reader` spreads the work and writes the tables.
"""

from pathlib import Path

from mmkg.config import LinkConfig, SourceConfig
from mmkg.errors import ConfigError, unknown_name
from mmkg.sources import dbpedia, freebase, mmkb, ntriples, sparql, tsv, yago
from mmkg.sources.base import REJECT_REASONS, DumpCounts, Source, SourceInfo, dump_names, find_dumps
from mmkg.sources.links import LINKS
from mmkg.sources.reader import READER_VERSION, Progress, read_one_dump

SOURCES: dict[str, Source] = {
    "freebase": freebase.SOURCE,
    "dbpedia": dbpedia.SOURCE,
    "yago": yago.SOURCE,
    "mmkb": mmkb.SOURCE,
    "ntriples": ntriples.SOURCE,
    "tsv": tsv.SOURCE,
    "sparql": sparql.SOURCE,
}

__all__ = [
    "LINKS",
    "READER_VERSION",
    "REJECT_REASONS",
    "SOURCES",
    "DumpCounts",
    "Progress",
    "Source",
    "SourceInfo",
    "dump_names",
    "find_dumps",
    "read_dump",
    "read_links",
]


def read_dump(
    source: SourceConfig,
    dump: Path,
    name: str,
    folder: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> DumpCounts:
    """Read one dump into the tables `triples_raw`, `qualifiers_raw`, `rejects` and `dumps` of a folder.

    The folder is for this dump alone. What an interrupted reading of the same dump left there is used; anything else of
    these tables is replaced. The same dump gives the same bytes, whatever `workers`.

    Args:
        source: the kind, what provenance calls the source, and the base of relative names.
        dump: the file; its compression and syntax are seen by its content.
        name: what provenance calls the dump, from :func:`dump_names`.
        folder: where the tables go.
        workers: processes; 1 reads in this one.
        progress: called with the lines and the bytes on disk that have been read so far.

    Raises:
        ConfigError: no source is of this kind.
        DumpError: the dump is missing, truncated, damaged, or not of this kind; nothing of it stays in the folder.
    """
    if source.kind not in SOURCES:
        raise ConfigError(unknown_name("kind of source", source.kind, SOURCES))
    kind = SOURCES[source.kind]
    return read_one_dump(kind, source, dump, name, folder, workers=workers, progress=progress)


def read_links(
    link: LinkConfig,
    dump: Path,
    name: str,
    folder: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> DumpCounts:
    """Read one dump of identity links; as :func:`read_dump`, but whatever is no link is a reject.

    Raises:
        DumpError: the dump is missing, truncated, damaged, or not of this kind; nothing of it stays in the folder.
    """
    kind = LINKS[link.kind]
    return read_one_dump(kind, link, dump, name, folder, workers=workers, progress=progress)
