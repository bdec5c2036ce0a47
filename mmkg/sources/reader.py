"""Reading one dump: blocks go to worker processes, each writes its own shard, and the counts must add up.

The fourth step on the way of a fact: rows reach the disk as `triples_raw`, `qualifiers_raw`, `rejects` and `dumps`. A
shard is known to be whole by a small file with its counts, which is written after it; a run that was killed leaves
whole shards behind, and the next run does not parse their blocks again.
"""

import itertools
import json
import logging
import multiprocessing
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.config import LinkConfig, SourceConfig
from mmkg.errors import DumpError
from mmkg.shards import digest, file_sha256, write_json, write_shard
from mmkg.sources.base import (
    Block,
    Counts,
    DocumentForm,
    DumpCounts,
    Form,
    LineContext,
    LineForm,
    LineRejected,
    ParsedBlock,
    Source,
)
from mmkg.sources.blocks import BLOCK_BYTES, BOM, cut_blocks
from mmkg.sources.document import TABLES, read_document
from mmkg.sources.lines_turtle import prefix_lines
from mmkg.sources.rows import RowCollector
from mmkg.sources.sniff import SNIFF_BYTES, foreign_content
from mmkg.sources.streams import open_stream
from mmkg.tables import SCHEMAS

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the lines read so far and the bytes read of the file on disk."""

READER_VERSION = 2
"""Raised when the same dump would give other rows; part of what an interrupted run is recognised by."""
_INLINE_BLOCKS = 3  # a dump of so few blocks is read in this process: starting others would take longer
_MANY_LINES = 100
_BLOCKS_FOLDER = "blocks"
_KEY_FILE = "reading.json"


def read_one_dump(
    source: Source,
    settings: SourceConfig | LinkConfig,
    dump: Path,
    name: str,
    folder: Path,
    *,
    workers: int,
    progress: Progress | None,
    block_bytes: int = BLOCK_BYTES,
) -> DumpCounts:
    """Read a dump into the tables of `folder`; see :func:`mmkg.sources.read_dump`."""
    workers = workers or os.cpu_count() or 1
    if not dump.is_file():
        raise DumpError(f"{dump}: no such dump. Paths in a config are relative to the config file.")
    base_iri = getattr(settings, "base_iri", "")
    sha256 = file_sha256(dump)
    head = _read_head(dump)
    form = source.choose_form(head, base_iri)
    key = digest([READER_VERSION, sha256, source.kind, settings.name, name, base_iri, form.name, block_bytes])
    finished = _resume(folder, key)
    if finished is not None:
        return finished
    context = LineContext(source=settings.name, dump=name, base_iri=base_iri or form.base_iri)
    try:
        counts = _read(source, form, dump, head, context, folder, workers, progress, block_bytes)
        result = DumpCounts(
            source=settings.name,
            kind=source.kind,
            dump=name,
            form="document" if isinstance(form, DocumentForm) else "lines",
            sha256=sha256,
            bytes=dump.stat().st_size,
            **vars(counts),
        )
        _check_and_log(result, dump)
    except DumpError:
        _clear(folder)
        raise
    _finish(folder, result, key)
    return result


def _read_head(dump: Path) -> bytes:
    with open_stream(dump) as stream:
        return stream.read(SNIFF_BYTES).removeprefix(BOM)


def _read(
    source: Source,
    form: Form,
    dump: Path,
    head: bytes,
    context: LineContext,
    folder: Path,
    workers: int,
    progress: Progress | None,
    block_bytes: int,
) -> Counts:
    with open_stream(dump, workers=workers) as stream:
        if isinstance(form, DocumentForm):
            if words := foreign_content(head):
                raise DumpError(f"{dump}: this is {words}, not a dump of the kind '{source.kind}'.")
            counts = read_document(dump, stream, form, context, folder, progress)
        else:
            blocks = cut_blocks(stream, block_bytes=block_bytes)
            counts = Counts()
            for number, block_counts in _parse_blocks(blocks, form, context, folder, workers):
                if number == 0:
                    _check_kind(source, dump, head, block_counts, folder)
                counts.add(block_counts)
                if progress is not None:
                    progress(counts.lines, stream.bytes_read)
    return counts


def _parse_blocks(
    blocks: Iterator[Block], form: LineForm, context: LineContext, folder: Path, workers: int
) -> Iterator[tuple[int, Counts]]:
    """Parse blocks here or in worker processes; the counts come in the order of the blocks."""
    prefixed = _with_prefixes(blocks, form, context)
    # processes take seconds to start, threads do not: without the former, the first block need not wait
    ahead = 0 if form.compiled else _INLINE_BLOCKS
    first = deque(itertools.islice(prefixed, ahead))
    everything = itertools.chain(_drain(first), prefixed)
    if workers == 1 or len(first) < ahead:
        for block, ctx in everything:
            yield block.number, parse_into_shard(block, form, ctx, folder)
        return
    pool = _start_pool(form, workers)
    try:
        waiting: deque[tuple[int, Future[Counts]]] = deque()
        for block, ctx in everything:
            waiting.append((block.number, pool.submit(parse_into_shard, block, form, ctx, folder)))
            del block
            while len(waiting) > workers:
                number, future = waiting.popleft()
                yield number, future.result()
        while waiting:
            number, future = waiting.popleft()
            yield number, future.result()
    except BrokenProcessPool as error:
        raise DumpError(
            f"{context.dump}: a process that parsed it was killed, most likely because memory ran out. "
            "Set graph.workers lower and run again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_pool(form: LineForm, workers: int) -> Executor:
    """Threads where parsing is compiled and free of the interpreter's lock, processes where it is Python."""
    if form.compiled:
        return ThreadPoolExecutor(workers, thread_name_prefix="mmkg-read")
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if isinstance(context, ForkServerContext):
        context.set_forkserver_preload([__name__])  # imported once, not by each process
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_with_parent)


