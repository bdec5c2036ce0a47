"""From bytes to pictures: many at a time, each in a process whose memory and time are limited.

A picture that makes its decoder hang, crash or eat memory costs one process, which is started anew; the others of its
part are not touched, and its row says what happened.
"""

import base64
import binascii
import logging
import os
import queue
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mmkg.config.images import DecodeConfig
from mmkg.images.decoder_process import Answer, DecoderProcess, Died, TooSlow
from mmkg.images.formats import sniff_format
from mmkg.shards import TableWriter
from mmkg.tables import PICTURES

logger = logging.getLogger(__name__)

DECODER_VERSION = 1

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "not_a_picture": "nothing known by its content: text, noise, an empty file",
        "unsupported": "a known format that is not decoded: SVG, PDF, HTML, HEIF, …",
        "polyglot": "a picture that carries markup which a browser would run",
        "too_many_pixels": "its header states more pixels than the limit",
        "too_many_frames": "an animation or document of more frames than the limit",
        "bomb": "a text or profile in it is tiny when compressed and huge when not",
        "truncated": "it ends before its format says",
        "corrupt": "its decoder does not understand it",
        "too_much_memory": "it needs more memory than the limit",
        "too_slow": "it takes longer than the limit",
        "crashed": "its decoder dies, also in a fresh process",
    }
)

_TRIED_AGAIN = frozenset({"crashed", "too_much_memory"})
_ROWS_PER_BATCH = 256
_BATCH_BYTES = 32_000_000
_AHEAD = 16  # pictures a worker that may wait or be done while an earlier one is slow …
_AHEAD_BYTES = 64_000_000  # … and their bytes together
_ROWS_PER_SHARD = 512  # some 25 MB of normalised pictures: what a reader holds at a time
_ROWS_AT_ONCE = 16  # of an archive's part: served bytes are up to `max_bytes` each


class Decoder:
    """A pool of processes that decode pictures; a context manager.

    Args:
        config: limits, and how many processes.
    """

    def __init__(self, config: DecodeConfig) -> None:
        self._config = config
        self.workers = config.workers or available_cores()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()

    def __enter__(self) -> Self:
        """Begin; processes start with the first pictures."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().kill()

    def decode(self, rows: Iterable[tuple[str, bytes]]) -> pa.Table:
        """Decode some pictures.

        Args:
            rows: sha256 and bytes of each.

        Returns:
            The table `pictures`, in the order of the rows.

        Raises:
            ImageError: no process can be started.
        """
        return pa.Table.from_batches(self.stream(rows), PICTURES)

    def stream(self, rows: Iterable[tuple[str, bytes]]) -> Iterator[pa.RecordBatch]:
        """Decode pictures as they come, in their order, holding few of them.

        Raises:
            ImageError: no process can be started.
        """
        batch: list[dict[str, Any]] = []
        batch_bytes = 0
        for row in self._in_order(rows):
            batch.append(row)
            batch_bytes += len(row["normalised"] or b"")
            if len(batch) == _ROWS_PER_BATCH or batch_bytes >= _BATCH_BYTES:
                yield pa.RecordBatch.from_pylist(batch, PICTURES)
                batch, batch_bytes = [], 0
        if batch:
            yield pa.RecordBatch.from_pylist(batch, PICTURES)

    def _in_order(self, rows: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, Any]]:
        asked: deque[tuple[Future[dict[str, Any]], int]] = deque()
        ahead_bytes = 0
        try:
            for sha256, data in rows:
                asked.append((self._threads.submit(self._decode_one, sha256, data), len(data)))
                ahead_bytes += len(data)
                while len(asked) > _AHEAD * self.workers or (ahead_bytes > _AHEAD_BYTES and len(asked) > 1):
                    future, size = asked.popleft()
                    ahead_bytes -= size
                    yield future.result()
            while asked:
                yield asked.popleft()[0].result()
        finally:
            for future, _ in asked:
                future.cancel()

    def _decode_one(self, sha256: str, data: bytes) -> dict[str, Any]:
        """A row of `pictures`.

        What fails in a used process is tried once more in a fresh one, so that a process that somebody else killed, or
        whose memory others had filled, costs no picture, and the same picture always gets the same row.
        """
        try:
            process, was_fresh = self._idle.get_nowait(), False
        except queue.Empty:
            process, was_fresh = DecoderProcess(self._config), True
        facts = self._ask(process, data)
        if not was_fresh and facts["status"] in _TRIED_AGAIN:
            facts = self._ask(DecoderProcess(self._config), data)
        known = {"sha256": sha256, "format": sniff_format(data) or "unknown"}
        return dict.fromkeys(PICTURES.names) | known | facts

    def _ask(self, process: DecoderProcess, data: bytes) -> dict[str, Any]:
        """Have a picture decoded; the process is kept for the next one or, where it may have taken harm, ended."""
        try:
            facts = _read_answer(process.decode(data))
        except TooSlow as error:
            facts = {"status": "too_slow", "detail": str(error)}
        except Died as error:
            facts = {"status": "crashed", "detail": str(error)}
        if facts["status"] in {"too_slow", *_TRIED_AGAIN}:
            process.kill()
        else:
            self._idle.put(process)
        return facts


def _read_answer(answer: Answer) -> dict[str, Any]:
    """What a process says, as columns of `pictures`.

    Raises:
        Died: it says something else.
    """
    facts = {name: value for name, value in answer.facts.items() if name in PICTURES.names}
    is_whole = facts.get("status") != "ok" or (answer.normalised and facts.get("phash"))
    if facts.get("status") not in ["ok", *REFUSALS] or not is_whole:
        raise Died("an answer without a known status")
    try:
        facts["colours"] = base64.b64decode(facts.get("colours") or "", validate=True) or None
        facts["normalised"] = answer.normalised or None
        pa.RecordBatch.from_pylist([{"sha256": "", **facts}], PICTURES).validate()
    except (binascii.Error, TypeError, ValueError, pa.ArrowException) as error:
        raise Died("an answer that is no row of pictures") from error
    if not all(isinstance(facts.get(name), str) for name in ("detail", "format")):
        raise Died("an answer that is no row of pictures")
    return facts


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_part(config: DecodeConfig, part: Path, folder: Path, decoder: Decoder | None = None) -> dict[str, int]:
    """Decode one part of the archive `image_bytes` into the table `pictures` of a stage's folder.

    Args:
        config: limits.
        part: a Parquet file with the columns `sha256` and `bytes`.
        folder: of the stage; gets ``pictures/part-*.parquet``.
        decoder: one that is open already, for several parts.

    Returns:
        How many pictures there were (`pictures`), and how many of each status.
    """
    if decoder is None:
        with Decoder(config) as own:
            return decode_part(config, part, folder, own)
    statuses: Counter[str] = Counter()
    with pq.ParquetFile(part) as file, TableWriter(folder, "pictures", rows_per_shard=_ROWS_PER_SHARD) as writer:
        for batch in decoder.stream(_read_rows(file)):
            statuses.update(batch.column("status").to_pylist())
            writer.write(batch)
    refused = ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()) if status != "ok")
    logger.info("%s: %s pictures decoded%s", part.name, f"{statuses['ok']:,}", f", {refused}" if refused else "")
    return {"pictures": statuses.total(), "ok": statuses["ok"], **dict(sorted(statuses.items()))}


def _read_rows(file: pq.ParquetFile) -> Iterator[tuple[str, bytes]]:
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=["sha256", "bytes"], use_threads=False):
        yield from zip(batch.column("sha256").to_pylist(), batch.column("bytes").to_pylist(), strict=True)
