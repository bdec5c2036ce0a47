"""What every decoder promises, whatever its formula."""

import pytest
import torch

from mmkg.reasoners.triple_scores import DECODERS, ConvEConfig, open_decoder

WIDTH, NUM_ENTITIES, NUM_QUERIES = 12, 9, 6


@pytest.fixture(params=sorted(DECODERS))
def decoder(request):
    torch.manual_seed(0)
    return open_decoder(request.param, width=WIDTH, num_entities=NUM_ENTITIES, conve=ConvEConfig(height=4, channels=3))


@pytest.fixture
def parts():
    torch.manual_seed(1)
    return torch.randn(NUM_QUERIES, WIDTH), torch.randn(NUM_QUERIES, WIDTH), torch.randn(NUM_ENTITIES, WIDTH)


def scores(decoder, head, relation, entity):
    return decoder.score_candidates(decoder.query(head, relation), entity, decoder.bias)


def test_every_candidate_gets_a_score(decoder, parts):
    assert scores(decoder, *parts).shape == (NUM_QUERIES, NUM_ENTITIES)


def test_chunks_of_candidates_are_the_whole(decoder, parts):
    head, relation, entity = parts
    decoder.eval()
    query = decoder.query(head, relation)
    bias = torch.zeros(NUM_ENTITIES) if decoder.bias is None else decoder.bias
    chunks = [decoder.score_candidates(query, entity[i : i + 4], bias[i : i + 4]) for i in range(0, NUM_ENTITIES, 4)]
    torch.testing.assert_close(torch.cat(chunks, dim=1), scores(decoder, *parts))


def test_one_triple_is_its_place_in_all_scores(decoder, parts):
    head, relation, entity = parts
    decoder.eval()
    single = decoder.score_triples(head, relation, entity[:NUM_QUERIES])
    everything = decoder.score_candidates(decoder.query(head, relation), entity)
    torch.testing.assert_close(single, everything.diagonal())


def test_a_query_alone_scores_as_in_a_batch(decoder, parts):
    head, relation, entity = parts
    decoder.eval()
    alone = scores(decoder, head[2:3], relation[2:3], entity)
    torch.testing.assert_close(alone[0], scores(decoder, *parts)[2])


def test_another_relation_gives_other_scores(decoder, parts):
    head, relation, entity = parts
    decoder.eval()
    assert not torch.allclose(scores(decoder, head, relation, entity), scores(decoder, head, relation.flip(0), entity))


def test_every_parameter_and_input_gets_a_gradient(decoder, parts):
    inputs = [part.clone().requires_grad_() for part in parts]
    scores(decoder, *inputs).square().sum().backward()
    for name, tensor in [*decoder.named_parameters(), *zip(("head", "relation", "entity"), inputs, strict=True)]:
        assert tensor.grad is not None, name
        assert tensor.grad.abs().sum() > 0, name


def test_n3_is_one_number_a_row_and_grows_with_the_cube(decoder, parts):
    entity = parts[2]
    assert decoder.n3(entity).shape == (NUM_ENTITIES,)
    torch.testing.assert_close(decoder.n3(2 * entity), 8 * decoder.n3(entity))
