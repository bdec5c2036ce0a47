"""The pool: order, sameness whatever the number of processes, and no picture lost when a process dies."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmkg.config.images import DecodeConfig
from mmkg.errors import ImageError
from mmkg.images import decode
from mmkg.images.decode import REFUSALS, Decoder, decode_part
from mmkg.images.decoder_process import Answer, DecoderProcess, TooSlow
from mmkg.shards import Archive
from mmkg.tables import IMAGE_BYTES, PICTURES
from tests.images.made_pictures import drawing, encode, large_png, rows_of

PICTURES_OF_ALL_KINDS = [
    encode(drawing(seed), ["PNG", "JPEG", "GIF", "WEBP", "BMP"][seed % 5]) if seed % 7 else b"not one"
    for seed in range(24)
]


def _children() -> list[int]:
    """Processes of this one that decode."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = path.with_name("cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid() and b"mmkg.images.worker" in command:
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def calm_table() -> pa.Table:
    with Decoder(DecodeConfig(workers=1)) as decoder:
        return decoder.decode(rows_of(PICTURES_OF_ALL_KINDS))


def test_rows_come_in_the_order_they_were_given(calm_table: pa.Table) -> None:
    assert calm_table.schema == PICTURES
    assert calm_table["sha256"].to_pylist() == [sha256 for sha256, _ in rows_of(PICTURES_OF_ALL_KINDS)]
    expected = ["ok" if seed % 7 else "not_a_picture" for seed in range(24)]
    assert calm_table["status"].to_pylist() == expected


def test_two_processes_give_the_same_bytes_as_one(calm_table: pa.Table, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "image_bytes", IMAGE_BYTES, "sha256")
    rows = rows_of(PICTURES_OF_ALL_KINDS)
    part = archive.append(
        pa.table(
            {"sha256": [row[0] for row in rows], "format": ["x"] * len(rows), "bytes": [row[1] for row in rows]},
            schema=IMAGE_BYTES,
        )
    )
    assert part is not None
    digests = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        counts = decode_part(DecodeConfig(workers=workers), part, folder)
        assert counts == {"pictures": 24, "ok": 20, "not_a_picture": 4}
        (written,) = (folder / "pictures").glob("*")
        digests.append(hashlib.sha256(written.read_bytes()).hexdigest())
        assert pq.read_table(written).equals(calm_table)
    assert digests[0] == digests[1]


def test_no_process_outlives_the_decoder() -> None:
    with Decoder(DecodeConfig(workers=2)) as decoder:
        decoder.decode(rows_of(PICTURES_OF_ALL_KINDS))
        assert _children()
    assert not _children()


