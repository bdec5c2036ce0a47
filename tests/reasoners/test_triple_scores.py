"""Decoders by hand, and N3 by hand."""

import math

import pytest
import torch

from mmkg.errors import ConfigError
from mmkg.reasoners.triple_scores import ConvEConfig, open_decoder


def vectors(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_distmult_by_hand():
    decoder = open_decoder("distmult", width=2, num_entities=3)
    query = decoder.query(vectors([1, 2]), vectors([3, -1]))
    # (1·3)·1 + (2·-1)·2 = -1;  (1·3)·0 + (2·-1)·-5 = 10
    assert decoder.score_candidates(query, vectors([1, 2], [0, -5])).tolist() == [[-1.0, 10.0]]


def test_complex_by_hand():
    decoder = open_decoder("complex", width=2, num_entities=3)
    query = decoder.query(vectors([1, 2]), vectors([3, -1]))  # (1 + 2i)(3 - i) = 5 + 5i
    assert query.tolist() == [[5.0, 5.0]]
    # Re((5 + 5i) · conj(2 - i)) = 10 - 5
    assert decoder.score_candidates(query, vectors([2, -1])).tolist() == [[5.0]]


def test_complex_is_torchs_own_complex_product():
    torch.manual_seed(0)
    head, relation, tail = torch.randn(3, 5, 8, dtype=torch.float64)
    as_complex = [torch.complex(*x.chunk(2, dim=-1)) for x in (head, relation, tail)]
    expected = (as_complex[0] * as_complex[1] * as_complex[2].conj()).sum(-1).real
    decoder = open_decoder("complex", width=8, num_entities=5)
    torch.testing.assert_close(decoder.score_triples(head, relation, tail), expected)


def test_complex_can_tell_a_relation_from_its_mirror_and_distmult_cannot():
    head, relation, tail = torch.randn(3, 4, 6).unbind()
    for name, symmetric in (("distmult", True), ("complex", False)):
        decoder = open_decoder(name, width=6, num_entities=4)
        there, back = decoder.score_triples(head, relation, tail), decoder.score_triples(tail, relation, head)
        assert torch.allclose(there, back, atol=1e-5) is symmetric


def test_conve_by_hand():
    """One filter of side 1 and weight 1 over a 2 x 2 image of two vectors, a query layer that adds it up."""
    config = ConvEConfig(height=1, channels=1, kernel=1, input_dropout=0, channel_dropout=0, hidden_dropout=0)
    decoder = open_decoder("conve", width=2, num_entities=2, conve=config).eval()  # norms at their start: identity
    with torch.no_grad():
        decoder.convolution.weight.fill_(1)
        decoder.convolution.bias.fill_(0)
        decoder.to_query.weight.copy_(torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]]))
        decoder.to_query.bias.fill_(0)
        decoder.bias.copy_(torch.tensor([0.0, 10.0]))
    query = decoder.query(torch.tensor([[1.0, -7.0]]), torch.tensor([[2.0, 3.0]]))  # ReLU drops the -7: 1 + 2 + 3
    torch.testing.assert_close(query, torch.tensor([[6.0, 0.0]]), atol=1e-3, rtol=0)
    scores = decoder.score_candidates(query, torch.tensor([[1.0, 1.0], [0.5, 0.0]]), decoder.bias)
    torch.testing.assert_close(scores, torch.tensor([[6.0, 13.0]]), atol=1e-3, rtol=0)


def test_conve_has_the_parameters_of_its_paper():
    """Without embeddings: 32 filters of 3 x 3 over 20 x 20, a layer from 32 · 18 · 18 to 200, and a bias an entity."""
    decoder = open_decoder("conve", width=200, num_entities=7)
    assert sum(p.numel() for p in decoder.parameters()) == (
        2 + (32 * 9 + 32) + 2 * 32 + (32 * 18 * 18 * 200 + 200) + 2 * 200 + 7
    )


def test_n3_by_hand():
    real = open_decoder("distmult", width=2, num_entities=1)
    assert real.n3(vectors([1, -2], [0, 3])).tolist() == [9.0, 27.0]
    pairs = open_decoder("complex", width=4, num_entities=1)  # |3 + 4i|³ + |0 + i|³
    assert pairs.n3(vectors([3, 0, 4, 1])).tolist() == [126.0]


@pytest.mark.parametrize("name", ["distmult", "complex"])
def test_n3_has_the_right_gradient_and_none_at_zero(name):
    decoder = open_decoder(name, width=4, num_entities=1)
    torch.manual_seed(1)
    away = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder.n3, away)
    zero = torch.zeros(1, 4, requires_grad=True)
    decoder.n3(zero).sum().backward()
    assert zero.grad.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("name", "width", "words"),
    [("complx", 4, "Did you mean 'complex'"), ("complex", 3, "even width"), ("conve", 12, "multiple of 10")],
)
def test_a_decoder_that_cannot_be_is_refused_in_words(name, width, words):
    with pytest.raises(ConfigError, match=words):
        open_decoder(name, width=width, num_entities=2)


def test_a_filter_larger_than_the_image_is_refused():
    with pytest.raises(ConfigError, match="side 5"):
        open_decoder("conve", width=4, num_entities=2, conve=ConvEConfig(height=2, kernel=5))


def test_a_score_is_finite_for_vectors_of_any_size():
    for name in ("distmult", "complex"):
        decoder = open_decoder(name, width=2, num_entities=1)
        assert math.isfinite(float(decoder.score_triples(*torch.full((3, 1, 2), 1e10, dtype=torch.float64))))
