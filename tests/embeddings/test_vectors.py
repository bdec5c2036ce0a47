"""The table of vectors: what is in it, what is masked, and who made it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import content_key, encode_pictures, encode_texts, open_vectors, vector_archive, write_vectors
from mmkg.embeddings import vectors as vectors_module
from mmkg.embeddings.base import IDENTITY_METADATA
from mmkg.embeddings.hashing import HashingEmbedder
from mmkg.embeddings.vectors import ERROR_METADATA
from mmkg.errors import EmbeddingError
from tests.embeddings.made_models import pictures

CONFIG = EmbeddingsConfig(kind="hashing")
EMBEDDER = HashingEmbedder(CONFIG)
TEXTS = [(7, "Peru"), (2, "France"), (5, "Niger"), (3, "France")]  # two entities of one text
SHOWN = pictures(4)


@pytest.fixture
def archive(tmp_path: Path):
    archive = vector_archive(tmp_path / "archive", EMBEDDER.identity)
    encode_texts(EMBEDDER, CONFIG, [text for _, text in TEXTS], archive)
    encode_pictures(EMBEDDER, CONFIG, SHOWN, archive)
    return archive


def write(archive, folder: Path, **changes):
    wanted = {"texts": TEXTS, "pictures": [sha256 for sha256, _ in SHOWN], **changes}
    return write_vectors(EMBEDDER.identity, archive, folder=folder, **wanted)


def test_vectors_are_found_by_entity_and_by_picture(archive, tmp_path: Path) -> None:
    write(archive, tmp_path)
    vectors = open_vectors(tmp_path)
    rows, mask = vectors.texts([3, 5, 2])
    assert mask.all()
    np.testing.assert_allclose(rows, EMBEDDER.embed_texts(["France", "Niger", "France"]), atol=1e-3)
    rows, mask = vectors.pictures([SHOWN[2][0], SHOWN[0][0]])
    assert mask.all()
    prepared = [EMBEDDER.prepare_image(SHOWN[place][1]) for place in (2, 0)]
    np.testing.assert_allclose(rows, EMBEDDER.embed_images(prepared), atol=1e-3)
    assert rows.dtype == np.float32


def test_what_has_no_vector_is_zeros_and_a_mask(archive, tmp_path: Path) -> None:
    counts = write(archive, tmp_path, texts=[*TEXTS, (4, "never embedded")], pictures=["f" * 64, SHOWN[0][0]])
    assert counts["texts"], counts["texts_without_vector"] == (4, 1)
    assert (counts["pictures"], counts["pictures_without_vector"]) == (1, 1)
    vectors = open_vectors(tmp_path)
    rows, mask = vectors.texts([4, 2, 0, 999, -1])
    assert mask.tolist() == [False, True, False, False, False]
    assert not rows[~mask].any()
    rows, mask = vectors.pictures(["", "f" * 64, SHOWN[0][0], "0", "g" * 70])
    assert mask.tolist() == [False, False, True, False, False]
    assert not rows[~mask].any()


def test_all_vectors_of_a_modality_come_with_their_ids_in_order(archive, tmp_path: Path) -> None:
    write(archive, tmp_path)
    vectors = open_vectors(tmp_path)
    ids, rows = vectors.all("text")
    assert ids.tolist() == [2, 3, 5, 7]
    assert np.array_equal(rows, vectors.texts(ids)[0])
    ids, rows = vectors.all("image")
    assert ids.tolist() == sorted(sha256 for sha256, _ in SHOWN)
    assert np.array_equal(rows, vectors.pictures(ids.tolist())[0])


def test_the_order_in_which_things_come_changes_no_byte(archive, tmp_path: Path) -> None:
    asked = [sha256 for sha256, _ in SHOWN]
    write(archive, tmp_path / "one")
    write(archive, tmp_path / "other", texts=TEXTS[::-1], pictures=[*asked[::-1], *asked])
    [one] = (tmp_path / "one" / "vectors").iterdir()
    [other] = (tmp_path / "other" / "vectors").iterdir()
    assert one.read_bytes() == other.read_bytes()


def test_the_schema_is_what_it_is(archive, tmp_path: Path) -> None:
    write(archive, tmp_path)
    schema = pq.read_schema(tmp_path / "vectors" / "part-00000.parquet")
    assert [f"{column.name}: {column.type}{'' if column.nullable else ' not null'}" for column in schema] == [
        "entity_index: int64",
        "sha256: string",
        "modality: string not null",
        "content: string not null",
        "vector: fixed_size_list<element: halffloat not null>[256] not null",
    ]
    assert json.loads(schema.metadata[IDENTITY_METADATA]) == json.loads(EMBEDDER.identity.to_json())
    table = pq.read_table(tmp_path / "vectors")
    assert table["modality"].to_pylist() == ["text"] * 4 + ["image"] * 4
    assert table["content"].to_pylist()[:2] == [content_key("text", "France")] * 2
    assert table["sha256"].null_count == table["entity_index"].null_count == 4


def test_the_error_of_the_dtype_is_told_in_counts_and_metadata(archive, tmp_path: Path) -> None:
    counts = write(archive, tmp_path)
    rows, _ = open_vectors(tmp_path).texts([index for index, _ in TEXTS])
    exact = EMBEDDER.embed_texts([text for _, text in TEXTS])
    at_least = np.linalg.norm(rows - exact, axis=1).max()
    assert at_least * 0.999 <= counts["cosine_error_max"] < 6e-4
    assert 0 < counts["cosine_error_mean"] <= counts["cosine_error_max"]
    told = json.loads(pq.read_schema(tmp_path / "vectors" / "part-00000.parquet").metadata[ERROR_METADATA])
    assert told == {"rows": 8, "max": counts["cosine_error_max"], "mean": counts["cosine_error_mean"]}


def test_a_table_of_several_parts_reads_as_one(archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(archive, tmp_path / "one")
    monkeypatch.setattr(vectors_module, "_ROWS_PER_PART", 3)
    assert write(archive, tmp_path / "three") == pytest.approx(whole)
    one, three = open_vectors(tmp_path / "one"), open_vectors(tmp_path / "three")
    assert len(three.files) == 3
    for modality in ("text", "image"):
        for found, expected in zip(three.all(modality), one.all(modality), strict=True):
            assert np.array_equal(found, expected)
    assert three.digest != one.digest


def test_parts_of_an_earlier_writer_are_gone(archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(vectors_module, "_ROWS_PER_PART", 2)
        write(archive, tmp_path)
    write(archive, tmp_path)
    assert len(open_vectors(tmp_path).files) == 1


def test_a_table_without_rows_still_says_who_would_have_made_them(archive, tmp_path: Path) -> None:
    counts = write(archive, tmp_path, texts=[], pictures=[])
    assert (counts["texts"], counts["pictures"], counts["cosine_error_max"]) == (0, 0, 0)
    vectors = open_vectors(tmp_path)
    assert vectors.identity == EMBEDDER.identity
    assert vectors.all("image")[1].shape == (0, 256)
    assert not vectors.texts([1, 2])[1].any()


def test_files_of_two_embedders_are_not_read_as_one(archive, tmp_path: Path) -> None:
    write(archive, tmp_path)
    other = HashingEmbedder(EmbeddingsConfig(kind="hashing", dtype="float32"))
    write_vectors(
        other.identity, vector_archive(tmp_path, other.identity), texts=[], pictures=[], folder=tmp_path / "other"
    )
    [second] = (tmp_path / "other" / "vectors").iterdir()
    second.rename(tmp_path / "vectors" / "part-00001.parquet")
    with pytest.raises(EmbeddingError, match=r"part-00001\.parquet: made by .* two embedders cannot be compared"):
        open_vectors(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PAR1 cut off", "not a whole Parquet file"),
        (None, "no vectors here"),
        (pa.table({"a": [1]}), "says not which embedder"),
        (pa.table({"a": [1]}).replace_schema_metadata({IDENTITY_METADATA: EMBEDDER.identity.to_json()}), "columns"),
    ],
)
def test_what_is_no_table_of_vectors_is_refused(tmp_path: Path, content: bytes | pa.Table | None, says: str) -> None:
    path = tmp_path / "vectors" / "part-00000.parquet"
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        pq.write_table(content, path)
    with pytest.raises(EmbeddingError, match=says):
        open_vectors(tmp_path)


def test_float32_on_disk_costs_nothing(tmp_path: Path) -> None:
    config = EmbeddingsConfig(kind="hashing", dtype="float32")
    embedder = HashingEmbedder(config)
    archive = vector_archive(tmp_path, embedder.identity)
    encode_texts(embedder, config, ["Peru"], archive)
    counts = write_vectors(embedder.identity, archive, texts=[(0, "Peru")], pictures=[], folder=tmp_path)
    assert counts["cosine_error_max"] == 0
    assert np.array_equal(open_vectors(tmp_path).texts([0])[0], embedder.embed_texts(["Peru"]))
