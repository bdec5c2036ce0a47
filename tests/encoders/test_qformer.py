"""MM-QFormer: both orders against torch's own attention item by item, what padding and missing parts do, sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from mmkg.encoders.qformer import MmQformer, MmQformerConfig, RowAttention, SublayerEnd, num_parameters
from mmkg.errors import ConfigError

WIDTH = 8
RELEASED = MmQformerConfig(order="released", dropout=0)  # the released code's size: defaults are its own
CASES = [  # order, layers, whether text is passed on
    ("paper", 1, True),
    ("paper", 1, False),
    ("paper", 3, True),
    ("paper", 2, False),
    ("released", 1, True),
    ("released", 1, False),
    ("released", 3, True),
    ("released", 2, False),
]


def new_qformer(order="paper", num_layers=2, **settings_):
    torch.manual_seed(0)
    config = MmQformerConfig(
        **{"width": WIDTH, "num_heads": 2, "num_queries": 3, "order": order, "num_layers": num_layers} | settings_
    )
    qformer = MmQformer(config).double()
    with torch.no_grad():  # biases and gains are 0 or 1 at first, and would hide a mistake
        for parameter in qformer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return qformer.eval()


def ragged_items(counts=((4, 3), (2, 0), (0, 5), (0, 0), (1, 1)), seed=1):
    """For each item as many rows of text and of pictures as said."""
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) for count in item) for item in counts
    ]


def padded(rows, fill=0.0, extra=0):
    """Rows of several items in one tensor, and their mask."""
    longest = max(map(len, rows)) + extra
    row_BKd = torch.full((len(rows), longest, WIDTH), fill, dtype=torch.float64)
    mask_BK = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, of_item in enumerate(rows):
        row_BKd[number, : len(of_item)], mask_BK[number, : len(of_item)] = of_item, True
    return row_BKd, mask_BK


def batch_of(items, **padding):
    text, image = zip(*items, strict=True)
    return *padded(text, **padding), *padded(image, **padding)


def torch_attention(ours):
    """The same attention as torch's own module."""
    peer = nn.MultiheadAttention(WIDTH, ours.num_heads, batch_first=True).double()
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        peer.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        peer.out_proj.weight.copy_(ours.output.weight)
        peer.out_proj.bias.copy_(ours.output.bias)
    return lambda asks, rows: peer(asks[None], rows[None], rows[None])[0][0]


def one_item(qformer, text_Td, image_Vd):
    """The formulas of the paper and of the released code, line by line, for an item alone and without masks."""
    query, heard = qformer.query_Qd, text_Td
    for layer in qformer.layers:
        self_attention, cross_attention = torch_attention(layer.self_attention), torch_attention(layer.cross_attention)
        norm_1, norm_2, norm_3 = layer.self_end.norm, layer.cross_end.norm, layer.ffn_end.norm
        if qformer.config.order == "paper":
            both = torch.cat([query, heard])
            both = norm_1(both + self_attention(both, both))
            query, heard = both[:3], both[3:]
            query = norm_2(query + cross_attention(query, image_Vd) if len(image_Vd) else query)
        else:
            query = norm_1(query + self_attention(query, query))
            query = norm_2(query + cross_attention(query, image_Vd) if len(image_Vd) else query)
            both = torch.cat([query, text_Td])
            both = self_attention(both, both)
            query, heard = both[:3], both[3:]
        query = norm_3(query + layer.ffn(query))
    return query, heard


@pytest.mark.capability("G4-10", "G4-P6")
@pytest.mark.parametrize(("order", "num_layers", "pass_text"), CASES)
def test_each_item_of_a_ragged_batch_is_its_formula_alone(order, num_layers, pass_text):
    """Items with pictures and without, with text and without, in one batch; torch's attention, layer by layer."""
    qformer, items = new_qformer(order, num_layers, pass_text=pass_text), ragged_items()
    out = qformer(*batch_of(items))
    assert out.query_BQd.shape == (5, 3, WIDTH)
    assert (out.text_BTd is not None) == pass_text
    for number, (text_Td, image_Vd) in enumerate(items):
        query_Qd, heard_Td = one_item(qformer, text_Td, image_Vd)
        torch.testing.assert_close(out.query_BQd[number], query_Qd, rtol=0, atol=1e-10)
        if pass_text:
            torch.testing.assert_close(out.text_BTd[number, : len(text_Td)], heard_Td, rtol=0, atol=1e-10)
            assert (out.text_BTd[number, len(text_Td) :] == 0).all()


