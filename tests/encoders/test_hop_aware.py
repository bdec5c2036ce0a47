"""Hop-Aware attention adds a vector a distance, and nothing else."""

import pytest
import torch

from mmkg.encoders.hop_aware import HopAware
from mmkg.errors import ConfigError


@pytest.mark.capability("G4-09")
def test_each_node_gets_the_vector_of_its_distance_and_far_ones_the_last():
    aware = HopAware(width=4, max_hops=2)
    node_ND = torch.randn(7, 4)
    added_ND = aware(node_ND, torch.tensor([0, 1, 2, 3, 50, -1, 1])) - node_ND
    table = aware.table.weight
    for row, number in zip(added_ND, [0, 1, 2, 2, 2, 3, 1], strict=True):  # the last row is for what is not reached
        torch.testing.assert_close(row, table[number], rtol=0, atol=1e-6)
    assert len(torch.unique(table, dim=0)) == 4  # so a wrong row would show


@pytest.mark.capability("G4-09")
def test_a_distance_that_no_node_has_is_not_trained():
    aware = HopAware(width=3, max_hops=2)
    aware(torch.zeros(3, 3), torch.tensor([0, 2, 9])).sum().backward()
    assert aware.table.weight.grad.tolist() == [[1] * 3, [0] * 3, [2] * 3, [0] * 3]


def test_a_new_table_is_small_against_the_vectors_it_is_added_to():
    torch.manual_seed(0)
    assert HopAware(width=64, max_hops=50).table.weight.norm(dim=1).mean() < 0.2


def test_no_nodes_and_a_table_of_the_target_alone_are_fine():
    aware = HopAware(width=4, max_hops=0)
    assert aware(torch.empty(0, 4), torch.empty(0, dtype=torch.int64)).shape == (0, 4)
    found = aware(torch.zeros(3, 4), torch.tensor([0, 1, -1]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("hop", [torch.tensor([1]), torch.zeros(3, 1, dtype=torch.int64), torch.tensor(1)])
def test_hops_of_another_shape_are_refused_and_not_broadcast(hop):
    with pytest.raises(ConfigError, match=r"one hop for each of N nodes, found \(3, 4\) and"):
        HopAware(width=4, max_hops=2)(torch.zeros(3, 4), hop)


def test_vectors_of_another_width_and_distances_that_are_no_whole_numbers_are_refused():
    aware = HopAware(width=4, max_hops=2)
    with pytest.raises(ConfigError, match=r"shape \(N, 4\) .* found \(3, 1\)"):
        aware(torch.zeros(3, 1), torch.tensor([0, 1, 2]))
    with pytest.raises(ConfigError, match="hop_N must be int64, found float32"):
        aware(torch.zeros(3, 4), torch.ones(3))
    with pytest.raises(ConfigError, match="max_hops: expected 0 or more, found -1"):
        HopAware(width=4, max_hops=-1)
