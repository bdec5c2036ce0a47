"""One picture: upright, RGB over white, measured; every mode with its right colours."""

import io
import os
import zlib
from typing import Any

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image, ImageCms

from mmkg.images.picture import Facts, Limits, count_colours, decode_picture
from tests.images.made_pictures import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    WHITE,
    drawing,
    encode,
    exif_with_orientation,
    gif,
    jpeg_with_exif,
    letter_f,
    png,
    png_chunk,
    ycck_jpeg,
)

LIMITS = Limits(max_pixels=10_000_000, max_frames=100, shorter_side_px=336)
Colour = tuple[int, int, int]


def decode(data: bytes, limits: Limits = LIMITS) -> tuple[Facts, Image.Image]:
    facts = decode_picture(data, limits)
    assert facts.status == "ok", facts.detail
    assert facts.normalised is not None
    picture = Image.open(io.BytesIO(facts.normalised))
    assert picture.mode == "RGB"
    return facts, picture


def pixel(data: bytes, place: tuple[int, int] = (0, 0)) -> Colour:
    found = decode(data)[1].getpixel(place)
    assert isinstance(found, tuple)
    return found[0], found[1], found[2]


def assert_near(found: Colour, expected: Colour, within: int) -> None:
    assert np.abs(np.subtract(found, expected)).max() <= within, (found, expected)


# How a picture is stored so that a viewer that obeys the orientation shows it as it is: the inverse of EXIF's turn.
STORED = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.rotate(180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.rotate(90, expand=True),  # shown turned clockwise by 90°, so stored turned the other way
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.rotate(-90, expand=True),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_stored_turned_comes_out_upright(orientation: int, kind: str) -> None:
    upright = letter_f()
    options: dict[str, Any] = {"exif": exif_with_orientation(orientation)}
    if kind == "WEBP":
        options["lossless"] = True
    if kind in ("JPEG", "AVIF"):
        options["quality"] = 100
    facts, picture = decode(encode(STORED[orientation](upright), kind, **options))
    assert (facts.width_px, facts.height_px) == picture.size == upright.size == (48, 64)
    assert facts.orientation == orientation
    assert np.abs(np.asarray(picture, int) - np.asarray(upright, int)).mean() < 4


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_is_none_is_taken_as_upright_and_noted(value: int) -> None:
    facts, picture = decode(encode(letter_f(), "PNG", exif=exif_with_orientation(value)))
    assert facts.orientation == 1
    assert f"'{value}'" in facts.detail
    assert np.array_equal(np.asarray(picture), np.asarray(letter_f()))


def test_an_exif_that_lies_about_the_size_or_is_broken_changes_nothing() -> None:
    lying = exif_with_orientation(1)
    lying[0x0100], lying[0x0101] = 40_000, 3  # ImageWidth, ImageLength
    plain = decode(encode(drawing(4), "JPEG"))[1]
    for data in (
        encode(drawing(4), "JPEG", exif=lying),
        jpeg_with_exif(b"II*\0\xff\xff\xff\xff"),
        jpeg_with_exif(b"MM\0*\0\0\0\x08" + b"\xff" * 60_000),
        jpeg_with_exif(b"nothing"),
    ):
        facts, picture = decode(data)
        assert (facts.width_px, facts.height_px, facts.orientation) == (64, 48, 1)
        assert np.array_equal(np.asarray(picture), np.asarray(plain))


def grey(values: list[int], bits: int) -> bytes:
    row = b"\0" + b"".join(value.to_bytes(bits // 8, "big") for value in values)
    return png(len(values), 1, bits=bits, idat=zlib.compress(row))


def test_sixteen_bits_are_scaled_by_their_range() -> None:  # 257 = 65,535 / 255
    _, picture = decode(grey([0, 257, 128 * 257, 200 * 257 + 100, 65_535], 16))
    assert [picture.getpixel((x, 0)) for x in range(5)] == [(v, v, v) for v in (0, 1, 128, 200, 255)]


def test_the_transparent_grey_of_sixteen_bits_shows_white() -> None:
    row = b"\0" + (1000).to_bytes(2, "big") + (1001).to_bytes(2, "big")
    data = png(2, 1, bits=16, idat=zlib.compress(row), extra=png_chunk(b"tRNS", (1000).to_bytes(2, "big")))
    facts, picture = decode(data)
    assert facts.has_alpha
    assert [picture.getpixel((x, 0)) for x in range(2)] == [WHITE, (4, 4, 4)]


@pytest.mark.parametrize(
    ("bits", "colour", "row", "transparent", "other"),
    [
        (1, 0, 0b0100_0000, 0, WHITE),
        (2, 0, 0b0110_0000, 1, (170, 170, 170)),
        (4, 0, 0x56, 5, (102, 102, 102)),
        (16, 2, 0x123456789ABC_DEF056789ABC, 0x123456789ABC, (0xDE, 0x56, 0x9A)),
    ],
)
def test_a_transparent_colour_of_any_depth_shows_white(
    bits: int, colour: int, row: int, transparent: int, other: Colour
) -> None:
    rows = zlib.compress(b"\0" + row.to_bytes(12 if colour else 1, "big"))
    extra = png_chunk(b"tRNS", transparent.to_bytes(6 if colour else 2, "big"))
    facts, picture = decode(png(2, 1, bits=bits, colour=colour, idat=rows, extra=extra))
    assert facts.has_alpha
    assert [picture.getpixel((x, 0)) for x in range(2)] == [WHITE, other]


def test_a_picture_is_decoded_by_one_thread_however_many_cores_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decoder = AvifImagePlugin._avif.AvifDecoder
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    data = encode(drawing(1), "AVIF", max_threads=1)
    monkeypatch.setattr(AvifImagePlugin._avif, "AvifDecoder", lambda *args: (asked.append(args[-1]), decoder(*args))[1])
    assert decode(data)[0].status == "ok"
    assert asked == [1]  # each takes address space, of which a process has little


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),  # 0 … 1
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 257 * 77, 65_535]], np.float32), [0, 77, 255]),
        (np.array([[-10, 0, 10]], np.float32), [0, 128, 255]),  # no usual range: from least to greatest
        (np.array([[np.nan, np.inf, 1]], np.float32), [0, 0, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257 * 77, 65_535]], np.int32), [0, 77, 255]),
        (np.array([[0, 1_000_000, 2_000_000]], np.int32), [0, 128, 255]),
        (np.array([[7, 7, 7]], np.float32), [7, 7, 7]),
    ],
)
def test_numbers_without_a_stated_range_are_scaled_by_the_smallest_usual_one(
    values: np.ndarray[Any, Any], expected: list[int]
) -> None:
    data = encode(Image.fromarray(np.repeat(np.repeat(values, 16, axis=0), 16, axis=1)), "TIFF")
    picture = decode(data)[1]
    for place, value in enumerate(expected):
        assert_near(picture.getpixel((place * 16 + 8, 8)), (value, value, value), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inks", "colour"),
    [
        ((0, 255, 255, 0), RED),
        ((255, 0, 255, 0), GREEN),
        ((0, 0, 0, 0), WHITE),
        ((0, 0, 0, 255), BLACK),
        ((0, 0, 0, 100), (155, 155, 155)),
        ((100, 0, 0, 55), (122, 200, 200)),  # (255 - 100) × (255 - 55) / 255
    ],
)
def test_inks_become_the_colours_they_print(inks: tuple[int, int, int, int], colour: Colour) -> None:
    plate = Image.new("CMYK", (16, 16), inks)
    assert_near(pixel(encode(plate, "JPEG", quality=100)), colour, 3)
    assert_near(pixel(encode(plate, "TIFF")), colour, 3)
    assert_near(pixel(ycck_jpeg(inks)), colour, 5)