@pytest.mark.capability("G4-10", "G4-P7")
@pytest.mark.parametrize("order", ["paper", "released"])
@pytest.mark.parametrize("fill", [1e6, float("inf"), float("nan")])
def test_padding_of_any_value_and_number_changes_nothing_and_receives_no_gradient(order, fill):
    qformer, items = new_qformer(order, pass_text=True), ragged_items()
    plain = qformer(*batch_of(items))
    text_BTd, text_mask_BT, image_BVd, image_mask_BV = batch_of(items, fill=fill, extra=3)
    text_BTd.requires_grad_()
    image_BVd.requires_grad_()
    found = qformer(text_BTd, text_mask_BT, image_BVd, image_mask_BV)
    torch.testing.assert_close(found.query_BQd, plain.query_BQd, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.text_BTd[:, : plain.text_BTd.shape[1]], plain.text_BTd, rtol=0, atol=1e-12)
    found.query_BQd.square().sum().backward()
    for row_BKd, mask_BK in ((text_BTd, text_mask_BT), (image_BVd, image_mask_BV)):
        assert (row_BKd.grad[~mask_BK] == 0).all()
        assert (row_BKd.grad[mask_BK].abs().sum(1) > 0).all()


@pytest.mark.capability("G4-P7")
@settings(max_examples=10)
@given(st.sampled_from(["paper", "released"]), st.permutations(range(7)), st.permutations(range(6)))
def test_rows_of_pictures_and_of_text_may_stand_in_any_order_padding_between_them(order, of_images, of_text):
    qformer = new_qformer(order)
    text_BTd, text_mask_BT, image_BVd, image_mask_BV = batch_of(ragged_items(), extra=2)
    plain = qformer(text_BTd, text_mask_BT, image_BVd, image_mask_BV).query_BQd
    moved = qformer(
        text_BTd[:, of_text], text_mask_BT[:, of_text], image_BVd[:, of_images], image_mask_BV[:, of_images]
    ).query_BQd
    torch.testing.assert_close(moved, plain, rtol=0, atol=1e-12)


def test_the_order_of_queries_is_that_of_the_tokens():
    qformer, batch = new_qformer(), batch_of(ragged_items())
    plain = qformer(*batch).query_BQd
    with torch.no_grad():
        qformer.query_Qd.copy_(qformer.query_Qd[[2, 0, 1]])
    torch.testing.assert_close(qformer(*batch).query_BQd, plain[:, [2, 0, 1]], rtol=0, atol=1e-12)


@pytest.mark.capability("G4-P6")
@pytest.mark.parametrize("order", ["paper", "released"])
@pytest.mark.parametrize("slots", [0, 2])
def test_without_any_picture_cross_attention_adds_exactly_nothing(order, slots):
    """Not its bias either; and everything that learns has a finite gradient, zero for cross-attention."""
    qformer = new_qformer(order)
    text_BTd, text_mask_BT, _, _ = batch_of(ragged_items())
    nothing = torch.randn(5, slots, WIDTH, dtype=torch.float64), torch.zeros(5, slots, dtype=torch.bool)
    before = qformer(text_BTd, text_mask_BT, *nothing).query_BQd
    with torch.no_grad():
        for layer in qformer.layers:
            for parameter in layer.cross_attention.parameters():
                parameter.normal_()
    after = qformer(text_BTd, text_mask_BT, *nothing).query_BQd
    assert torch.equal(before, after)
    after.square().sum().backward()
    for name, parameter in qformer.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert ("cross_attention" in name) == (parameter.grad == 0).all(), name


@pytest.mark.capability("G4-P6")
@pytest.mark.parametrize("slots", [0, 2])
def test_no_kernel_is_asked_for_a_softmax_over_nothing(monkeypatch, slots):
    """Its answer is 0 in some kernels of torch and NaN in others; ours does not depend on it."""
    seen = []

    def noted(query, key, value, attn_mask=None):
        seen.append(key.shape[2] > 0 and (attn_mask is None or bool(attn_mask.any(dim=-1).all())))
        return plain(query, key, value, attn_mask=attn_mask)

    plain = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", noted)
    nothing = torch.randn(2, slots, WIDTH, dtype=torch.float64), torch.zeros(2, slots, dtype=torch.bool)
    new_qformer(num_layers=1)(*nothing, *nothing)
    assert seen == [True, True]


@pytest.mark.capability("G4-P6")
@pytest.mark.parametrize("order", ["paper", "released"])
@pytest.mark.parametrize(("num_text", "num_images"), [(0, 0), (0, 4), (4, 0), (1, 1)])
def test_no_text_at_all_is_as_text_of_padding_alone(order, num_text, num_images):
    qformer = new_qformer(order, pass_text=True)
    (text_Td, image_Vd), *_ = ragged_items(((num_text, num_images),))
    slim, wide = qformer(*batch_of([(text_Td, image_Vd)])), qformer(*batch_of([(text_Td, image_Vd)], extra=3))
    assert slim.query_BQd.isfinite().all()
    assert slim.text_BTd.shape == (1, num_text, WIDTH)
    torch.testing.assert_close(slim.query_BQd, wide.query_BQd, rtol=0, atol=1e-12)