def _drain(first: deque[tuple[Block, LineContext]]) -> Iterator[tuple[Block, LineContext]]:
    """Give the blocks away, so that none is held longer than it is needed."""
    while first:
        yield first.popleft()


def _leave_with_parent() -> None:
    """End this worker when the process that started it is gone, even if it was killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _with_prefixes(
    blocks: Iterator[Block], form: LineForm, context: LineContext
) -> Iterator[tuple[Block, LineContext]]:
    prefixes = b""
    for block in blocks:
        if form.has_prefixes:
            yield (
                block,
                LineContext(source=context.source, dump=context.dump, base_iri=context.base_iri, prefixes=prefixes),
            )
            prefixes += prefix_lines(block.data)
        else:
            yield block, context


def parse_into_shard(block: Block, form: LineForm, context: LineContext, folder: Path) -> Counts:
    """Parse a block and write its shards, unless an earlier run has; returns what became of its lines."""
    done = folder / _BLOCKS_FOLDER / f"{block.number:05d}.json"
    if done.exists():
        return Counts(**json.loads(done.read_text(encoding="utf-8")))
    parsed = _parse_oversized(block, context) if block.oversized_bytes else form.parse(block, context)
    if parsed.counts.accounted != parsed.counts.lines:
        raise DumpError(
            f"{context.dump}: lines {block.first_line:,} and following: {parsed.counts.lines:,} lines were read, but "
            f"only {parsed.counts.accounted:,} are accounted for. This is a bug of mmkg: please report it."
        )
    for table, rows in parsed.tables.items():
        write_shard(folder / table / f"part-{block.number:05d}.parquet", rows)
    write_json(done, vars(parsed.counts))
    return parsed.counts


def _parse_oversized(block: Block, context: LineContext) -> ParsedBlock:
    collector = RowCollector(context)
    collector.counts.lines = 1
    error = LineRejected("too_long", f"a line of {block.oversized_bytes:,} bytes")
    collector.reject(block.first_line, block.offset, error, block.data, block.oversized_bytes)
    return ParsedBlock(tables=collector.tables(), counts=collector.counts)


def _check_kind(source: Source, dump: Path, head: bytes, counts: Counts, folder: Path) -> None:
    """Refuse a file of whose first block every line was rejected: it is something else."""
    statements = counts.lines - counts.comments - counts.blank
    if not statements or counts.rejects < statements:
        return
    words = foreign_content(head)
    if words is None and statements < _MANY_LINES:
        return
    rows = pq.read_table(folder / "rejects" / "part-00000.parquet").slice(0, 3).to_pylist()
    shown = "".join(f"\n  line {row['line']}: {_shorten(row['raw'])}  ({row['reason']})" for row in rows)
    what = f"this is {words}" if words else f"all of the first {statements:,} lines were rejected"
    raise DumpError(
        f"{dump}: not a dump of the kind '{source.kind}': {what}. Expected: {source.info.expects}. Found:{shown}\n"
        "Give this file another kind, or leave it out."
    )


def _shorten(raw: bytes) -> str:
    text = repr(raw[:100])[2:-1]
    return text + (" …" if len(raw) > 100 else "")


def _check_and_log(counts: DumpCounts, dump: Path) -> None:
    if counts.form == "lines" and counts.accounted != counts.lines:
        raise DumpError(
            f"{dump}: {counts.lines:,} lines were read, but only {counts.accounted:,} are accounted for. "
            "This is a bug of mmkg: please report it."
        )
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.reasons.items()))
    logger.info(
        "%s %s: %s lines = %s triples + %s qualifiers + %s rejects%s + %s comments + %s blank; %s repaired",
        *(counts.source, counts.dump, f"{counts.lines:,}", f"{counts.triples:,}", f"{counts.qualifiers:,}"),
        *(f"{counts.rejects:,}", f" ({reasons})" if reasons else "", f"{counts.comments:,}", f"{counts.blank:,}"),
        f"{counts.repaired:,}",
    )
    if counts.lines == 0:
        logger.warning("%s: an empty dump", dump)


def _resume(folder: Path, key: str) -> DumpCounts | None:
    """Keep what an interrupted run of the same reading left in `folder`, else clear it; counts if it was finished."""
    dumps = folder / "dumps" / "part-00000.parquet"
    if dumps.exists():
        metadata = pq.read_schema(dumps).metadata or {}
        if metadata.get(b"reading") == key.encode():
            _remove_traces(folder)
            return DumpCounts(**pq.read_table(dumps).to_pylist()[0], reasons=json.loads(metadata[b"reasons"]))
    key_file = folder / _BLOCKS_FOLDER / _KEY_FILE
    if not key_file.exists() or json.loads(key_file.read_text(encoding="utf-8")) != key:
        _clear(folder)
        (folder / _BLOCKS_FOLDER).mkdir(parents=True)
        write_json(key_file, key)
    return None


def _clear(folder: Path) -> None:
    _remove_traces(folder)
    for name in (*TABLES, "dumps"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _remove_traces(folder: Path) -> None:
    shutil.rmtree(folder / _BLOCKS_FOLDER, ignore_errors=True)


def _finish(folder: Path, counts: DumpCounts, key: str) -> None:
    """Write the row of `dumps`; give a table without rows its one empty shard, so that readers meet its columns."""
    for table in TABLES:
        if not any((folder / table).glob("part-*.parquet")):
            write_shard(folder / table / "part-00000.parquet", SCHEMAS[table].empty_table())
    row = pa.table({name: [getattr(counts, name)] for name in SCHEMAS["dumps"].names}, schema=SCHEMAS["dumps"])
    about = {"reading": key, "reasons": json.dumps(counts.reasons, sort_keys=True)}
    write_shard(folder / "dumps" / "part-00000.parquet", row.replace_schema_metadata(about))
    _remove_traces(folder)