def test_what_is_transparent_shows_white() -> None:
    half_red = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    for kind in ("PNG", "TIFF"):
        assert_near(pixel(encode(half_red, kind)), (255, 127, 127), 2)  # 255 × (1 - 128 / 255)
    assert_near(pixel(encode(half_red, "WEBP", lossless=True)), (255, 127, 127), 2)
    assert_near(pixel(encode(Image.new("LA", (8, 8), (100, 51)), "PNG")), (224, 224, 224), 1)  # 100 × 0.2 + 255 × 0.8
    assert pixel(encode(Image.new("RGBA", (8, 8), (0, 0, 255, 0)), "PNG")) == WHITE


def test_a_transparent_palette_shows_white_and_its_other_colours() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([*RED, *GREEN, *BLUE, *BLACK])
    image.putdata([0, 1, 2, 3])
    one, many = encode(image, "PNG", transparency=1), encode(image, "PNG", transparency=b"\xff\x80\x00\xff")
    as_gif = encode(image, "GIF", transparency=1)
    for data, expected in ((one, [RED, WHITE, BLUE, BLACK]), (as_gif, [RED, WHITE, BLUE, BLACK])):
        facts, picture = decode(data)
        assert facts.has_alpha
        assert [picture.getpixel((x, 0)) for x in range(4)] == expected
    picture = decode(many)[1]
    assert_near(picture.getpixel((1, 0)), (127, 255, 127), 1)  # type: ignore[arg-type]
    assert picture.getpixel((2, 0)) == WHITE


def test_a_transparent_colour_of_a_picture_without_palette_shows_white() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    facts, picture = decode(encode(image, "PNG", transparency=RED))
    assert facts.has_alpha
    assert [picture.getpixel((x, 0)) for x in range(2)] == [WHITE, BLUE]


def test_colours_are_not_mixed_by_palette_index_when_a_picture_is_made_small() -> None:
    image = Image.new("P", (800, 800), 0)
    image.putpalette([*RED, *[0, 0, 0] * 99, *RED])  # between index 0 and index 100 lies black
    image.paste(100, (400, 0, 800, 800))
    _, picture = decode(encode(image, "PNG"))
    assert picture.size == (336, 336)
    assert np.array_equal(np.unique(np.asarray(picture).reshape(-1, 3), axis=0), [RED])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