@pytest.mark.capability("G4-10", "G4-P8")
def test_in_the_released_size_a_layer_has_9_451_776_parameters_and_20_queries_15_360():
    attention = 4 * (768 * 768 + 768)  # q, k, v and output, with biases: nn.MultiheadAttention
    ffn = 768 * 3072 + 3072 + 3072 * 768 + 768
    norms = 3 * (768 + 768)
    assert (attention, ffn, norms) == (2_362_368, 4_722_432, 4_608)
    assert 2 * attention + ffn + norms == 9_451_776
    qformer = MmQformer(RELEASED)
    assert sum(parameter.numel() for parameter in qformer.layers[0].parameters()) == 9_451_776
    assert qformer.query_Qd.numel() == 15_360
    assert num_parameters(RELEASED) == 9_451_776 + 15_360


@pytest.mark.capability("G4-P8")
@pytest.mark.parametrize("order", ["paper", "released"])
@pytest.mark.parametrize("text_in_self_attention", [True, False])
@pytest.mark.parametrize(
    ("width", "num_heads", "num_layers", "ffn_multiple"), [(8, 2, 1, 4), (12, 3, 3, 2), (6, 1, 2, 1)]
)
def test_as_many_parameters_learn_as_the_formula_says(
    order, text_in_self_attention, width, num_heads, num_layers, ffn_multiple
):
    config = MmQformerConfig(
        order=order,
        text_in_self_attention=text_in_self_attention,
        width=width,
        num_heads=num_heads,
        num_layers=num_layers,
        ffn_multiple=ffn_multiple,
        num_queries=5,
    )
    qformer = MmQformer(config)
    text_BTd, image_BVd = torch.randn(2, 4, width), torch.randn(2, 3, width)
    qformer(text_BTd, torch.ones(2, 4) > 0, image_BVd, torch.ones(2, 3) > 0).query_BQd.square().sum().backward()
    learning = [parameter for parameter in qformer.parameters() if parameter.grad is not None and parameter.grad.any()]
    assert sum(parameter.numel() for parameter in learning) == num_parameters(config)


@pytest.mark.parametrize("order", ["paper", "released"])
def test_gradients_are_those_of_small_differences(order):
    """With an item that has both, one without pictures and one without text."""
    qformer = new_qformer(
        order, num_layers=2, width=4, num_queries=2, ffn_multiple=1, pass_text=True, activation="gelu"
    )
    text_mask_BT = torch.tensor([[True, True], [True, False], [False, False]])
    image_mask_BV = torch.tensor([[True, False], [False, False], [True, True]])
    rows = [torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def both_outputs(text_BTd, image_BVd, query_Qd):
        out = torch.func.functional_call(
            qformer, {"query_Qd": query_Qd}, (text_BTd, text_mask_BT, image_BVd, image_mask_BV)
        )
        return out.query_BQd, out.text_BTd

    assert torch.autograd.gradcheck(both_outputs, (*rows, qformer.query_Qd))


@pytest.mark.parametrize("order", ["paper", "released"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e6, 1e12])
def test_values_and_gradients_stay_finite_for_extreme_inputs(order, scale):
    qformer = new_qformer(order, num_layers=3, pass_text=True).float()
    text_BTd, text_mask_BT, image_BVd, image_mask_BV = batch_of(ragged_items())
    rows = [(row_BKd * scale).float().requires_grad_() for row_BKd in (text_BTd, image_BVd)]
    out = qformer(rows[0], text_mask_BT, rows[1], image_mask_BV)
    assert out.query_BQd.isfinite().all()
    assert out.text_BTd.isfinite().all()
    out.query_BQd.sin().sum().backward()
    for leaf in (*rows, *qformer.parameters()):
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("order", ["paper", "released"])
def test_in_bfloat16_it_is_nearly_itself(order):
    qformer, batch = new_qformer(order).float(), batch_of(ragged_items())
    batch = [tensor if tensor.dtype == torch.bool else tensor.float() for tensor in batch]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = qformer(*batch).query_BQd
    torch.testing.assert_close(found.float(), qformer(*batch).query_BQd, rtol=0.1, atol=0.1)


@pytest.mark.capability("G4-10")
@pytest.mark.parametrize("order", ["paper", "released"])
def test_queries_hear_the_text_unless_it_is_switched_off(order):
    for hears in (True, False):
        qformer = new_qformer(order, num_layers=1, text_in_self_attention=hears)
        text_BTd, *rest = batch_of(ragged_items())
        moved_B = (qformer(text_BTd + 1, *rest).query_BQd - qformer(text_BTd, *rest).query_BQd).abs().amax((1, 2))
        assert ((moved_B > 1e-3) == torch.tensor([hears, hears, False, False, hears])).all()  # two have no text


def test_passing_text_on_changes_no_query():
    for order in ("paper", "released"):
        with_text, without = (new_qformer(order, pass_text=passed) for passed in (True, False))
        batch = batch_of(ragged_items())
        torch.testing.assert_close(with_text(*batch).query_BQd, without(*batch).query_BQd, rtol=0, atol=1e-12)


def test_items_of_a_training_batch_differ_from_evaluation_by_dropout_alone():
    qformer, batch = new_qformer(dropout=0.5), batch_of(ragged_items())
    calm = qformer(*batch).query_BQd
    assert torch.equal(qformer(*batch).query_BQd, calm)
    assert not torch.equal(qformer.train()(*batch).query_BQd, calm)
    still = new_qformer(dropout=0).train()
    torch.testing.assert_close(still(*batch).query_BQd, calm, rtol=0, atol=0)


def test_queries_start_with_the_spread_that_is_asked_for():
    for std in (1.0, 0.02):
        torch.manual_seed(0)
        query_Qd = MmQformer(MmQformerConfig(width=64, num_heads=1, num_queries=50, query_std=std)).query_Qd
        assert query_Qd.std().item() == pytest.approx(std, rel=0.05)
        assert query_Qd.mean().abs() < 0.1 * std


def test_bare_attention_reads_a_mean_where_keys_are_equal_and_nothing_where_there_is_nothing():
    """Without projection and residual: what is read lies between the values; by hand for keys that say nothing."""
    attention = RowAttention(2, 1, project_output=False)
    with torch.no_grad():
        attention.key_value.weight.copy_(torch.cat([torch.zeros(2, 2), torch.eye(2)]))  # keys 0, values the rows
        attention.key_value.bias.copy_(torch.tensor([0.0, 0.0, 10.0, 0.0]))
    row_BKd = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]] * 2)
    mask_BK = torch.tensor([[True, True, False], [False, False, False]])
    found = attention(torch.randn(2, 1, 2), row_BKd, mask_BK)
    torch.testing.assert_close(found, torch.tensor([[[12.0, 4.0]], [[0.0, 0.0]]]))
    assert sum(parameter.numel() for parameter in attention.parameters()) == 3 * (2 * 2 + 2)


