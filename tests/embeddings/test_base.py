"""Identities, and what stands between bytes and a model."""

import dataclasses
import json
import zlib

import numpy as np
import pytest

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import EmbedderIdentity, open_embedder, unit_rows
from mmkg.embeddings.base import IDENTITY_METADATA, open_picture, read_identity
from mmkg.errors import ConfigError, EmbeddingError
from tests.embeddings.made_models import picture

IDENTITY = EmbedderIdentity(
    kind="clip",
    model="ViT-B-32",
    architecture="a",
    pretrained="tag",
    weights="00ff",
    tokenizer="b",
    preprocessing="{}",
    dimension=512,
    unit=True,
    precision="fp32",
    dtype="float16",
    modalities=("image", "text"),
    libraries={"torch": "2"},
)


@pytest.mark.parametrize("column", [field.name for field in dataclasses.fields(IDENTITY) if field.name != "libraries"])
def test_whatever_decides_the_numbers_is_part_of_the_digest(column: str) -> None:
    value = getattr(IDENTITY, column)
    other = {str: "other", int: 7, bool: False, tuple: ("text",)}[type(value)]
    changed = dataclasses.replace(IDENTITY, **{column: other})
    assert changed.digest != IDENTITY.digest
    assert changed != IDENTITY


def test_versions_of_libraries_are_told_and_decide_nothing() -> None:
    later = dataclasses.replace(IDENTITY, libraries={"torch": "3"})
    assert later.digest == IDENTITY.digest
    assert later == IDENTITY
    assert json.loads(later.to_json())["libraries"] == {"torch": "3"}
    assert later.to_json(libraries=False) == IDENTITY.to_json(libraries=False)


def test_the_digest_of_an_identity_stays_what_it_is() -> None:
    """Archives lie in folders of this name: another digest would embed everything again."""
    assert IDENTITY.digest == "b653b33c0b68df5d"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "says not which embedder"),
        (b"no json", "cannot be read"),
        (b"{}", "cannot be read"),
        (json.dumps({**json.loads(IDENTITY.to_json()), "unknown": 1}).encode(), "cannot be read"),
        (IDENTITY.to_json().replace('"ViT-B-32"', '"ViT-L-14"').encode(), "has the digest"),
    ],
)
def test_metadata_without_a_sound_identity_is_refused(text: bytes | None, says: str) -> None:
    with pytest.raises(EmbeddingError, match=f"here: .*{says}"):
        read_identity({} if text is None else {IDENTITY_METADATA: text}, "here")


def test_an_embedder_that_is_not_known_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Known: clip, hashing, sentence\. Set `kind`"):
        open_embedder(EmbeddingsConfig())


def test_unit_rows_have_length_one_and_zeros_stay() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0], [-1, 0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)


def test_pictures_come_as_rgb_and_the_message_for_others_names_no_address_in_memory() -> None:
    assert open_picture(picture(1)).mode == "RGB"
    with pytest.raises(EmbeddingError) as first:
        open_picture(b"nonsense")
    assert "0x" not in str(first.value)


def test_pictures_that_look_alike_are_near_for_the_hashing_embedder() -> None:
    embedder = open_embedder(EmbeddingsConfig(kind="hashing"))
    shown = [picture(1), picture(1, (80, 60), "JPEG"), picture(2), picture(3)]
    rows = embedder.embed_images([embedder.prepare_image(data) for data in shown])
    cosines = rows @ rows.T
    assert cosines[0, 1] > 0.97
    assert cosines[0, 2:].max() < 0.9


def test_texts_that_share_words_are_near_for_the_hashing_embedder() -> None:
    embedder = open_embedder(EmbeddingsConfig(kind="hashing"))
    rows = embedder.embed_texts(["Republic of France", "the FRENCH republic, France", "a bowl of noodles"])
    cosines = rows @ rows.T
    assert cosines[0, 1] > 0.5 > 0.3 > cosines[0, 2]


def test_rows_of_the_hashing_embedder_are_the_same_on_every_machine() -> None:
    embedder = open_embedder(EmbeddingsConfig(kind="hashing"))
    [row] = embedder.embed_texts(["ab"])
    # the word "ab" and the triples "^ab", "ab$", at the places and with the signs of their CRC-32
    expected = np.zeros(256)
    for feature, weight in {"ab": 1.0, "3:^ab": 0.25, "3:ab$": 0.25}.items():
        checksum = zlib.crc32(feature.encode())
        expected[checksum % 256] += weight if checksum >> 31 else -weight
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), rtol=1e-6)
