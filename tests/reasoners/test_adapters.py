"""Adapters, slots and the alignment loss: by hand, and by what must always hold."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import ConfigError
from mmkg.reasoners.adapters import Adapter, read_rows
from mmkg.reasoners.alignment import draw_pictures, triplet_alignment
from mmkg.reasoners.slots import fill_slots, parse_template


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- adapters


@pytest.mark.capability("MR-10", "MR-P4")
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6))
def test_a_query_reads_convex_combinations_of_the_rows_that_are_there(seed, length, rows):
    query, row = drawn(3, length, 4, seed=seed), drawn(3, rows, 4, seed=seed + 1)
    mask = torch.rand(3, rows, generator=torch.Generator().manual_seed(seed)) < 0.6
    out, weight = read_rows(query, row, mask)
    assert out.shape == (3, length, 4)
    assert weight.shape == (3, length, rows)
    assert (weight >= 0).all()
    assert not weight.masked_select(~mask[:, None, :].expand_as(weight)).any()
    assert torch.allclose(weight.sum(dim=2), mask.any(dim=1).float()[:, None].expand(3, length), atol=1e-6)
    assert torch.allclose(out, torch.einsum("blp,bpd->bld", weight, row), atol=1e-6)
    for item in range(3):
        if mask[item].any():  # in the hull: no further out than its rows along any axis
            assert (out[item] <= row[item][mask[item]].max(dim=0).values + 1e-5).all()
            assert (out[item] >= row[item][mask[item]].min(dim=0).values - 1e-5).all()


@pytest.mark.capability("MR-10")
def test_equations_one_and_two_by_hand():
    adapter = Adapter(1, 2)
    with torch.no_grad():
        adapter.project.weight.copy_(torch.tensor([[1.0], [2.0]]))
        adapter.project.bias.copy_(torch.tensor([0.0, 1.0]))
    row = adapter.adapt(torch.tensor([[[1.0], [0.0]]]))
    assert row.tolist() == [[[1.0, 3.0], [0.0, 1.0]]]
    share = 1 / (1 + math.exp(-(3 - 1) / math.sqrt(2)))  # the query [0, 1] scores 3 and 1, over the root of d = 2
    out = adapter(torch.tensor([[[0.0, 1.0]]]), row, torch.ones(1, 2, dtype=torch.bool))
    assert torch.allclose(out, torch.tensor([[[share, 3 * share + (1 - share)]]]))


def test_without_rows_there_is_nothing_to_read_and_other_widths_are_refused():
    out, weight = read_rows(drawn(2, 3, 4), drawn(2, 0, 4), torch.ones(2, 0, dtype=torch.bool))
    assert not out.any()
    assert weight.shape == (2, 3, 0)
    with pytest.raises(ConfigError, match="the same width"):
        read_rows(drawn(2, 3, 4), drawn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool))


# --- slots


@pytest.mark.capability("MR-12")
def test_slots_of_several_sizes_stand_in_order_and_padding_on_the_left():
    template = parse_template("<knowledge><image>Q: <text>", ["knowledge", "image", "text"])
    asked = {"Q: ": torch.full((1, 2), 9.0)}
    one = {"knowledge": torch.full((2, 2), 1.0), "image": torch.full((1, 2), 2.0), "text": torch.full((1, 2), 3.0)}
    two = {"knowledge": torch.zeros(0, 2), "image": torch.zeros(0, 2), "text": torch.full((2, 2), 3.0)}
    prompt = fill_slots(template, [one, two], asked)
    assert prompt.row_BPd[..., 0].tolist() == [[1, 1, 2, 9, 3], [0, 0, 9, 3, 3]]
    assert prompt.mask_BP.tolist() == [[True] * 5, [False, False, True, True, True]]
    assert {name: place.tolist() for name, place in prompt.place_of.items()} == {
        "knowledge": [[0, 2], [2, 2]],
        "image": [[2, 3], [2, 2]],
        "text": [[4, 5], [3, 5]],
    }
    first = fill_slots(template, [one, two], asked, torch.full((1, 2), 7.0))
    assert first.row_BPd[..., 0].tolist() == [[7, 1, 1, 2, 9, 3], [0, 0, 7, 9, 3, 3]]
    assert first.place_of["text"].tolist() == [[5, 6], [4, 6]]


def test_slips_in_a_template_are_told_and_not_read_as_text():
    with pytest.raises(ConfigError, match=r"no slot of a prompt is called 'imgae'\. Did you mean 'image'"):
        parse_template("<imgae><text>", ["image", "text"])
    with pytest.raises(ConfigError, match="stands twice"):
        parse_template("<text><text>", ["text"])
    template = parse_template("<text>", ["text"])
    with pytest.raises(ConfigError, match="at least one item"):
        fill_slots(template, [], {})
    with pytest.raises(ConfigError, match="slot 'text' of the prompt is not filled"):
        fill_slots(template, [{}], {})
    with pytest.raises(ConfigError, match=r"one width, found \[2, 3\]"):
        fill_slots(template, [{"text": drawn(1, 2)}], {}, drawn(1, 3))


# --- alignment


@pytest.mark.capability("MR-11", "MR-P5")
def test_the_sum_of_hinges_is_what_a_finger_counts():
    anchor = torch.tensor([[0.0], [4.0], [5.0]])
    positive = torch.tensor([[1.0], [4.0], [1.0]])
    entity = torch.tensor([7, 8, 9])
    # distances: anchor 0 to positives 1, 4, 1; anchor 1: 3, 0, 3; anchor 2: 4, 1, 4. Margin 2.
    # anchor 0: 1 - 4 + 2 < 0, 1 - 1 + 2 = 2; anchor 1: both 0 - 3 + 2 < 0; anchor 2: 4 - 4 + 2 = 2, 4 - 1 + 2 = 5
    assert triplet_alignment(anchor, positive, entity, margin=2.0).item() == pytest.approx(2 + 2 + 5)
    assert triplet_alignment(anchor, positive, entity, margin=2.0, negatives="nearest").item() == pytest.approx(2 + 5)


@pytest.mark.capability("MR-P5")
@given(st.integers(0, 1000), st.floats(0, 2))
def test_it_is_zero_where_every_positive_is_nearer_by_the_margin_and_no_pair_is_its_own_negative(seed, margin):
    positive = drawn(4, 3, seed=seed) * 10
    nearest = torch.cdist(positive, positive).fill_diagonal_(math.inf).min().item()
    loss = triplet_alignment(positive, positive, torch.arange(4), margin=margin)
    assert loss.item() == pytest.approx(0, abs=1e-3) if nearest > margin else loss.item() >= 0
    assert triplet_alignment(positive[:1], positive[:1], torch.arange(1), margin=margin).item() == 0


@pytest.mark.capability("MR-11")
def test_two_pictures_of_one_entity_and_those_of_another_graph_are_no_negatives():
    anchor, positive = drawn(4, 3), drawn(4, 3, seed=1)
    same = triplet_alignment(anchor, positive, torch.zeros(4, dtype=torch.int64), margin=50.0)
    apart = triplet_alignment(anchor, positive, torch.arange(4), torch.arange(4), margin=50.0)
    assert same.item() == apart.item() == 0
    halves = [triplet_alignment(anchor[p], positive[p], torch.arange(4)[p], margin=1.0) for p in ([0, 1], [2, 3])]
    graphs = torch.tensor([0, 0, 1, 1])
    assert triplet_alignment(anchor, positive, torch.arange(4), graphs, margin=1.0).item() == pytest.approx(
        sum(half.item() for half in halves)
    )
    with pytest.raises(ConfigError, match="margin"):
        triplet_alignment(anchor, positive, graphs, margin=-1)


@pytest.mark.capability("MR-11")
def test_pictures_are_drawn_without_replacement_up_to_m_of_each_graph():
    graph = torch.tensor([0] * 5 + [1] * 2)
    seen = set()
    for seed in range(20):
        picture, entity, of_graph = draw_pictures(
            torch.arange(7), torch.arange(10, 17), graph, per_graph=3, generator=torch.Generator().manual_seed(seed)
        )
        assert len(set(picture.tolist())) == 5
        assert torch.equal(entity, picture + 10)
        assert torch.bincount(of_graph).tolist() == [3, 2]
        seen |= set(picture.tolist())
    assert seen == set(range(7))
