"""Reading, decoding, the model and the disk at the same time, each in threads of its own.

::

    contents ──read──▶ decode workers ──batches──▶ a model on each device ──rows──▶ archive, a part at a time

The calling thread carries rows from one to the next, keeps them in order, and is the only one that decides. At most
``rows_per_shard`` rows are between a model's input and the disk, so that a killed run does no more than that again.
"""

import itertools
import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.base import Embedder, Modality, OutOfMemory
from mmkg.errors import EmbeddingError
from mmkg.shards import Archive

logger = logging.getLogger(__name__)

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told the number of rows that this run has brought to disk, after each part."""

_BATCHES_AHEAD = 2  # a device: one that it works on, one that waits for it
_DECODED_AHEAD = 3  # batches a device that are decoded or being decoded
_CONTENTS_PER_TASK = 8  # of a decode worker: a task for each would cost the calling thread more than it brings
_FIRST_PART = 0.75  # of rows_per_shard: the rest may come from the models while a part is on its way to disk
# On a CPU, rows of a batch of 1 to 7 differ in the last digit from those of larger ones; those are all equal.
_ROWS_MULTIPLE = 8
_NO_ROW = "the model gives a row that is not finite, or all zeros"
_STAGES = ("read", "decode", "model", "write", "wait", "all")


class Content(NamedTuple):
    """A picture or a text on its way in."""

    key: str
    """Of the archive."""
    name: str
    """In the report: a picture's sha256, or the text."""
    data: Any
    """Normalised bytes, or the text; after the decode workers what the model takes."""


class FailedRow(NamedTuple):
    """A picture or text that has no vector, and why."""

    name: str
    """sha256 of the picture; the text."""
    reason: str


@dataclass(kw_only=True)
class EncodeReport:
    """What one run of the pipeline did."""

    modality: Modality
    embedded: int = 0
    """Rows that this run brought to disk."""
    reused: int = 0
    """Contents that were in the archive already, or came again."""
    failed: list[FailedRow] = field(default_factory=list)
    """Contents that have no vector."""
    cut: int = 0
    """Texts that are longer than the model reads."""
    batch_size: int = 0
    """At the end: smaller than the config's when memory ran out."""
    out_of_memory: int = 0
    """How often it did."""
    seconds: dict[str, float] = field(default_factory=dict)
    """read, decode, model, write: summed over threads; wait: of the models, for something to do; all: by the clock."""

    @property
    def rows_per_second(self) -> float:
        """Rows that were embedded, by the clock."""
        return self.embedded / self.seconds["all"] if self.seconds.get("all") else 0.0

    def counts(self) -> dict[str, int]:
        """The numbers that do not depend on the machine's speed."""
        return {
            "embedded": self.embedded,
            "reused": self.reused,
            "failed": len(self.failed),
            "cut": self.cut,
            "out_of_memory": self.out_of_memory,
        }

    def __str__(self) -> str:
        """One line for the log."""
        stages = ", ".join(f"{stage} {self.seconds[stage]:.1f} s" for stage in _STAGES if stage in self.seconds)
        return (
            f"{self.modality} vectors: {self.embedded:,} embedded, {self.reused:,} there already, {len(self.failed):,} "
            f"failed, {self.rows_per_second:,.1f}/s ({stages}), batches of {self.batch_size}"
        )


class _Decoded(NamedTuple):
    contents: list[Content]
    failed: list[FailedRow]
    cut: int
    seconds: float


class _Rows(NamedTuple):
    contents: list[Content]
    rows: npt.NDArray[np.float32]
    out_of_memory: int
    seconds: float


