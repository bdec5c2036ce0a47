"""Decompressing and cutting: the same bytes from every compression, and nothing of a damaged file."""

import gzip
import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import DumpError
from mmkg.sources.blocks import cut_blocks
from mmkg.sources.streams import open_stream, sniff_compression
from tests.sources.dumps import COMPRESSIONS


def _content(num_bytes: int) -> bytes:
    chance = random.Random(1)
    return b"".join(
        b"<http://a/%d> <http://a/p> <http://a/%d> .\n" % (n, chance.getrandbits(60)) for n in range(num_bytes // 50)
    )


def _read_all(dump: Path, workers: int = 1) -> bytes:
    with open_stream(dump, workers=workers) as stream:
        parts = []
        while part := stream.read(100_000):
            parts.append(part)
        assert stream.bytes_read == dump.stat().st_size
        return b"".join(parts)


@pytest.fixture(scope="module")
def big_gzip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """More than 4 MiB compressed, in two members, so that several threads decompress it."""
    content = _content(22_000_000)
    dump = tmp_path_factory.mktemp("big") / "big.gz"
    dump.write_bytes(gzip.compress(content[:15_000_000], 1) + gzip.compress(content[15_000_000:], 1))
    assert dump.stat().st_size > 4 * 2**20
    return dump, content


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compression_is_seen_by_content_and_members_follow_one_another(
    tmp_path: Path, compression: str, workers: int
) -> None:
    content = _content(300_000)
    half = len(content) // 2
    compress = COMPRESSIONS[compression]
    dump = tmp_path / "named.txt"
    dump.write_bytes(compress(content[:half]) + compress(content[half:]))
    assert sniff_compression(dump) == compression
    assert _read_all(dump, workers) == content


@pytest.mark.parametrize("workers", [1, 4])
def test_gzip_by_one_thread_and_by_several_is_the_same(big_gzip: tuple[Path, bytes], workers: int) -> None:
    dump, content = big_gzip
    assert _read_all(dump, workers) == content


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("cut", [-1, -4, -8, -9, -1000, -2_000_000, 3_000_000, 100])
def test_a_truncated_gzip_is_an_error_wherever_it_was_cut(
    big_gzip: tuple[Path, bytes], tmp_path: Path, workers: int, cut: int
) -> None:
    dump = tmp_path / "cut.nt.gz"
    dump.write_bytes(big_gzip[0].read_bytes()[:cut])
    with pytest.raises(DumpError, match=r"cut\.nt\.gz: truncated or damaged gzip .* at byte [\d,]+ of [\d,]+"):
        _read_all(dump, workers)


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "zstd"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_an_error(tmp_path: Path, compression: str, share: float) -> None:
    whole = COMPRESSIONS[compression](_content(3_000_000))
    dump = tmp_path / "cut"
    dump.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DumpError, match=f"truncated or damaged {compression}"):
        _read_all(dump)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_damaged_gzip_is_an_error(big_gzip: tuple[Path, bytes], tmp_path: Path, workers: int) -> None:
    content = bytearray(big_gzip[0].read_bytes())
    content[len(content) // 2] ^= 0xFF
    dump = tmp_path / "damaged.gz"
    dump.write_bytes(content)
    with pytest.raises(DumpError, match="truncated or damaged"):
        _read_all(dump, workers)


@pytest.mark.parametrize("workers", [1, 4])
def test_zeros_after_a_gzip_member_are_padding(big_gzip: tuple[Path, bytes], tmp_path: Path, workers: int) -> None:
    dump = tmp_path / "padded.gz"
    dump.write_bytes(big_gzip[0].read_bytes() + bytes(512))
    assert _read_all(dump, workers) == big_gzip[1]


def test_a_small_zstd_that_would_be_gigabytes_is_decompressed_in_pieces(tmp_path: Path) -> None:
    dump = tmp_path / "zeros.zst"
    dump.write_bytes(COMPRESSIONS["zstd"](bytes(2**28)))
    assert dump.stat().st_size < 100_000
    with open_stream(dump) as stream:
        assert stream.read(10) == bytes(10)


@given(st.binary(max_size=300), st.integers(1, 40), st.integers(1, 60))
def test_blocks_are_whole_lines_that_add_up_to_the_dump(content: bytes, block_bytes: int, max_line: int) -> None:
    content = content.replace(b"\0", b"\n")
    blocks = list(cut_blocks(io.BytesIO(content), block_bytes=block_bytes, max_line_bytes=max_line))  # type: ignore[arg-type]
    bom = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    offset, line = bom, 1
    for number, block in enumerate(blocks):
        assert (block.number, block.offset, block.first_line) == (number, offset, line)
        length = block.oversized_bytes or len(block.data)
        assert content[offset:].startswith(block.data)
        if block.oversized_bytes:
            assert block.oversized_bytes > max_line
            assert block.oversized_bytes == len(content[offset:].split(b"\n")[0])
            length += content[offset + length : offset + length + 1] == b"\n"
        else:
            assert block.num_lines == block.data.count(b"\n") + (not block.data.endswith(b"\n"))
            assert content[offset + length - 1 : offset + length] == b"\n" or offset + length == len(content)
        offset += length
        line += block.num_lines
    assert offset == len(content) or content == b"\xef\xbb\xbf"
    assert line - 1 == content[bom:].count(b"\n") + (len(content) > bom and not content.endswith(b"\n"))
