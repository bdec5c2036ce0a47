"""The loss over all entities, against the formula written out."""

import math

import pytest
import torch
from torch.nn import functional

from mmkg.training.losses import AllEntitiesLoss


def _problem(*, dtype: torch.dtype, bias: bool, num_queries: int = 7, num_entities: int = 11, width: int = 4):
    torch.manual_seed(3)
    query = torch.randn(num_queries, width, dtype=dtype, requires_grad=True)
    entity = torch.randn(num_entities, width, dtype=dtype, requires_grad=True)
    bias_n = torch.randn(num_entities, dtype=dtype, requires_grad=True) if bias else None
    label = torch.rand(num_queries, num_entities) < 0.3
    label[torch.arange(num_queries), torch.arange(num_queries)] = True  # every query has an answer
    row, tail = torch.nonzero(label, as_tuple=True)
    weight = torch.rand(num_queries, dtype=dtype) + 0.1
    return query, entity, bias_n, row, tail, weight, label.to(dtype)


def _written_out(query, entity, bias, label, weight):
    score = query @ entity.t() + (0 if bias is None else bias)
    each = functional.cross_entropy(score, label / label.sum(1, keepdim=True), reduction="none")
    return (each * weight).sum() / weight.sum()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows_at_once", [1, 3, 7, 100])
def test_loss_and_gradients_are_those_of_the_formula_however_it_is_cut(bias, rows_at_once):
    query, entity, bias_n, row, tail, weight, label = _problem(dtype=torch.float64, bias=bias)
    leaves = [query, entity] + ([bias_n] if bias else [])
    expected = _written_out(query, entity, bias_n, label, weight)
    wanted = torch.autograd.grad(3 * expected, leaves)
    loss = AllEntitiesLoss(rows_at_once=rows_at_once)(query, entity, bias_n, row, tail, weight)
    found = torch.autograd.grad(3 * loss, leaves)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_loss_by_hand():
    # scores 0 and ln 3: chances 1/4 and 3/4; the answer is the second
    query, entity = torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3)]])
    one = torch.ones(1)
    loss = AllEntitiesLoss()(query, entity, None, torch.tensor([0]), torch.tensor([1]), one)
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_bfloat16_products_stay_near_the_exact_gradient():
    query, entity, _, row, tail, weight, label = _problem(dtype=torch.float32, bias=False)
    wanted = torch.autograd.grad(_written_out(query, entity, None, label, weight), [query, entity])
    loss = AllEntitiesLoss(products=torch.bfloat16)(query, entity, None, row, tail, weight)
    found = torch.autograd.grad(loss, [query, entity])
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()


def test_a_hopeless_answer_gives_a_finite_loss_and_its_full_gradient():
    query, entity = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[500.0], [0.0]])
    loss = AllEntitiesLoss()(query, entity, None, torch.tensor([0]), torch.tensor([1]), torch.ones(1))
    (grad,) = torch.autograd.grad(loss, [query])
    assert math.isfinite(loss.item())
    assert loss.item() > 80
    assert grad.item() == pytest.approx(500.0)


def test_the_buffer_is_made_once_and_shared_by_batches():
    loss = AllEntitiesLoss(rows_at_once=4)
    first = loss.buffer(4, 10, torch.zeros(1))
    assert loss.buffer(2, 10, torch.zeros(1)).data_ptr() == first.data_ptr()
    assert loss.buffer(4, 12, torch.zeros(1)).shape == (4, 12)