def test_every_mode_shows_the_same_picture(mode: str) -> None:
    black_and_white = letter_f().convert("L").point(lambda value: 255 if value > 200 else 0)
    if mode == "I;16":
        values = np.asarray(black_and_white, np.uint16) * 257
        image = Image.fromarray(values)
    elif mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.buildTransform(*profiles, "RGB", "LAB").apply(black_and_white.convert("RGB"))  # type: ignore[assignment]
    elif mode == "PA":
        image = black_and_white.convert("P").convert("PA")
    else:
        image = black_and_white.convert(mode)
    facts, picture = decode(encode(image, "TIFF"))
    assert facts.mode == mode
    assert np.abs(np.asarray(picture, int) - np.asarray(black_and_white.convert("RGB"), int)).mean() < 3


def test_the_first_frame_of_an_animation_is_taken_and_its_frames_are_counted() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    for kind, options in (
        ("GIF", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("AVIF", {}),
        ("MPO", {}),
    ):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        facts, picture = decode(data)
        assert facts.num_frames == 3, kind
        assert_near(picture.getpixel((16, 16)), RED, 3)  # type: ignore[arg-type]
    assert pixel(gif(3)) == BLACK


def test_the_shorter_side_is_made_small_and_a_small_picture_is_not_made_large() -> None:
    for size, expected in {
        (1000, 500): (672, 336),
        (500, 1000): (336, 672),
        (336, 400): (336, 400),
        (20, 10): (20, 10),
        (50_000, 40): (5376, 4),  # the longer side is bounded too, by 16 × 336
    }.items():
        facts, picture = decode(encode(Image.new("RGB", size, RED), "PNG"))
        assert picture.size == expected
        assert (facts.width_px, facts.height_px) == size


def test_a_large_photo_decoded_at_a_fraction_is_the_picture_decoded_whole() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    photo = Image.fromarray(noise).resize((3000, 2250), Image.Resampling.BICUBIC)
    facts, picture = decode(encode(photo, "JPEG", quality=95))
    assert (facts.width_px, facts.height_px) == (3000, 2250)
    whole = photo.resize(picture.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(picture, int) - np.asarray(whole, int)).mean() < 2
    assert imagehash.hex_to_hash(facts.phash) - imagehash.phash(photo) <= 2


def test_drawings_are_kept_without_loss_and_photos_as_jpeg_both_without_metadata() -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind, stored in (("PNG", "png"), ("GIF", "png"), ("BMP", "png"), ("JPEG", "jpeg"), ("WEBP", "jpeg")):
        options = {} if kind in ("BMP", "GIF") else {"exif": exif_with_orientation(3), "icc_profile": icc}
        facts, picture = decode(encode(drawing(5), kind, **options))
        assert facts.normalised_format == stored
        assert picture.format == stored.upper()
        assert not {"exif", "icc_profile", "comment", "xmp"} & set(picture.info)
        assert not picture.getexif()


def test_a_broken_colour_profile_does_not_matter() -> None:
    for kind in ("JPEG", "PNG"):
        plain = decode(encode(drawing(5), kind))[1]
        _, picture = decode(encode(drawing(5), kind, icc_profile=b"no profile at all"))
        assert np.array_equal(np.asarray(picture), np.asarray(plain))


def test_the_same_bytes_give_the_same_facts_and_the_same_picture() -> None:
    data = encode(drawing(6, (700, 500)), "JPEG")
    assert decode_picture(data, LIMITS) == decode_picture(data, LIMITS)


def test_the_hash_is_imagehash_s_of_the_picture_over_white() -> None:
    image = drawing(7).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    white = Image.new("RGBA", image.size, "white")
    facts, _ = decode(encode(image, "PNG"))
    assert facts.phash == str(imagehash.phash(Image.alpha_composite(white, image).convert("RGB")))


def test_contrast_and_colours_are_those_of_the_picture() -> None:
    halves = Image.new("RGB", (64, 64), BLACK)
    halves.paste(WHITE, (32, 0, 64, 64))
    facts, _ = decode(encode(halves, "PNG"))
    assert (facts.deviation, facts.num_colours) == (127.5, 2)
    assert facts.colours == (bytes([0] * 12) + bytes([255] * 12)) * 8  # 4 cells black, 4 white, in 8 rows
    facts, _ = decode(encode(Image.new("RGB", (64, 64), (200, 128, 15)), "PNG"))
    assert (facts.deviation, facts.num_colours) == (0.0, 1)


def test_noise_of_one_value_is_one_colour_wherever_it_lies() -> None:
    noise = np.random.default_rng(0).integers(-1, 2, (64, 64, 3))
    for level in range(2, 254):
        assert count_colours((noise + level).astype(np.uint8)) == 1
    assert count_colours(np.array([[[0, 0, 0], [40, 0, 0], [0, 40, 0], [0, 0, 40]]], np.uint8)) == 4


@given(st.integers(0, 5), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), st.floats(0, 1))
def test_no_change_of_bytes_raises(which: int, changes: list[tuple[float, int]], kept: float) -> None:
    data = bytearray(encode(drawing(which), ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"][which]))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    facts = decode_picture(bytes(data[: int(len(data) * max(kept, 0.2))]), LIMITS)
    assert (facts.normalised is not None) == (facts.status == "ok")