def test_the_end_of_a_sublayer_adds_and_normalises_only_where_asked():
    came, change = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 2.0]]])
    ends = {
        (residual, normalise): SublayerEnd(2, dropout=0, residual=residual, normalise=normalise)(came, change)
        for residual in (True, False)
        for normalise in (True, False)
    }
    assert ends[True, False].tolist() == [[[1, 5]]]
    assert ends[False, False].tolist() == [[[0, 2]]]
    for residual in (True, False):  # of two numbers, the smaller becomes -1 and the larger 1
        torch.testing.assert_close(ends[residual, True], torch.tensor([[[-1.0, 1.0]]]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"width": 10, "num_heads": 4}, "width 10 cannot be split over 4 heads"),
        ({"pass_text": True, "text_in_self_attention": False}, "pass_text needs text_in_self_attention"),
        ({"num_layers": 0}, "num_layers"),
        ({"num_queries": 0}, "num_queries"),
        ({"dropout": 1.0}, "dropout"),
        ({"query_std": 0.0}, "query_std"),
        ({"order": "realesed"}, "'paper' or 'released'"),
        ({"activation": "tanh"}, "'relu' or 'gelu'"),
        ({"num_query": 3}, "num_query"),
    ],
)
def test_a_setting_that_cannot_be_used_says_which_and_why(settings_, message):
    with pytest.raises(ValidationError, match=message):
        MmQformerConfig(**settings_)


@pytest.mark.parametrize(
    ("at", "tensor", "message"),
    [
        (0, torch.zeros(5, 4, 7), r"rows of text of shape \(items, rows, 8\), found \(5, 4, 7\)"),
        (2, torch.zeros(5, 8), r"rows of image of shape \(items, rows, 8\), found \(5, 8\)"),
        (1, torch.ones(5, 3) > 0, r"bool mask of shape \(5, 4\) for text, found torch.bool of shape \(5, 3\)"),
        (3, torch.ones(5, 5), r"bool mask of shape \(5, 5\) for image, found torch.float32"),
    ],
)
def test_rows_and_masks_that_do_not_fit_are_refused(at, tensor, message):
    batch = list(batch_of(ragged_items()))
    batch[at] = tensor
    with pytest.raises(ConfigError, match=message):
        new_qformer()(*batch)


def test_text_and_pictures_of_different_items_are_refused():
    text_BTd, text_mask_BT, image_BVd, image_mask_BV = batch_of(ragged_items())
    with pytest.raises(ConfigError, match="5 items with text and 4 with pictures"):
        new_qformer()(text_BTd, text_mask_BT, image_BVd[:4], image_mask_BV[:4])
