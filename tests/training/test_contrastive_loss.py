"""The contrastive loss: by hand, against open_clip, and what it must not depend on."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss
from torch.nn import functional

from mmkg.training.contrastive.loss import multi_positive_loss


def unit(count: int, width: int, seed: int) -> torch.Tensor:
    return functional.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_two_pairs_at_right_angles_have_the_loss_that_a_pencil_gives():
    # Scores are log 3 on the diagonal and 0 elsewhere: each softmax gives the right one 3 / (3 + 1).
    loss = multi_positive_loss(torch.eye(2), torch.eye(2), torch.tensor(math.log(3)), torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_a_caption_that_is_true_of_two_pictures_shares_its_weight_between_them():
    # exp(scores):  2 1 2     true:  1 0 1     by picture: log 5/2, log 4/2, log 3/1
    #               1 2 1            0 1 0     by caption: log 4/2, log 4/2, half of log 4/2 and half of log 4/1
    #               1 1 1            0 0 1
    texts = torch.eye(3)[[0, 1, 0]]
    true = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 1]], dtype=torch.bool)
    loss = multi_positive_loss(torch.eye(3), texts, torch.tensor(math.log(2)), true)
    by_picture = (math.log(5 / 2) + math.log(2) + math.log(3)) / 3
    by_caption = (math.log(2) + math.log(2) + (math.log(2) + math.log(4)) / 2) / 3
    assert loss.item() == pytest.approx((by_picture + by_caption) / 2)


def test_with_one_caption_each_and_none_true_of_another_it_is_the_loss_of_open_clip():
    images, texts, scale = unit(7, 5, 0), unit(7, 5, 1), torch.tensor(11.0)
    ours = multi_positive_loss(images, texts, scale, torch.eye(7, dtype=torch.bool))
    torch.testing.assert_close(ours, ClipLoss()(images, texts, scale))


def test_the_order_of_captions_does_not_matter():
    images, texts, order = unit(4, 6, 0), unit(8, 6, 1), torch.randperm(8, generator=torch.Generator().manual_seed(2))
    true = torch.eye(4, dtype=torch.bool).repeat_interleave(2, dim=1)
    one = multi_positive_loss(images, texts, torch.tensor(5.0), true)
    other = multi_positive_loss(images, texts[order], torch.tensor(5.0), true[:, order])
    torch.testing.assert_close(one, other)


def test_equal_captions_are_no_rivals_of_each_other():
    """Two pictures with one caption: no gradient pulls them apart, as CLIP's own loss does."""
    images = unit(2, 4, 0)[:1].repeat(2, 1).requires_grad_()
    texts = unit(2, 4, 1)[:1].repeat(2, 1)
    multi_positive_loss(images, texts, torch.tensor(10.0), torch.ones(2, 2, dtype=torch.bool)).backward()
    assert images.grad is not None
    assert images.grad.abs().max() < 1e-6