class Pipeline:
    """One run over one modality.

    Args:
        modality: image | text.
        embedder: has it.
        config: batch size, rows that are committed together.
        archive: of the embedder.
        progress: told how many rows are on disk, after each part.
    """

    def __init__(
        self,
        modality: Modality,
        embedder: Embedder,
        config: EmbeddingsConfig,
        archive: Archive,
        progress: Progress | None,
    ) -> None:
        self._embedder = embedder
        self._archive = archive
        self._progress = progress
        self._most_rows = config.rows_per_shard
        self._part_rows = max(1, int(_FIRST_PART * config.rows_per_shard))
        self._report = EncodeReport(modality=modality, batch_size=min(config.batch_size, config.rows_per_shard))
        self._seconds = dict.fromkeys(_STAGES, 0.0)
        self._idle: queue.SimpleQueue[Embedder] = queue.SimpleQueue()
        models = embedder.on_devices()
        self._num_devices = len(models)
        for model in models:
            self._idle.put(model)
        self._working: deque[tuple[int, Future[_Rows]]] = deque()  # batches that the models have
        self._gathered: list[_Rows] = []  # for the next part
        self._writing: tuple[int, Future[float]] | None = None  # the part that is on its way to disk

    def run(self, contents: Iterable[Content]) -> EncodeReport:
        """Embed what is not in the archive, and say what was done.

        Raises:
            EmbeddingError: one row alone does not fit into memory.
        """
        started = time.perf_counter()
        with (
            ThreadPoolExecutor(1, "read") as reader,
            ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decode") as decoders,
            ThreadPoolExecutor(self._num_devices, "model") as models,
            ThreadPoolExecutor(1, "write") as writer,
        ):
            try:
                decoded = self._decode(self._read(self._new(contents), reader), decoders)
                for batch in in_pieces(decoded, self._report.batch_size):
                    self._make_room(len(batch), writer)
                    self._working.append((len(batch), models.submit(self._embed, batch)))
                while self._working:
                    self._take_rows(writer)
                self._commit(writer)
                self._wait_for_disk()
            finally:  # after an error nothing that waits is begun
                for pool in (reader, decoders, models):
                    pool.shutdown(wait=False, cancel_futures=True)
        self._seconds["all"] = time.perf_counter() - started
        self._seconds["wait"] = max(0.0, self._seconds["all"] * self._num_devices - self._seconds["model"])
        self._report.seconds = self._seconds
        logger.info("%s", self._report)
        return self._report

    def _new(self, contents: Iterable[Content]) -> Iterator[Content]:
        """Those that are not in the archive, each once. Runs in the reader's thread."""
        there = set(self._archive.keys().to_pylist())
        for content in contents:
            if content.key in there:
                self._report.reused += 1
            else:
                there.add(content.key)
                yield content

    def _read(self, contents: Iterator[Content], reader: Executor) -> Iterator[list[Content]]:
        """Contents in pieces for the decode workers; a batch is read while the one before is worked on."""
        size = max(_CONTENTS_PER_TASK, self._report.batch_size)

        def read() -> tuple[list[Content], float]:
            started = time.perf_counter()
            return list(itertools.islice(contents, size)), time.perf_counter() - started

        coming = reader.submit(read)
        while True:
            piece, seconds = coming.result()
            self._seconds["read"] += seconds
            if not piece:
                return
            coming = reader.submit(read)
            yield from in_pieces(piece, _CONTENTS_PER_TASK)

    def _decode(self, pieces: Iterator[list[Content]], decoders: Executor) -> Iterator[Content]:
        """What the model takes, in order; decoded ahead of it by so much."""
        ahead: deque[Future[_Decoded]] = deque()
        most = max(2, _DECODED_AHEAD * self._num_devices * self._report.batch_size // _CONTENTS_PER_TASK)
        for piece in pieces:
            ahead.append(decoders.submit(self._prepare, piece))
            if len(ahead) >= most:
                yield from self._take_decoded(ahead.popleft())
        while ahead:
            yield from self._take_decoded(ahead.popleft())

    def _take_decoded(self, task: Future[_Decoded]) -> list[Content]:
        decoded = task.result()
        self._seconds["decode"] += decoded.seconds
        self._report.failed += decoded.failed
        self._report.cut += decoded.cut
        return decoded.contents

    def _prepare(self, contents: list[Content]) -> _Decoded:
        """Runs in a decode worker."""
        started = time.perf_counter()
        if self._report.modality == "text":
            cut = self._embedder.count_cut([content.data for content in contents])
            return _Decoded(contents, [], cut, time.perf_counter() - started)
        prepared, failed = [], []
        for content in contents:
            try:
                prepared.append(content._replace(data=self._embedder.prepare_image(content.data)))
            except EmbeddingError as error:
                failed.append(FailedRow(content.name, str(error)))
        return _Decoded(prepared, failed, 0, time.perf_counter() - started)

    def _embed(self, contents: list[Content]) -> _Rows:
        """Runs in a thread of a device: rows of a batch, in smaller pieces when memory runs out."""
        model = self._idle.get()
        started = time.perf_counter()
        try:
            embed = model.embed_images if self._report.modality == "image" else model.embed_texts
            rows, out_of_memory, done = [], 0, 0
            while done < len(contents):
                size = self._report.batch_size  # read anew: another device may have met its limit
                piece = [content.data for content in contents[done : done + size]]
                try:
                    rows.append(_embed_padded(embed, piece, size))
                except OutOfMemory:
                    if size == 1:
                        raise
                    out_of_memory += 1
                    self._report.batch_size = max(1, size // 2)
                    logger.warning("out of memory with %s rows at once: on with %s", size, self._report.batch_size)
                else:
                    done += len(piece)
            return _Rows(contents, np.concatenate(rows), out_of_memory, time.perf_counter() - started)
        finally:
            self._idle.put(model)

    def _make_room(self, coming: int, writer: Executor) -> None:
        """Wait until a batch may be given to the models: not too many have one, and not too many rows are under way."""
        while len(self._working) >= _BATCHES_AHEAD * self._num_devices:
            self._take_rows(writer)
        while self._under_way() + coming > self._most_rows:
            if self._writing is not None:
                self._wait_for_disk()
            elif self._working:
                self._take_rows(writer)
            else:
                self._commit(writer)

    def _under_way(self) -> int:
        rows = sum(size for size, _ in self._working) + sum(len(batch.contents) for batch in self._gathered)
        return rows + (self._writing[0] if self._writing else 0)

    def _take_rows(self, writer: Executor) -> None:
        """Wait for the oldest batch; when a part is full, send it to disk."""
        batch = self._working.popleft()[1].result()
        self._seconds["model"] += batch.seconds
        self._report.out_of_memory += batch.out_of_memory
        usable = np.isfinite(batch.rows).all(axis=1) & batch.rows.any(axis=1)
        for place in np.flatnonzero(~usable):
            self._report.failed.append(FailedRow(batch.contents[place].name, _NO_ROW))
        contents = [batch.contents[place] for place in np.flatnonzero(usable)]
        self._gathered.append(batch._replace(contents=contents, rows=batch.rows[usable]))
        if sum(len(gathered.contents) for gathered in self._gathered) >= self._part_rows:
            self._commit(writer)

    def _commit(self, writer: Executor) -> None:
        self._wait_for_disk()
        batches, self._gathered = self._gathered, []
        if rows := sum(len(batch.contents) for batch in batches):
            self._writing = (rows, writer.submit(self._write, batches))

    def _wait_for_disk(self) -> None:
        if self._writing is None:
            return
        rows, task = self._writing
        self._seconds["write"] += task.result()
        self._writing = None
        self._report.embedded += rows
        if self._progress is not None:
            self._progress(self._report.embedded)

    def _write(self, batches: list[_Rows]) -> float:
        """Runs in the writer's thread."""
        started = time.perf_counter()
        keys = [content.key for batch in batches for content in batch.contents]
        rows = np.concatenate([batch.rows for batch in batches])
        kind = self._archive.schema.field("vector").type
        stored = rows.astype(kind.value_type.to_pandas_dtype())
        error = np.linalg.norm(stored.astype(np.float32) - rows, axis=1)
        table = pa.table(
            {
                "content": keys,
                "modality": [self._report.modality] * len(keys),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), type=kind),
                "error": pa.array(error, pa.float32()),
            },
            schema=self._archive.schema,
        )
        self._archive.append(table)
        return time.perf_counter() - started


def _embed_padded(
    embed: Callable[[Sequence[Any]], npt.NDArray[np.float32]], piece: list[Any], size: int
) -> npt.NDArray[np.float32]:
    """Rows of a piece, with its last one repeated so that a short batch gives the numbers of a long one."""
    missing = -len(piece) % min(_ROWS_MULTIPLE, size)
    return embed([*piece, *piece[-1:] * missing])[: len(piece)]


def in_pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of some length; the last one may be shorter."""
    items = iter(items)
    while piece := list(itertools.islice(items, size)):
        yield piece
