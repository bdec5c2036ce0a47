"""Formats are told by content."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmkg.images.formats import DECODED_FORMATS, ends_early, find_markup, read_webp_size, sniff_format
from mmkg.images.frames import count_gif_frames, count_tiff_pages
from tests.images.made_pictures import SVG_WITH_ENTITY, drawing, encode, gif, html_jpeg, tiff_that_loops


@pytest.mark.parametrize("kind", DECODED_FORMATS)
def test_what_pillow_writes_is_told_by_content(kind: str) -> None:
    assert sniff_format(encode(drawing(1), DECODED_FORMATS[kind])) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (SVG_WITH_ENTITY, "svg"),
        (b"\xef\xbb\xbf  <svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        (b"<!-- a long word -->\n<svg:svg width='1'>", "svg"),
        ("<svg >".encode("utf-16"), "svg"),
        (b"\n <!DOCTYPE HTML><html><svg >", "html"),
        (b"<?xml version='1.0'?><feed/>", "xml"),
        (b"%PDF-1.7", "pdf"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "postscript"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "mp4"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "riff"),
        (b"\xff\x0a\xfa", "jxl"),
        (b"BM is a name", None),
        (b"<3", None),
        (b"Not Found", None),
        (b"", None),
    ],
)
def test_what_is_not_decoded_is_known_by_name_or_not_at_all(data: bytes, kind: str | None) -> None:
    assert sniff_format(data) == kind


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_of_headers(data: bytes) -> None:
    for begin in (b"", b"RIFF....WEBPVP8X", b"GIF89a", b"II*\0", b"MM\0+", b"\0\0\0\x18ftyp", b"<", b"BM"):
        kind = sniff_format(begin + data)
        assert kind is None or kind.islower() or kind == "jp2"
        read_webp_size(begin + data)
        ends_early(begin + data, kind or "unknown")
        assert 0 <= count_gif_frames(begin + data, 5) <= 6
        assert 0 <= count_tiff_pages(begin + data, 5) <= 6


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "bmp"])
def test_a_picture_without_its_last_quarter_ends_early(kind: str) -> None:
    data = encode(drawing(2), DECODED_FORMATS[kind])
    assert not ends_early(data, kind)
    assert ends_early(data[: len(data) * 3 // 4], kind)


def test_markup_inside_a_picture_is_found_and_a_picture_s_own_xml_is_not() -> None:
    assert find_markup(html_jpeg()) == "<html>"
    assert find_markup(b"\xff\xd8\xff..<x:xmpmeta><rdf:RDF>&lt;html&gt; <HTMLish>") is None
    assert find_markup(b"..<ScRiPt src=x>") == "<ScRiPt"


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}])
def test_the_size_in_a_webp_header_is_the_picture_s(options: dict[str, object]) -> None:
    assert read_webp_size(encode(drawing(1, (123, 45)), "WEBP", **options)) == (123, 45)


def test_frames_are_counted_up_to_the_limit_and_one_more() -> None:
    assert [count_gif_frames(gif(frames), 10) for frames in (1, 2, 10, 11, 500)] == [1, 2, 10, 11, 11]
    pages = [drawing(seed) for seed in range(4)]
    document = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    big = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:], big_tiff=True)
    assert [count_tiff_pages(document, limit) for limit in (1, 3, 4, 99)] == [2, 4, 4, 4]
    assert count_tiff_pages(big, 99) == 4
    assert count_tiff_pages(tiff_that_loops(), 99) == 1


def test_pillow_counts_the_same_frames() -> None:
    frames = [drawing(seed) for seed in range(7)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"words")
    with Image.open(io.BytesIO(data)) as image:
        assert count_gif_frames(data, 99) == image.n_frames == 7
