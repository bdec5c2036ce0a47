"""The pipeline: every content once, whatever fails, runs out of memory, or is killed."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import (
    OutOfMemory,
    content_key,
    encode_pictures,
    encode_texts,
    open_embedder,
    open_vectors,
    vector_archive,
    write_vectors,
)
from mmkg.embeddings.hashing import HashingEmbedder
from mmkg.errors import EmbeddingError
from mmkg.shards import Archive
from tests.embeddings.made_models import picture, pictures

CONFIG = EmbeddingsConfig(kind="hashing", batch_size=8, rows_per_shard=32)


class Watched(HashingEmbedder):
    """The hashing embedder, which says what it was asked for, and has only so much memory."""

    def __init__(self, config: EmbeddingsConfig = CONFIG, *, most_rows: int = 10_000, devices: int = 1) -> None:
        super().__init__(config)
        self.sizes: list[int] = []
        self.threads: Counter[int] = Counter()
        self.most_rows = most_rows
        self.devices = [self, *(Watched(config, most_rows=most_rows) for _ in range(devices - 1))]

    def _asked(self, batch: Sequence[object]) -> None:
        self.threads[threading.get_ident()] += 1
        if len(batch) > self.most_rows:
            raise OutOfMemory(f"{len(batch)} rows, and memory for {self.most_rows}")
        self.sizes.append(len(batch))

    def embed_images(self, batch: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        self._asked(batch)
        return super().embed_images(batch)

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self._asked(texts)
        return super().embed_texts(texts)

    def on_devices(self) -> Sequence[HashingEmbedder]:
        return self.devices


def archive_of(folder: Path, config: EmbeddingsConfig = CONFIG) -> Archive:
    return vector_archive(folder / "vectors", HashingEmbedder(config).identity)


def stored(archive: Archive) -> dict[str, npt.NDArray[np.float16]]:
    rows = archive.read()
    assert len(set(rows["content"].to_pylist())) == rows.num_rows  # none twice
    return dict(zip(rows["content"].to_pylist(), np.array(rows["vector"].to_pylist()), strict=True))


def check_rows(archive: Archive, shown: list[tuple[str, bytes]]) -> None:
    """Each picture has one row, and it is the one that it gets alone."""
    embedder, rows = HashingEmbedder(CONFIG), stored(archive)
    assert len(rows) == len(shown)
    for sha256, data in shown:
        alone = embedder.embed_images([embedder.prepare_image(data)])[0]
        np.testing.assert_allclose(rows[content_key("image", sha256)], alone, atol=1e-3)


def test_every_picture_has_its_row_in_the_order_they_came(tmp_path: Path) -> None:
    shown = pictures(75)
    report = encode_pictures(HashingEmbedder(CONFIG), CONFIG, shown, archive_of(tmp_path))
    assert (report.embedded, report.reused, report.failed, report.batch_size) == (75, 0, [], 8)
    check_rows(archive_of(tmp_path), shown)
    parts = [part["content"].to_pylist() for part in map(_read, archive_of(tmp_path).parts())]
    order = [content_key("image", sha256) for sha256, _ in shown]
    assert sorted(parts, key=lambda keys: order.index(keys[0])) == [order[:24], order[24:48], order[48:72], order[72:]]


def _read(path: Path):
    import pyarrow.parquet as pq

    return pq.read_table(path)


def test_what_is_in_the_archive_is_not_embedded_again(tmp_path: Path) -> None:
    shown = pictures(20)
    encode_pictures(HashingEmbedder(CONFIG), CONFIG, shown[:12], archive_of(tmp_path))
    embedder = Watched()
    report = encode_pictures(embedder, CONFIG, shown, archive_of(tmp_path))
    assert (report.embedded, report.reused, sum(embedder.sizes)) == (8, 12, 8)
    check_rows(archive_of(tmp_path), shown)
    embedder = Watched()
    report = encode_pictures(embedder, CONFIG, shown, archive_of(tmp_path))
    assert (report.embedded, report.reused, embedder.sizes) == (0, 20, [])


def test_a_content_that_comes_twice_is_embedded_once(tmp_path: Path) -> None:
    shown = pictures(3)
    report = encode_pictures(HashingEmbedder(CONFIG), CONFIG, shown + shown[::-1], archive_of(tmp_path))
    assert (report.embedded, report.reused) == (3, 3)
    report = encode_texts(HashingEmbedder(CONFIG), CONFIG, ["a", "b", "a"], archive_of(tmp_path))
    assert (report.embedded, report.reused) == (2, 1)


def test_a_picture_normalised_in_another_way_is_another_content(tmp_path: Path) -> None:
    shown = pictures(2)
    for settings_digest in ("small", "large"):
        report = encode_pictures(
            HashingEmbedder(CONFIG), CONFIG, shown, archive_of(tmp_path), normalised_by=settings_digest
        )
        assert report.embedded == 2
    keys = {content_key("image", sha256, normalised_by=by) for sha256, _ in shown for by in ("small", "large")}
    assert set(stored(archive_of(tmp_path))) == keys


def test_content_keys_tell_modalities_and_neighbouring_parts_apart() -> None:
    keys = [
        content_key("image", "ab", normalised_by="c"),
        content_key("image", "b", normalised_by="ca"),
        content_key("text", "ab"),
        content_key("image", "ab"),
    ]
    assert len(set(keys)) == 4
    assert content_key("text", "é") == hashlib.sha256("text\0\0é".encode()).hexdigest()


def test_a_picture_that_cannot_be_decoded_is_a_failed_row(tmp_path: Path) -> None:
    shown = pictures(10)
    broken = [("b" * 64, b"<html>not found</html>"), ("c" * 64, shown[0][1][:60])]
    report = encode_pictures(
        HashingEmbedder(CONFIG), CONFIG, [broken[0], *shown[:5], broken[1], *shown[5:]], archive_of(tmp_path)
    )
    assert [row.name for row in report.failed] == ["b" * 64, "c" * 64]
    assert report.failed[0].reason == "not a picture: its bytes are of no known format"
    assert report.counts() == {"embedded": 10, "reused": 0, "failed": 2, "cut": 0, "out_of_memory": 0}
    check_rows(archive_of(tmp_path), shown)


def test_a_row_that_is_not_finite_is_a_failed_row(tmp_path: Path) -> None:
    wrong = {"nan": np.nan, "inf": np.inf, "zero": 0.0}

    class Overflowing(HashingEmbedder):
        def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            rows = super().embed_texts(texts)
            for place, text in enumerate(texts):
                if text in wrong:
                    rows[place] = wrong[text]
            return rows

    texts = ["a", "nan", "b", "inf", "zero", "c"]
    report = encode_texts(Overflowing(CONFIG), CONFIG, texts, archive_of(tmp_path))
    assert {row.name for row in report.failed} == {"nan", "inf", "zero"}
    assert set(stored(archive_of(tmp_path))) == {content_key("text", text) for text in "abc"}


@pytest.mark.parametrize("most_rows", [1, 3, 5])
def test_when_memory_runs_out_the_batch_is_halved_and_no_row_lost_or_doubled(tmp_path: Path, most_rows: int) -> None:
    shown = pictures(45)
    embedder = Watched(most_rows=most_rows)
    report = encode_pictures(embedder, CONFIG, shown, archive_of(tmp_path))
    assert report.embedded == 45
    assert report.batch_size == {1: 1, 3: 2, 5: 4}[most_rows]
    assert report.out_of_memory == {1: 3, 3: 2, 5: 1}[most_rows]  # and never again
    assert max(embedder.sizes) <= most_rows
    check_rows(archive_of(tmp_path), shown)


def test_one_row_that_does_not_fit_into_memory_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="memory for 0"):
        encode_pictures(Watched(most_rows=0), CONFIG, pictures(5), archive_of(tmp_path))
    assert archive_of(tmp_path).keys().to_pylist() == []


def test_several_devices_share_the_batches_and_the_order_stays(tmp_path: Path) -> None:
    shown = pictures(80)
    embedder = Watched(devices=3)
    gate = threading.Barrier(3)

    met = threading.local()

    def meet(batch: Sequence[object]) -> None:
        if not hasattr(met, "others"):  # each thread waits once for the others: all three must be at work
            met.others = True
            gate.wait(timeout=30)

    for device in embedder.devices:
        device._asked = meet
    one, several = archive_of(tmp_path / "one"), archive_of(tmp_path / "several")
    encode_pictures(HashingEmbedder(CONFIG), CONFIG, shown, one)
    assert encode_pictures(embedder, CONFIG, shown, several).embedded == 80
    assert [path.name for path in several.parts()] == [path.name for path in one.parts()]  # named by their bytes


def test_short_batches_are_filled_up_so_that_their_numbers_are_those_of_long_ones(tmp_path: Path) -> None:
    embedder = Watched()
    encode_pictures(embedder, CONFIG, pictures(11), archive_of(tmp_path))
    assert embedder.sizes == [8, 8]
    assert len(stored(archive_of(tmp_path))) == 11


@given(count=st.integers(0, 60), batch=st.integers(1, 20), shard=st.integers(1, 30), devices=st.integers(1, 3))
@settings(max_examples=12)
def test_no_more_rows_than_a_shard_are_between_model_and_disk(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch: int, shard: int, devices: int
) -> None:
    config = EmbeddingsConfig(kind="hashing", batch_size=batch, rows_per_shard=shard)
    archive = archive_of(tmp_path_factory.mktemp("archive"))
    asked = threading.Lock()
    rows_asked: set[str] = set()
    most = 0

    class Counting(HashingEmbedder):
        def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            nonlocal most
            with asked:
                rows_asked.update(texts)
                most = max(most, len(rows_asked) - len(archive.keys()))
            return super().embed_texts(texts)

        def on_devices(self) -> Sequence[HashingEmbedder]:
            return [self] * devices

    told: list[int] = []
    report = encode_texts(Counting(config), config, [f"t{number}" for number in range(count)], archive, told.append)
    assert report.embedded == count == len(stored(archive))
    assert most <= shard
    assert told == sorted(told)
    assert told[-1:] == ([count] if count else [])


def test_an_error_of_the_source_ends_the_run_and_leaves_whole_parts(tmp_path: Path) -> None:
    def source() -> Iterator[tuple[str, bytes]]:
        yield from pictures(60)
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        encode_pictures(HashingEmbedder(CONFIG), CONFIG, source(), archive_of(tmp_path))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "decode", "model"))]
    report = encode_pictures(HashingEmbedder(CONFIG), CONFIG, pictures(60), archive_of(tmp_path))
    assert report.embedded + report.reused == 60
    check_rows(archive_of(tmp_path), pictures(60))


def test_a_bug_of_an_embedder_is_not_a_failed_row(tmp_path: Path) -> None:
    class Wrong(HashingEmbedder):
        def prepare_image(self, normalised: bytes) -> npt.NDArray[np.float32]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        encode_pictures(Wrong(CONFIG), CONFIG, pictures(3), archive_of(tmp_path))


def test_texts_of_like_length_are_embedded_together(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Lengths(HashingEmbedder):
        def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            seen.append([len(text) for text in texts])
            return super().embed_texts(texts)

    rng = np.random.default_rng(0)
    texts = ["x" * int(length) for length in rng.permutation(np.arange(1, 65))]
    encode_texts(Lengths(CONFIG), CONFIG, texts, archive_of(tmp_path))
    assert sorted(seen) == [list(range(first, first + 8)) for first in range(1, 65, 8)]


def test_texts_that_are_cut_are_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Short(HashingEmbedder):
        def count_cut(self, texts: Sequence[str]) -> int:
            return sum(len(text) > 3 for text in texts)

    with caplog.at_level("INFO", logger="mmkg"):
        report = encode_texts(Short(CONFIG), CONFIG, ["a", "abcd", "abc", "abcde"], archive_of(tmp_path))
    assert report.cut == 2
    assert "2 texts are longer than the model reads" in caplog.text


def test_an_archive_of_another_embedder_is_refused(tmp_path: Path) -> None:
    other = EmbeddingsConfig(kind="hashing", dtype="float32")
    with pytest.raises(EmbeddingError, match="expected an archive of the hashing embedder"):
        encode_texts(HashingEmbedder(CONFIG), CONFIG, ["a"], archive_of(tmp_path, other))


@pytest.mark.parametrize(("dtype", "most"), [("float16", 6e-4), ("float32", 0)])
def test_what_the_dtype_costs_is_measured_on_what_is_written(tmp_path: Path, dtype: str, most: float) -> None:
    config = EmbeddingsConfig(kind="hashing", dtype=dtype)
    embedder = open_embedder(config)
    archive = archive_of(tmp_path, config)
    texts = [f"word{number} and more" for number in range(50)]
    encode_texts(embedder, config, texts, archive)
    rows = archive.find([content_key("text", text) for text in texts])
    written = np.array(rows["vector"].to_pylist(), np.float32)
    difference = written - embedder.embed_texts(texts)
    error = rows["error"].to_numpy()
    np.testing.assert_allclose(error, np.linalg.norm(difference, axis=1), rtol=1e-5)
    assert error.max() <= most
    queries = np.random.default_rng(0).standard_normal((200, 256))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert (np.abs(queries @ difference.T) <= error + 1e-7).all()  # no cosine is wrong by more


def test_the_report_says_where_the_time_went(tmp_path: Path) -> None:
    class Slow(HashingEmbedder):
        def embed_images(self, batch: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
            time.sleep(0.02)
            return super().embed_images(batch)

    report = encode_pictures(Slow(CONFIG), CONFIG, pictures(32), archive_of(tmp_path))
    assert set(report.seconds) == {"read", "decode", "model", "write", "wait", "all"}
    assert report.seconds["model"] >= 4 * 0.02
    assert report.seconds["all"] >= report.seconds["model"]
    assert "32 embedded" in str(report)


_KILLED = """
import sys, time
from pathlib import Path
from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import encode_pictures, vector_archive
from mmkg.embeddings.hashing import HashingEmbedder
from tests.embeddings.made_models import pictures