def _interrupted(rows: list[tuple[str, bytes]], number: signal.Signals) -> Iterator[tuple[str, bytes]]:
    """The rows; in their middle every process that decodes gets a signal."""
    for place, row in enumerate(rows):
        if place == len(rows) // 2:
            for child in _children():
                os.kill(child, number)
        yield row


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU])
def test_a_process_that_somebody_kills_costs_no_picture(
    calm_table: pa.Table, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_AHEAD", 2)
    with Decoder(DecodeConfig(workers=1)) as decoder:
        table = decoder.decode(_interrupted(rows_of(PICTURES_OF_ALL_KINDS), number))
    if number == signal.SIGXCPU:  # looks like a picture that took too much processor time: at most that one
        assert table["status"].to_pylist().count("too_slow") <= 1
    else:
        assert table.equals(calm_table)


def test_a_picture_that_hangs_its_process_is_refused_and_its_neighbours_are_decoded(
    calm_table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_AHEAD", 2)
    with Decoder(DecodeConfig(workers=1, max_seconds=1)) as decoder:
        table = decoder.decode(_interrupted(rows_of(PICTURES_OF_ALL_KINDS), signal.SIGSTOP))
    slow = [place for place, status in enumerate(table["status"].to_pylist()) if status == "too_slow"]
    assert len(slow) == 1
    assert "no answer in 1 s" in table["detail"][slow[0]].as_py()
    rest = [place for place in range(24) if place not in slow]
    assert table.take(rest).equals(calm_table.take(rest))


class _Fragile(DecoderProcess):
    """Dies of a picture that begins with the name of a signal, as a decoder with a fault in its C would."""

    def decode(self, data: bytes) -> Answer:
        if data.startswith(b"SIG"):
            os.kill(self.pid, signal.Signals[data.decode()])
        return super().decode(data)


def test_a_picture_that_kills_every_process_is_refused_and_only_it(
    calm_table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "DecoderProcess", _Fragile)
    pictures = [*PICTURES_OF_ALL_KINDS]
    pictures[3], pictures[10] = b"SIGSEGV", b"SIGBUS"
    with Decoder(DecodeConfig(workers=2)) as decoder:
        table = decoder.decode(rows_of(pictures))
    assert [(row["status"], row["detail"]) for row in table.take([3, 10]).to_pylist()] == [
        ("crashed", "the process ended with SIGSEGV"),
        ("crashed", "the process ended with SIGBUS"),
    ]
    rest = [place for place in range(24) if place not in (3, 10)]
    assert table.take(rest).equals(calm_table.take(rest))


@pytest.mark.parametrize(
    "facts",
    [
        {"status": "ok", "detail": "", "format": "png", "phash": "0", "width_px": "wide"},
        {"status": "ok", "detail": "", "format": "png", "phash": "0", "colours": "no base64!"},
        {"status": "ok", "detail": "", "format": None, "phash": "0"},
        {"status": "ok", "detail": "", "format": "png", "phash": None},
        {"status": "wonderful", "detail": "", "format": "png"},
        {"status": ["ok"], "detail": "", "format": "png"},
        {},
    ],
)
def test_a_process_that_answers_nonsense_is_not_believed(
    facts: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    class Lying:
        def __init__(self, config: DecodeConfig) -> None: ...

        def decode(self, data: bytes) -> Answer:
            return Answer(facts, b"a picture")

        def kill(self) -> None:
            ended.append(True)

    monkeypatch.setattr(decode, "DecoderProcess", Lying)
    with Decoder(DecodeConfig(workers=1)) as decoder:
        table = decoder.decode(rows_of([PICTURES_OF_ALL_KINDS[1]]))
        assert ended
    assert table["status"].to_pylist() == ["crashed"]


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program in the place of the process that decodes."""

    def use(body: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\nimport os, struct, sys, time\n{body}")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return use


READY = "os.write(1, struct.pack('>II', 15, 0) + b'{\"ready\": true}')\nos.read(0, 1 << 20)\n"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("os.write(1, struct.pack('>II', 1 << 30, 0))\n", "an answer of 1,073,741,824 bytes"),
        ("os.write(1, struct.pack('>II', 2, 1 << 31))\n", "an answer of 2,147,483,650 bytes"),
        ("os.write(1, struct.pack('>II', 5, 0) + b'hello')\n", "an answer that is not JSON"),
        ("os.write(1, struct.pack('>II', 2, 0) + b'[]')\n", "an answer that is no JSON object"),
        ("os.write(1, struct.pack('>II', 9, 0) + b'{')\n", "the process ended with status 0"),
        ("sys.exit(3)\n", "the process ended with status 3"),
    ],
)
def test_an_answer_that_is_none_is_a_crash_and_never_read_further(
    body: str, detail: str, fake_worker: Callable[[str], None]
) -> None:
    fake_worker(READY + body)
    with Decoder(DecodeConfig(workers=1)) as decoder:
        (row,) = decoder.decode(rows_of([b"GIF89a"])).to_pylist()
    assert (row["status"], row["detail"]) == ("crashed", detail)


def test_a_process_that_does_not_read_is_given_up_in_time(fake_worker: Callable[[str], None]) -> None:
    fake_worker(READY.replace("os.read(0, 1 << 20)", "time.sleep(60)"))
    process = DecoderProcess(DecodeConfig(max_seconds=0.3))
    with pytest.raises(TooSlow):
        process.decode(bytes(10_000_000))  # more than a pipe holds


def test_a_process_that_cannot_start_is_an_error_that_says_why(fake_worker: Callable[[str], None]) -> None:
    fake_worker("sys.exit('no module named PIL')")
    with Decoder(DecodeConfig(workers=1)) as decoder, pytest.raises(ImageError, match="no module named PIL"):
        decoder.decode(rows_of([b"GIF89a"]))


def test_a_memory_limit_that_leaves_nothing_is_an_error_that_names_the_setting() -> None:
    config = DecodeConfig.model_construct(**{**DecodeConfig().model_dump(), "memory_mb": 120})
    with Decoder(config) as decoder, pytest.raises(ImageError, match="memory_mb"):
        decoder.decode(rows_of([b"GIF89a"]))


def test_the_least_memory_that_can_be_set_decodes_pictures_of_a_web_page() -> None:
    with Decoder(DecodeConfig(workers=1, memory_mb=256)) as decoder:
        table = decoder.decode(rows_of([encode(drawing(1, (640, 480)), "JPEG"), encode(drawing(1), "PNG")]))
    assert table["status"].to_pylist() == ["ok", "ok"]


def test_a_process_whose_parent_is_gone_ends_by_itself() -> None:
    script = (
        "import os, sys\n"
        "from mmkg.config.images import DecodeConfig\n"
        "from mmkg.images.decoder_process import DecoderProcess\n"
        "print(DecoderProcess(DecodeConfig()).pid, flush=True)\n"
        "os._exit(0)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    deadline = 200
    while Path(f"/proc/{said.stdout.strip()}").exists() and deadline:
        signal.sigtimedwait([], 0.05)
        deadline -= 1
    assert deadline


def test_the_process_gets_no_keys_and_has_limits_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "12345")
    process = DecoderProcess(DecodeConfig(max_seconds=5, memory_mb=700))
    try:
        process.decode(PICTURES_OF_ALL_KINDS[2])
        assert b"12345" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    finally:
        process.kill()
    soft = {line[:26].strip(): line[26:].split()[0] for line in lines}
    assert (soft["Max core file size"], soft["Max file size"]) == ("0", "0")
    assert soft["Max address space"] == "700000000"
    assert 5 <= int(soft["Max cpu time"]) <= 10  # so it ends even when nobody is left to kill it


def test_rows_are_taken_as_they_are_needed_not_all_before() -> None:
    taken = []

    def endless() -> Iterator[tuple[str, bytes]]:
        while True:
            taken.append(1)
            yield f"{len(taken):064d}", PICTURES_OF_ALL_KINDS[1]

    with Decoder(DecodeConfig(workers=1)) as decoder:
        next(decoder.stream(endless()))
    assert len(taken) < 300


def test_every_status_of_a_picture_has_its_words() -> None:
    source = Path(decode.__file__).with_name("picture.py").read_text()
    named = set(re.findall(r'Refused\(\s*"(\w+)"', source)) | set(re.findall(r'return "(\w+)", ', source))
    assert named == set(REFUSALS) - {"too_slow", "crashed"}


def test_a_picture_that_takes_long_is_refused_at_the_deadline() -> None:
    slow = large_png(9_990, 9_990, bits=16)
    with Decoder(DecodeConfig(workers=1, max_seconds=0.5)) as decoder:
        table = decoder.decode(rows_of([PICTURES_OF_ALL_KINDS[1], slow, PICTURES_OF_ALL_KINDS[2]]))
    assert table["status"].to_pylist() == ["ok", "too_slow", "ok"]


@pytest.mark.shared
def test_every_real_picture_decodes(shared_data: Path) -> None:
    folders = [shared_data / "images", shared_data / "tasks/topics_graph/logos", shared_data / "tasks/mars/images"]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in {".jpg", ".png", ".jpeg"})
    assert len(files) == 1_610
    with Decoder(DecodeConfig()) as decoder:
        table = decoder.decode((path.name, path.read_bytes()) for path in files)
    assert set(table["status"].to_pylist()) == {"ok"}
    assert set(table["mode"].to_pylist()) == {"P", "RGB", "RGBA", "L", "LA"}
    assert set(table["detail"].to_pylist()) == {""}
