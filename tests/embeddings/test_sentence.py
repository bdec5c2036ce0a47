"""Sentence-transformers: real MiniLM weights without a network, and what decides the numbers."""

import json
import logging
import socket
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import open_embedder
from mmkg.errors import EmbeddingError
from tests.embeddings.made_models import make_sentence_folder


def settings(model: object, **changes: object) -> EmbeddingsConfig:
    return EmbeddingsConfig(**{"kind": "sentence", "model": str(model), "device": "cpu", **changes})


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_minilm_opens_without_a_network_and_knows_what_words_mean(no_network, capfd) -> None:
    embedder = open_embedder(settings("minilm"))
    rows = embedder.embed_texts(
        ["Ottawa is the capital of Canada", "the seat of the Canadian government", "a recipe for apple pie"]
    )
    cosines = rows @ rows.T
    assert cosines[0, 1] > 0.5 > 0.2 > cosines[0, 2]
    assert (embedder.identity.model, embedder.identity.dimension) == ("all-MiniLM-L6-v2", 384)
    assert embedder.identity.precision == "fp32"
    assert "%" not in "".join(capfd.readouterr())  # no bar of what it loads


def test_rows_are_those_of_the_library(tmp_path: Path) -> None:
    folder = make_sentence_folder(tmp_path / "model")
    texts = ["France", "a country in Western Europe", "", "x" * 50]
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(open_embedder(settings(folder)).embed_texts(texts), expected, atol=1e-5)


def test_whatever_decides_the_numbers_decides_the_identity(tmp_path: Path) -> None:
    base = open_embedder(settings(make_sentence_folder(tmp_path / "a" / "model"))).identity
    assert open_embedder(settings(make_sentence_folder(tmp_path / "b" / "model"))).identity == base
    assert open_embedder(settings(make_sentence_folder(tmp_path / "c" / "model", seed=1))).identity != base
    assert open_embedder(settings(make_sentence_folder(tmp_path / "d" / "model", pooling="cls"))).identity != base
    shorter = make_sentence_folder(tmp_path / "e" / "model")
    (shorter / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, "do_lower_case": False}))
    embedder = open_embedder(settings(shorter))
    assert embedder.identity.digest != base.digest
    assert embedder.count_cut(["a b c d e f g", "a b c d e f g h"]) == 1  # with start and end


def test_bf16_is_near_and_another_identity(tmp_path: Path) -> None:
    folder = make_sentence_folder(tmp_path / "model")
    exact, half = (open_embedder(settings(folder, precision=precision)) for precision in ("fp32", "bf16"))
    assert half.identity.digest != exact.identity.digest
    texts = ["France", "Peru and Bolivia"]
    rows = half.embed_texts(texts)
    assert rows.dtype == np.float32
    assert (rows * exact.embed_texts(texts)).sum(axis=1).min() > 0.999


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(EmbeddingError, match=r"cannot be loaded \(the folder\)"):
        open_embedder(settings(tmp_path))