folder, log = Path(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
config = EmbeddingsConfig(kind="hashing", batch_size=8, rows_per_shard=64)

class Logging(HashingEmbedder):
    def prepare_image(self, normalised):
        return normalised, super().prepare_image(normalised)
    def embed_images(self, batch):
        import hashlib
        log.write("".join({hashlib.sha256(data).hexdigest() + chr(10): 0 for data, _ in batch}))
        time.sleep(0.01)
        return super().embed_images([row for _, row in batch])

embedder = Logging(config)
archive = vector_archive(folder, embedder.identity)
archive.remove_leftovers()
encode_pictures(embedder, config, pictures(400), archive)
"""


def test_a_killed_run_does_no_more_than_one_shard_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "vectors"), str(log)]
    root = Path(__file__).parents[2]
    for parts_first in (2, 4):
        process = subprocess.Popen(command, cwd=root)
        while process.poll() is None and len(list(tmp_path.glob("vectors/*/part-*.parquet"))) < parts_first:
            time.sleep(0.002)
        assert process.poll() is None, "it was to be killed in the middle"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=root, check=True)
    again = Counter(log.read_text().split())
    assert len(again) == 400
    assert sum(again.values()) - 400 <= 2 * 64  # two kills
    config = EmbeddingsConfig(kind="hashing")
    archive = vector_archive(tmp_path / "vectors", HashingEmbedder(config).identity)
    check_rows(archive, pictures(400))
    assert not list(tmp_path.glob("vectors/*/*.partial"))


def test_a_resumed_run_gives_the_same_table(tmp_path: Path) -> None:
    shown = pictures(50)
    for name, steps in {"whole": [50], "resumed": [13, 40, 50]}.items():
        archive = archive_of(tmp_path / name)
        for count in steps:
            encode_pictures(HashingEmbedder(CONFIG), CONFIG, shown[:count], archive)
        identity = HashingEmbedder(CONFIG).identity
        wanted = [sha256 for sha256, _ in shown]
        write_vectors(identity, archive, texts=[], pictures=wanted, folder=tmp_path / name / "stage")
    one, other = (open_vectors(tmp_path / name / "stage") for name in ("whole", "resumed"))
    assert one.digest == other.digest


def test_an_empty_source_is_no_error(tmp_path: Path) -> None:
    report = encode_pictures(HashingEmbedder(CONFIG), CONFIG, [], archive_of(tmp_path))
    assert (report.embedded, report.rows_per_second) == (0, 0)
    assert picture(0)
