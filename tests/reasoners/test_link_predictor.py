"""The model as a whole: states, queries, penalty, and what evaluation asks of it."""

import pytest
import torch

from mmkg.encoders import open_encoder
from mmkg.errors import ConfigError
from mmkg.reasoners.link_predictor import LinkPredictor
from mmkg.reasoners.triple_scores import ConvEConfig, open_decoder
from mmkg.subgraphs.batch import MessageGraph

N, R, WIDTH = 5, 2, 8


def path_graph():
    """0 -0-> 1 -1-> 2 -0-> 3, and 4 alone."""
    ends = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 0]), torch.tensor([1, 2, 3])
    graph = MessageGraph(src_E=ends[0], relation_E=ends[1], dst_E=ends[2], num_nodes=N, num_relations=R)
    return graph.with_inverse_relations().with_self_relation()


def model_of(decoder="distmult", encoder=None, **options):
    torch.manual_seed(0)
    conve = ConvEConfig(height=2, channels=2, kernel=2)
    return LinkPredictor(
        num_entities=N,
        num_relations=R,
        width=WIDTH,
        decoder=open_decoder(decoder, width=WIDTH, num_entities=N, conve=conve),
        encoder=None
        if encoder is None
        else open_encoder(encoder, {"node_width": WIDTH, "relation_width": WIDTH, "num_heads": 2}),
        **options,
    )


def test_without_encoder_the_states_are_the_vectors():
    model = model_of()
    assert model.states() is model.entity_ND
    assert model.graph is None


@pytest.mark.parametrize("decoder", ["distmult", "complex", "conve"])
def test_the_scorer_gives_any_run_of_candidates_of_the_same_scores(decoder):
    model = model_of(decoder, "rgat", graph=path_graph())
    scorer = model.scorer()
    query = torch.tensor([[0, 0], [1, 3], [4, 2]])
    whole = scorer.score(query, 0, N)
    assert whole.shape == (3, N)
    parts = torch.cat([scorer.score(query, 0, 2), scorer.score(query, 2, 5)], dim=1)
    torch.testing.assert_close(parts, whole)
    with torch.no_grad():
        state = model.states()
        bias = model.decoder.bias
        expected = model.queries(state, query) @ state.t() + (0 if bias is None else bias)
    torch.testing.assert_close(whole, expected)


def test_a_message_goes_one_hop_and_not_along_hidden_edges():
    model = model_of("distmult", "rgat", graph=path_graph())
    with torch.no_grad():
        before = model.states()
        model.entity_ND[3] += 1
        changed = (model.states() - before).abs().sum(dim=1) > 1e-6
        assert changed.tolist() == [False, False, True, True, False]  # 2 hears 3 through the inverse relation
        keep = torch.ones(model.graph.num_edges, dtype=torch.bool)
        keep[[2, 3 + 2]] = False  # 2 -0-> 3 and its inverse
        hidden = model.states(keep)
        model.entity_ND[3] += 1
        changed = (model.states(keep) - hidden).abs().sum(dim=1) > 1e-6
        assert changed.tolist() == [False, False, False, True, False]


def test_the_penalty_by_hand():
    """Two queries, weights 1 and 3; the second has two tails."""
    model = model_of()
    query, row, tail = torch.tensor([[0, 0], [1, 3]]), torch.tensor([0, 1, 1]), torch.tensor([2, 3, 4])
    with torch.no_grad():
        entity, relation = (x.abs().pow(3).sum(1) for x in (model.entity_ND, model.relation_RD))
        first = entity[0] + relation[0] + entity[2]
        second = entity[1] + relation[3] + (entity[3] + entity[4]) / 2
        found = model.penalty(model.states(), query, row, tail, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(found, (first + 3 * second) / 4)


def test_an_encoder_needs_the_graph_of_all_entities():
    with pytest.raises(ConfigError, match="found none"):
        model_of("distmult", "rgat")
    small = MessageGraph(
        src_E=torch.tensor([0]), relation_E=torch.tensor([0]), dst_E=torch.tensor([1]), num_nodes=2, num_relations=R
    )
    with pytest.raises(ConfigError, match="one of 2 nodes"):
        model_of("distmult", "rgat", graph=small)
