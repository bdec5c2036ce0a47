"""Multimodal subgraphs: what is a node, which edges are there, how far it all is; and batches of them."""

import dataclasses

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError, MmkgError
from mmkg.subgraphs.assemble import NodeKind, Picture, assemble, hops_from
from mmkg.subgraphs.batch_multimodal import batch_multimodal

TWO = np.array([1.0, 0.0], np.float32)


def of_france():
    """France -capital-> Paris -in-> Europe; two pictures of France, one of which shows Paris too; one failed."""
    return assemble(
        entity_ids=["France", "Paris", "Europe"],
        labels=["France", "Paris", None],
        vectors=[TWO, 2 * TWO, None],
        src=np.array([0, 1]),
        relation=np.array([0, 1]),
        dst=np.array([1, 2]),
        num_relations=2,
        num_seeds=1,
        dimension=2,
        pictures={
            0: [Picture(sha256="a", vector=TWO), Picture(sha256="b", vector=None)],
            1: [Picture(sha256="a", vector=TWO)],
        },
        attributes={2: [("large", TWO)]},
    )


@pytest.mark.capability("MR-03")
def test_every_picture_is_a_node_that_leads_to_its_entities_by_image_of():
    subgraph = of_france()
    assert subgraph.keys == ("France", "Paris", "Europe", "a", "b", "large")
    assert subgraph.kind_N.tolist() == [NodeKind.ENTITY] * 3 + [NodeKind.IMAGE] * 2 + [NodeKind.ATTRIBUTE]
    edges = list(zip(subgraph.src_E.tolist(), subgraph.relation_E.tolist(), subgraph.dst_E.tolist(), strict=True))
    assert edges == [(0, 0, 1), (1, 1, 2), (3, 2, 0), (4, 2, 0), (3, 2, 1), (5, 3, 2)]
    assert subgraph.num_relations == 4
    assert subgraph.is_cross.tolist() == [False, False, True, True, True, False]
    assert subgraph.entity_of_image == {3: 0, 4: 0}


def test_hops_count_pictures_and_attributes_and_go_either_way_along_edges():
    assert of_france().hop_N.tolist() == [0, 1, 2, 1, 1, 3]
    assert hops_from(2, 5, np.array([4, 3]), np.array([0, 4])).tolist() == [0, 0, -1, 2, 1]


def test_what_has_no_vector_keeps_its_node_with_zeros_and_a_mask():
    subgraph = of_france()
    assert subgraph.has_vector_N.tolist() == [True, True, False, True, False, True]
    assert not subgraph.vector_ND[~subgraph.has_vector_N].any()
    with pytest.raises(MmkgError, match=r"Rome: expected a vector of 2 numbers, found shape \(3,\)"):
        assemble(
            entity_ids=["Rome"], labels=["Rome"], vectors=[np.zeros(3, np.float32)], src=np.empty(0, np.int64),
            relation=np.empty(0, np.int64), dst=np.empty(0, np.int64), num_relations=0, num_seeds=1, dimension=2,
        )  # fmt: skip


def test_text_and_image_subgraphs_part_the_nodes_and_pictures_are_tied_as_their_entities_are():
    subgraph = of_france()
    text, image = subgraph.text_subgraph(), subgraph.image_subgraph()
    assert text.keys == ("France", "Paris", "Europe", "large")
    assert text.src_E.tolist() == [0, 1, 3]
    assert image.keys == ("a", "b")
    assert image.num_edges == 0  # both are pictures of France first, and France has no triple with itself
    two = assemble(
        entity_ids=["France", "Paris"], labels=[None, None], vectors=[TWO, TWO], src=np.array([0]),
        relation=np.array([0]), dst=np.array([1]), num_relations=1, num_seeds=2, dimension=2,
        pictures={
            0: [Picture(sha256="a", vector=TWO)],
            1: [Picture(sha256="b", vector=TWO), Picture(sha256="c", vector=TWO)],
        },
        max_images=1,
    ).image_subgraph()  # fmt: skip
    assert (two.keys, two.src_E.tolist(), two.relation_E.tolist(), two.dst_E.tolist()) == (("a", "b"), [0], [0], [1])


def test_edges_between_two_pictures_stay_in_the_image_subgraph_before_the_lent_ones():
    france = of_france()  # a and b are nodes 3 and 4; below b also shows Paris first, by an edge of its own
    tied = dataclasses.replace(
        france,
        src_E=np.array([0, 3, 4, 4]),
        relation_E=np.array([0, 2, 2, 1]),
        dst_E=np.array([1, 0, 1, 3]),
    )
    for image, expected in (
        (tied.image_subgraph(), [(1, 1, 0), (0, 0, 1)]),
        (tied.image_subgraph(lent=False), [(1, 1, 0)]),
    ):
        edges = zip(image.src_E.tolist(), image.relation_E.tolist(), image.dst_E.tolist(), strict=True)
        assert (image.keys, list(edges)) == (("a", "b"), expected)


def test_a_batch_keeps_graphs_apart_pads_their_nodes_and_holds_pictures_that_can_be_aligned():
    one = of_france()
    empty = one.keep_nodes(np.zeros(6, np.bool_))
    batch = batch_multimodal([one, empty, one.text_subgraph()])
    assert batch.num_graphs == 3
    assert batch.graph.graph_index().tolist() == [0] * 6 + [2] * 4
    assert batch.mask_GM.sum(dim=1).tolist() == [6, 0, 4]
    assert torch.equal(batch.node_GM[2, :4], torch.arange(6, 10))
    assert batch.seed_N.tolist() == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert (batch.picture_K.tolist(), batch.entity_of_picture_K.tolist()) == ([3], [0])  # the other has no vector
    with pytest.raises(ConfigError, match="at least one subgraph"):
        batch_multimodal([])


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(MmkgError, match="leads to a node outside 0 to 0"):
        assemble(
            entity_ids=["Rome"], labels=["Rome"], vectors=[None], src=np.array([0]), relation=np.array([0]),
            dst=np.array([1]), num_relations=1, num_seeds=1, dimension=2,
        )  # fmt: skip
