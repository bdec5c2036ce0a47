"""What every embedder promises, run by all. To add one: an entry in EMBEDDERS."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import (
    Embedder,
    embedder_names,
    encode_pictures,
    encode_texts,
    open_embedder,
    open_vectors,
    vector_archive,
    write_vectors,
)
from mmkg.embeddings.base import IDENTITY_METADATA, read_identity
from mmkg.errors import EmbeddingError
from tests.embeddings.made_models import make_clip_folder, make_sentence_folder, picture, pictures

EMBEDDERS: dict[str, Callable[[Path], EmbeddingsConfig]] = {  # name: config, given a folder for a model
    "hashing": lambda _: EmbeddingsConfig(kind="hashing"),
    "clip": lambda folder: EmbeddingsConfig(
        kind="clip", model=str(make_clip_folder(folder / "clip", words=False)), device="cpu"
    ),
    "clip of words": lambda folder: EmbeddingsConfig(
        kind="clip", model=str(make_clip_folder(folder / "words")), device="cpu"
    ),
    "sentence": lambda folder: EmbeddingsConfig(
        kind="sentence", model=str(make_sentence_folder(folder / "sentence")), device="cpu"
    ),
}
TEXTS_ONLY = ["sentence"]
with_pictures = pytest.mark.parametrize("config", [name for name in EMBEDDERS if name not in TEXTS_ONLY], indirect=True)
TEXTS = ["France", "", "Österreich, 国家 🇫🇷", "the flag of Peru \n\t is red", "word " * 400, "a\u0301"]
TOLERANCE = 1e-5  # of a number in a row of length 1, when other rows stand beside it


@pytest.fixture(scope="module", params=EMBEDDERS)
def config(request: pytest.FixtureRequest) -> Iterator[EmbeddingsConfig]:
    with TemporaryDirectory() as folder:
        yield EMBEDDERS[request.param](Path(folder))


@pytest.fixture(scope="module")
def embedder(config: EmbeddingsConfig) -> Embedder:
    return open_embedder(config)


def picture_rows(embedder: Embedder, count: int) -> np.ndarray:
    return embedder.embed_images([embedder.prepare_image(picture(number)) for number in range(count)])


def test_all_kinds_are_in_this_suite() -> None:
    assert {name.split()[0] for name in EMBEDDERS} == set(embedder_names())


def test_rows_of_texts_have_length_one(embedder: Embedder) -> None:
    rows = embedder.embed_texts(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (len(TEXTS), embedder.identity.dimension)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@with_pictures
def test_rows_of_pictures_have_length_one(embedder: Embedder) -> None:
    rows = picture_rows(embedder, 5)
    assert rows.dtype == np.float32
    assert rows.shape == (5, embedder.identity.dimension)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_the_same_texts_give_the_same_bytes(embedder: Embedder) -> None:
    assert embedder.embed_texts(TEXTS).tobytes() == embedder.embed_texts(TEXTS).tobytes()


@with_pictures
def test_the_same_pictures_give_the_same_bytes(embedder: Embedder) -> None:
    assert picture_rows(embedder, 9).tobytes() == picture_rows(embedder, 9).tobytes()


def test_a_text_in_a_batch_is_the_text_alone(embedder: Embedder) -> None:
    alone = np.concatenate([embedder.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(embedder.embed_texts(TEXTS), alone, atol=TOLERANCE)
    np.testing.assert_allclose(embedder.embed_texts(TEXTS[::-1])[::-1], alone, atol=TOLERANCE)


@with_pictures
def test_a_picture_in_a_batch_is_the_picture_alone(embedder: Embedder) -> None:
    rows = picture_rows(embedder, 6)
    alone = [embedder.embed_images([embedder.prepare_image(picture(number))])[0] for number in range(6)]
    np.testing.assert_allclose(rows, alone, atol=TOLERANCE)
    assert len(np.unique(rows.round(4), axis=0)) == 6


def test_an_empty_batch_has_no_rows(embedder: Embedder) -> None:
    assert embedder.embed_texts([]).shape == (0, embedder.identity.dimension)
    if "image" in embedder.identity.modalities:
        assert embedder.embed_images([]).shape == (0, embedder.identity.dimension)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=4))
@settings(max_examples=15)
def test_any_text_has_a_row(embedder: Embedder, texts: list[str]) -> None:
    rows = embedder.embed_texts(texts)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert 0 <= embedder.count_cut(texts) <= len(texts)


def test_what_is_beyond_the_longest_text_changes_nothing_and_is_counted(embedder: Embedder) -> None:
    long, longer = "flag " * 600, "flag " * 600 + "cross"
    cut = embedder.count_cut(["flag", long, longer])
    assert cut in (0, 2)
    rows = embedder.embed_texts([long, longer])
    assert np.allclose(rows[0], rows[1], atol=1e-6) == (cut == 2)


@pytest.mark.parametrize("config", TEXTS_ONLY, indirect=True)
def test_a_modality_that_is_missing_is_named_with_one_that_has_it(
    config: EmbeddingsConfig, embedder: Embedder, tmp_path: Path
) -> None:
    assert embedder.identity.modalities == ("text",)
    archive = vector_archive(tmp_path, embedder.identity)
    assert encode_pictures(embedder, config, [], archive).embedded == 0
    for ask in (
        lambda: embedder.prepare_image(picture(1)),
        lambda: embedder.embed_images([picture(1)]),
        lambda: encode_pictures(embedder, config, pictures(1), archive),
    ):
        with pytest.raises(EmbeddingError, match=r"no vectors of pictures\. Set kind = 'clip'"):
            ask()


@with_pictures
@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", picture(1)[:-40]], ids=len)
def test_what_is_no_picture_is_an_error_that_says_so(embedder: Embedder, data: bytes) -> None:
    with pytest.raises(EmbeddingError, match="not a picture"):
        embedder.prepare_image(data)


@with_pictures
def test_pictures_are_prepared_in_threads_as_in_one(embedder: Embedder) -> None:
    rows = picture_rows(embedder, 40)
    with ThreadPoolExecutor(4) as pool:
        prepared = list(pool.map(lambda number: embedder.prepare_image(picture(number)), range(40)))
    assert embedder.embed_images(prepared).tobytes() == rows.tobytes()


def test_opened_again_it_is_the_same(config: EmbeddingsConfig, embedder: Embedder) -> None:
    again = open_embedder(config)
    assert again.identity.digest == embedder.identity.digest
    assert again.embed_texts(TEXTS).tobytes() == embedder.embed_texts(TEXTS).tobytes()


def test_neither_device_nor_libraries_are_part_of_the_digest(config: EmbeddingsConfig, embedder: Embedder) -> None:
    elsewhere = open_embedder(config.model_copy(update={"device": "cpu,cpu", "batch_size": 3}))
    assert elsewhere.identity.digest == embedder.identity.digest
    assert embedder.identity.libraries


def test_the_dtype_on_disk_is_part_of_the_digest(config: EmbeddingsConfig, embedder: Embedder) -> None:
    other = open_embedder(config.model_copy(update={"dtype": "float32"}))
    assert other.identity.digest != embedder.identity.digest


def test_the_identity_travels_as_json_and_by_pickle(embedder: Embedder) -> None:
    identity = embedder.identity
    back = read_identity({IDENTITY_METADATA: identity.to_json().encode()}, "here")
    assert back == identity
    assert back.libraries == identity.libraries
    assert pickle.loads(pickle.dumps(identity)) == identity


def test_what_is_embedded_comes_back_from_the_tables_of_a_build(
    config: EmbeddingsConfig, embedder: Embedder, tmp_path: Path
) -> None:
    archive = vector_archive(tmp_path / "archive", embedder.identity)
    assert encode_texts(embedder, config, TEXTS, archive).embedded == len(TEXTS)
    shown = pictures(5) if "image" in embedder.identity.modalities else []
    if shown:
        report = encode_pictures(embedder, config, [*shown, ("broken", b"no picture")], archive)
        assert (report.embedded, [row.name for row in report.failed]) == (5, ["broken"])
        assert "not a picture" in report.failed[0].reason
    write_vectors(
        embedder.identity,
        archive,
        texts=enumerate(TEXTS),
        pictures=[*(sha256 for sha256, _ in shown), *(["broken"] if shown else [])],
        folder=tmp_path / "stage",
    )
    vectors = open_vectors(tmp_path / "stage")
    assert vectors.identity == embedder.identity
    rows, mask = vectors.texts(range(len(TEXTS) + 1))
    assert mask.tolist() == [True] * len(TEXTS) + [False]
    np.testing.assert_allclose(rows[:-1], embedder.embed_texts(TEXTS), atol=1e-3)
    assert not rows[-1].any()
    if shown:
        rows, mask = vectors.pictures([sha256 for sha256, _ in shown] + ["broken"])
        assert mask.tolist() == [True] * 5 + [False]
        np.testing.assert_allclose(rows[:-1], picture_rows(embedder, 5), atol=1e-3)
