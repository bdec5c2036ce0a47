"""Pictures made to do harm: each gets its row within the limits, and the one who asks stays small."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from mmkg.config.images import DecodeConfig
from mmkg.images.decode import REFUSALS, Decoder
from tests.images.made_pictures import (
    SVG_WITH_ENTITY,
    drawing,
    encode,
    exif_with_orientation,
    gif,
    html_jpeg,
    icon_of,
    jpeg_segments,
    jpeg_with_exif,
    large_png,
    png,
    png_with_idat_bomb,
    png_with_text_bomb,
    rows_of,
    tiff_that_loops,
    webp_with_canvas,
)

_MEMORY_MB = 600
_TIFF_HEAD = b"MM\0*\0\0\0\x08"

# what: bytes, status, words of the detail
HOSTILE: dict[str, tuple[bytes, str, str]] = {
    "a header of 100,000 × 100,000": (png(100_000, 100_000, idat=b""), "too_many_pixels", "100,000 × 100,000 px"),
    "a WebP canvas of 16,384 × 16,384": (webp_with_canvas(16_384, 16_384), "too_many_pixels", "16,384 × 16,384"),
    "an icon around 20,000 × 20,000": (icon_of(large_png(20_000, 20_000)), "too_many_pixels", "inside of it"),
    "zTXt of 200 MB": (png_with_text_bomb(b"zTXt"), "bomb", "too large"),
    "iTXt of 200 MB": (png_with_text_bomb(b"iTXt"), "bomb", "too large"),
    "iCCP of 200 MB": (png_with_text_bomb(b"iCCP"), "bomb", "too large"),
    "a PNG of 10 kB and 100 M pixels": (large_png(10_000, 10_000, colour=6), "too_much_memory", ""),
    "10,000 frames": (gif(10_000), "too_many_frames", "more than 1,000 frames"),
    "a JPEG cut": (encode(drawing(2, (600, 400)), "JPEG")[:-900], "truncated", "bytes"),
    "a PNG cut": (encode(drawing(2), "PNG")[:-60], "truncated", "bytes"),
    "a GIF cut": (encode(drawing(2), "GIF")[:-60], "truncated", "bytes"),
    "a WebP cut": (encode(drawing(2), "WEBP")[:-60], "truncated", "bytes"),
    "a BMP cut": (encode(drawing(2), "BMP")[:-600], "truncated", "bytes"),
    "a JPEG of noise": (b"\xff\xd8\xff" + b"\x55" * 900 + b"\xff\xd9", "corrupt", "header"),
    "a TIFF of noise": (b"II*\0" + b"\x55" * 900, "corrupt", "header"),
    "a page that is a JPEG": (html_jpeg(), "polyglot", "<html>"),
    "a script behind a GIF": (gif(1) + b"<script>alert(1)</script>", "polyglot", "<script>"),
    "a page that begins with text": (b"<html>" + encode(drawing(1), "JPEG"), "unsupported", "html is not decoded"),
    "an SVG with an external entity": (SVG_WITH_ENTITY, "unsupported", "svg is not decoded"),
    "a PostScript program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported", "postscript"),
    "words": (b"404 Not Found", "not_a_picture", "13 bytes"),
    "nothing": (b"", "not_a_picture", "0 bytes"),
}
# These do no harm when they are decoded: what they lie about is not believed.
HARMLESS = {
    "pixels behind the picture": png_with_idat_bomb(),
    "a TIFF that goes round": tiff_that_loops(),
    "EXIF of 6 MB": jpeg_segments(
        encode(drawing(4), "JPEG"), *[(0xE1, b"Exif\0\0" + _TIFF_HEAD + b"\xff" * 65_000)] * 90
    ),
    "EXIF of noise": jpeg_with_exif(b"II*\0\x10\0\0\0\xff\xff"),
    "an orientation of 9": encode(drawing(1), "JPEG", exif=exif_with_orientation(9)),
    "one row of 50 M pixels": large_png(50_000_000, 1),
}
CONFIG = DecodeConfig(workers=1, memory_mb=_MEMORY_MB)


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, object]]:
    pictures = {name: data for name, (data, *_) in HOSTILE.items()} | HARMLESS
    with Decoder(CONFIG) as decoder:
        table = decoder.decode(rows_of(pictures.values()))
    return dict(zip(pictures, table.to_pylist(), strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_picture_is_refused_with_its_own_status(name: str, judged: dict[str, dict[str, object]]) -> None:
    _, status, words = HOSTILE[name]
    row = judged[name]
    assert row["status"] == status in REFUSALS
    assert words in str(row["detail"])
    assert row["normalised"] is None


@pytest.mark.parametrize("name", HARMLESS)
def test_a_lie_that_costs_nothing_is_not_believed(name: str, judged: dict[str, dict[str, object]]) -> None:
    assert (judged[name]["status"], judged[name]["num_frames"], judged[name]["orientation"]) == ("ok", 1, 1)


def test_only_the_hostile_pictures_of_a_batch_are_refused() -> None:
    good = [encode(drawing(seed), "PNG") for seed in range(len(HOSTILE))]
    mixed = [data for pair in zip(good, (data for data, *_ in HOSTILE.values()), strict=True) for data in pair]
    with Decoder(CONFIG.model_copy(update={"workers": 2})) as decoder:
        statuses = decoder.decode(rows_of(mixed))["status"].to_pylist()
    assert statuses[::2] == ["ok"] * len(good)
    assert statuses[1::2] == [status for _, status, _ in HOSTILE.values()]


# VmHWM and not getrusage: that one begins with what the process that started this one took.
_MEASURE = """
import json, pathlib, re, resource, sys
from mmkg.config.images import DecodeConfig
from mmkg.images.decode import Decoder
paths = sorted(pathlib.Path(sys.argv[1]).iterdir())

def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

with Decoder(DecodeConfig(workers=1, memory_mb=int(sys.argv[2]))) as decoder:
    decoder.decode([("0", b"")])
    before = peak_kb()
    table = decoder.decode((path.name, path.read_bytes()) for path in paths)
child_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([table.num_rows, (peak_kb() - before) // 1000, child_kb // 1000]))
"""


def test_the_one_who_asks_stays_small_and_the_process_within_its_limit(tmp_path: Path) -> None:
    for place, (data, *_) in enumerate(HOSTILE.values()):
        (tmp_path / f"{place:03d}").write_bytes(data)
    command = [sys.executable, "-c", _MEASURE, str(tmp_path), str(_MEMORY_MB)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    rows, own_mb, child_mb = json.loads(said.stdout)
    assert rows == len(HOSTILE)
    assert own_mb < 50
    assert child_mb < _MEMORY_MB


def test_a_picture_that_needs_more_memory_than_the_limit_is_decoded_within_a_larger_one() -> None:
    picture = encode(Image.new("RGBA", (7_000, 7_000), (255, 0, 0, 128)), "PNG")
    statuses = []
    for memory_mb in (400, 1_500):
        with Decoder(DecodeConfig(workers=1, memory_mb=memory_mb)) as decoder:
            table: pa.Table = decoder.decode(rows_of([picture, encode(drawing(1), "PNG")]))
        statuses.append(table["status"].to_pylist())
    assert statuses == [["too_much_memory", "ok"], ["ok", "ok"]]
