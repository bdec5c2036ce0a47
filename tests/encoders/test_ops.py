"""The attention operator: by hand, by brute force edge by edge, and by three backends that must agree."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.encoders import ops
from mmkg.encoders.terms import AttentionTerms
from mmkg.errors import ConfigError
from tests.encoders.graphs import (
    message_graph,
    message_graphs,
    random_inputs,
    random_keep,
    terms_of,
    tiny_graph,
)

BACKENDS = ["fused", "torch", "dgl"]
MESSAGES = ["source", "sum", "product"]


def attend(graph, inputs, *, message="sum", keep_E=None, dropout_EH=None, backend="torch"):
    vectors = None if message == "source" else inputs["vector_RHD"]
    return ops.attend(
        graph,
        terms_of(inputs, keep_E),
        inputs["value_NHD"],
        vectors,
        message=message,
        dropout_EH=dropout_EH,
        backend=backend,
    )


def brute_force(graph, inputs, *, message, keep_E=None, dropout_EH=None):
    """Node by node, head by head, out of the definition, in Python."""
    value = inputs["value_NHD"]
    rows = []
    for i in range(graph.num_nodes):
        edges = [e for e in range(graph.num_edges) if int(graph.dst_E[e]) == i and (keep_E is None or bool(keep_E[e]))]
        heads = []
        for h in range(value.shape[1]):
            total = torch.zeros(value.shape[2], dtype=value.dtype)
            logits = []
            for e in edges:
                j, r = int(graph.src_E[e]), int(graph.relation_E[e])
                raw = inputs["dst_NH"][i, h] + inputs["src_NH"][j, h] + inputs["relation_RH"][r, h]
                logits.append(raw if raw > 0 else 0.2 * raw)
            shares = torch.softmax(torch.stack(logits), 0) if logits else []
            for share, e in zip(shares, edges, strict=True):
                j, r = int(graph.src_E[e]), int(graph.relation_E[e])
                x, v = value[j, h], inputs["vector_RHD"][r, h]
                sent = {"source": x, "sum": x + v, "product": x * v}[message]
                total = total + share * (1 if dropout_EH is None else dropout_EH[e, h]) * sent
            heads.append(total)
        rows.append(torch.stack(heads))
    return torch.stack(rows) if rows else torch.zeros_like(value)


def gradients(out, inputs):
    leaves = list(inputs.values())
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).reshape(out.shape)
    grads = torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
    return dict(zip(inputs, grads, strict=True))


def check_gradients(found, expected, inputs, **tolerances):
    wanted = gradients(expected, inputs)
    for name, grad in gradients(found, inputs).items():
        torch.testing.assert_close(grad, wanted[name], **tolerances, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_edges_by_hand(backend):
    # a and b send to c. Logits: a: 1 + 0 + 0 = 1; b: 1 + 2 - 8 = -5, leaky: -1. Shares e/(e + 1/e) and the rest.
    graph = message_graph([(0, 0, 2), (1, 1, 2)], num_nodes=3, num_relations=2)
    terms = AttentionTerms(
        dst_NH=torch.tensor([[0.0], [0.0], [1.0]]),
        src_NH=torch.tensor([[0.0], [2.0], [0.0]]),
        relation_RH=torch.tensor([[0.0], [-8.0]]),
    )
    value_NHD = torch.tensor([[[10.0, 0.0]], [[0.0, 10.0]], [[7.0, 7.0]]])
    vector_RHD = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    first = math.e / (math.e + 1 / math.e)
    expected = {
        "source": [first * 10, (1 - first) * 10],
        "sum": [first * 11 + (1 - first) * 3, first * 2 + (1 - first) * 14],
        "product": [first * 10, (1 - first) * 40],
    }
    for message, row in expected.items():
        vectors = None if message == "source" else vector_RHD
        out = ops.attend(graph, terms, value_NHD, vectors, message=message, backend=backend)
        torch.testing.assert_close(out[2, 0], torch.tensor(row))
        assert out[:2].abs().max() == 0  # a and b have no incoming edge
    torch.testing.assert_close(ops.attention(graph, terms, backend=backend), torch.tensor([[first], [1 - first]]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("message", MESSAGES)
@settings(max_examples=30)
@given(graph=message_graphs(), seed=st.integers(0, 99), hide=st.booleans(), drop=st.booleans())
def test_values_and_gradients_are_those_of_the_definition(backend, message, graph, seed, hide, drop):
    inputs = random_inputs(graph, num_heads=2, width=3, seed=seed)
    keep_E = random_keep(graph, seed) if hide else None
    factors = np.random.default_rng(seed).integers(0, 2, size=(graph.num_edges, 2)) * 2.0
    dropout_EH = torch.tensor(factors) if drop else None
    options = {"message": message, "keep_E": keep_E, "dropout_EH": dropout_EH}
    expected = brute_force(graph, inputs, **options)
    found = attend(graph, inputs, backend=backend, **options)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    if not expected.requires_grad:
        return
    check_gradients(found, expected, inputs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("width", [1, 16, 25, 64])  # with and without a rest after whole vector registers
def test_the_three_backends_agree_to_1e_5_in_float32(message, width):
    graph = _larger_graph()
    inputs = random_inputs(graph, num_heads=2, width=width, dtype=torch.float32)
    keep_E = random_keep(graph, 1)
    found = {b: attend(graph, inputs, message=message, keep_E=keep_E, backend=b) for b in BACKENDS}
    expected = gradients(found["torch"], inputs)
    for backend in ("fused", "dgl"):
        torch.testing.assert_close(found[backend], found["torch"], rtol=1e-5, atol=1e-5)
        for name, grad in gradients(found[backend], inputs).items():
            scale = float(expected[name].abs().max()) or 1.0
            torch.testing.assert_close(grad / scale, expected[name] / scale, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("message", MESSAGES)
def test_the_fused_gradient_is_that_of_finite_differences(message):
    graph = tiny_graph()
    inputs = random_inputs(graph, num_heads=2, width=3)
    keep_E = torch.tensor([True, True, True, False, True])
    dropout_EH = torch.tensor([[2.0, 0.0], [1.0, 1.5], [0.5, 1.0], [1.0, 1.0], [1.0, 2.0]], dtype=torch.float64)

    def run(*leaves):
        given_ = dict(zip(inputs, leaves, strict=True))
        return attend(graph, given_, message=message, keep_E=keep_E, dropout_EH=dropout_EH, backend="fused")

    assert torch.autograd.gradcheck(run, tuple(inputs.values()))


def test_the_fused_weighted_sum_has_the_gradient_of_finite_differences():
    graph = tiny_graph()
    weight_EH = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    value_NHD, start_NHD = (torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def run(weight, value, start):
        return ops.weighted_sum(graph, weight, value, start_NHD=start, backend="fused")

    assert torch.autograd.gradcheck(run, (weight_EH, value_NHD, start_NHD))
    assert torch.autograd.gradcheck(lambda *given_: run(*given_, None), (weight_EH, value_NHD))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15)
@given(graph=message_graphs(), seed=st.integers(0, 99), width=st.sampled_from([1, 4, 9]))
def test_a_weighted_sum_is_added_to_what_it_starts_from(backend, graph, seed, width):
    inputs = _edge_inputs(graph, width=width, seed=seed)
    weight_EH, value_NHD, start_NHD = inputs["weight_EH"], inputs["query_NHD"], inputs["key_NHD"]
    rows = list(start_NHD.unbind())
    for e, (j, i) in enumerate(zip(graph.src_E.tolist(), graph.dst_E.tolist(), strict=True)):
        rows[i] = rows[i] + weight_EH[e, :, None] * value_NHD[j]
    expected = torch.stack(rows) if rows else torch.zeros_like(start_NHD)
    before = start_NHD.detach().clone()
    found = ops.weighted_sum(graph, weight_EH, value_NHD, start_NHD=start_NHD, backend=backend)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(start_NHD, before)  # not written to
    if expected.requires_grad:
        check_gradients(found, expected, inputs, rtol=1e-9, atol=1e-9)


@pytest.mark.capability("G4-06")
@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15)
@given(graph=message_graphs(), seed=st.integers(0, 99), width=st.sampled_from([1, 4, 9]))
def test_edge_dots_are_products_of_the_queries_of_dst_and_the_keys_of_src(backend, graph, seed, width):
    inputs = _edge_inputs(graph, width=width, seed=seed)
    query_NHD, key_NHD = inputs["query_NHD"], inputs["key_NHD"]
    ends = zip(graph.src_E.tolist(), graph.dst_E.tolist(), strict=True)
    rows = [torch.stack([query_NHD[i, h] @ key_NHD[j, h] for h in range(2)]) for j, i in ends]
    found = ops.edge_dots(graph, query_NHD, key_NHD, backend=backend)
    expected = torch.stack(rows) if rows else torch.zeros(0, 2, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    if expected.requires_grad:
        check_gradients(found, expected, inputs, rtol=1e-9, atol=1e-9)


@pytest.mark.capability("G4-06")
@pytest.mark.parametrize("width", [1, 16, 25, 64])
def test_edge_dots_and_sums_with_a_start_agree_in_float32(width):
    graph = _larger_graph(num_edges=9_000)  # enough for two threads
    inputs = _edge_inputs(graph, width=width, dtype=torch.float32)
    query_NHD, key_NHD, weight_EH = inputs["query_NHD"], inputs["key_NHD"], inputs["weight_EH"]
    for name in ("dots", "sum"):
        found = {
            b: ops.edge_dots(graph, query_NHD, key_NHD, backend=b)
            if name == "dots"
            else ops.weighted_sum(graph, weight_EH, query_NHD, start_NHD=key_NHD, backend=b)
            for b in BACKENDS
        }
        wanted = gradients(found["torch"], inputs)
        for backend in ("fused", "dgl"):
            _check_to_scale(found[backend], found["torch"], backend)
            for leaf, grad in gradients(found[backend], inputs).items():
                _check_to_scale(grad, wanted[leaf], f"{backend} {leaf}")


def test_the_fused_edge_dots_have_the_gradient_of_finite_differences():
    graph = tiny_graph()
    inputs = _edge_inputs(graph, width=3)
    assert torch.autograd.gradcheck(
        lambda query, key: ops.edge_dots(graph, query, key, backend="fused"), (inputs["query_NHD"], inputs["key_NHD"])
    )


def test_edge_dots_of_other_shapes_are_refused():
    graph = tiny_graph()
    with pytest.raises(
        ConfigError, match=r"query_NHD must have the shape \(4, 2, 3\) for this graph, found \(5, 2, 3\)"
    ):
        ops.edge_dots(graph, torch.ones(5, 2, 3), torch.ones(5, 2, 3))
    with pytest.raises(ConfigError, match=r"key_NHD must have the shape \(4, 2, 3\) for this graph, found \(4, 2, 1\)"):
        ops.edge_dots(graph, torch.ones(4, 2, 3), torch.ones(4, 2, 1))
    with pytest.raises(ConfigError, match="start_NHD must have the shape"):
        ops.weighted_sum(graph, torch.ones(5, 2), torch.ones(4, 2, 3), start_NHD=torch.ones(4, 2, 1))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30)
@given(graph=message_graphs(), seed=st.integers(0, 99), hide=st.booleans())
def test_attention_of_a_node_sums_to_one_over_its_shown_edges(backend, graph, seed, hide):
    inputs = random_inputs(graph, num_heads=2, width=1, seed=seed)
    keep_E = random_keep(graph, seed) if hide else torch.ones(graph.num_edges, dtype=torch.bool)
    shares_EH = ops.attention(graph, terms_of(inputs, keep_E), backend=backend)
    assert (shares_EH >= 0).all()
    assert (shares_EH[~keep_E] == 0).all()
    sums_NH = torch.zeros(graph.num_nodes, 2, dtype=torch.float64).index_add(0, graph.dst_E, shares_EH)
    has_edge_N = torch.zeros(graph.num_nodes, dtype=torch.bool)
    has_edge_N[graph.dst_E[keep_E]] = True
    torch.testing.assert_close(sums_NH, has_edge_N[:, None].double().expand(-1, 2))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("message", MESSAGES)
def test_hiding_edges_is_removing_them(backend, message):
    graph = _larger_graph()
    keep_E = random_keep(graph, 5)
    keep_E[graph.dst_E == 3] = False  # one node loses all it had
    inputs = random_inputs(graph, num_heads=2, width=4)
    edges = torch.stack([graph.src_E, graph.relation_E, graph.dst_E], 1)[keep_E].tolist()
    removed = message_graph(edges, num_nodes=graph.num_nodes, num_relations=graph.num_relations)
    with_mask = attend(graph, inputs, message=message, keep_E=keep_E, backend=backend)
    without = attend(removed, inputs, message=message, backend=backend)
    torch.testing.assert_close(with_mask, without)
    assert (with_mask[3] == 0).all()
    check_gradients(with_mask, without, inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_logits_neither_overflow_nor_vanish(backend):
    graph = message_graph([(0, 0, 2), (1, 0, 2)], num_nodes=3, num_relations=1)
    for shift in (-1e4, 1e4):
        terms = AttentionTerms(dst_NH=torch.full((3, 1), shift), src_NH=torch.tensor([[0.0], [1.0], [0.0]]))
        shares = ops.attention(graph, terms, backend=backend)[:, 0]
        ratio = math.exp(1.0 if shift > 0 else 0.2)
        torch.testing.assert_close(shares, torch.tensor([1.0, ratio]) / (1 + ratio), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_nan_is_passed_on_not_swallowed(backend):
    graph = tiny_graph()
    inputs = random_inputs(graph, num_heads=1, width=2)
    with torch.no_grad():
        inputs["src_NH"][0] = torch.nan  # a, which sends to b alone
    out = attend(graph, inputs, backend=backend)
    assert out[1].isnan().all()
    assert out[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30)
@given(graph=message_graphs(), seed=st.integers(0, 99))
def test_softmax_and_weighted_sum_apart_are_the_attention_together(backend, graph, seed):
    inputs = random_inputs(graph, num_heads=2, width=3, seed=seed)
    logit_EH = inputs["dst_NH"][graph.dst_E] + inputs["src_NH"][graph.src_E] + inputs["relation_RH"][graph.relation_E]
    logit_EH = torch.nn.functional.leaky_relu(logit_EH, 0.2)
    keep_E = random_keep(graph, seed)
    share_EH = ops.edge_softmax(graph, logit_EH, keep_E=keep_E, backend=backend)
    apart = ops.weighted_sum(graph, share_EH, inputs["value_NHD"], backend=backend)
    together = attend(graph, inputs, message="source", keep_E=keep_E, backend=backend)
    torch.testing.assert_close(apart, together)
    check_gradients(apart, together, inputs)


def test_fused_gives_the_same_bits_each_time_and_the_same_values_on_one_thread():
    graph = _larger_graph(num_edges=9_000)  # enough for two threads
    inputs = random_inputs(graph, num_heads=2, width=8, dtype=torch.float32)
    runs = [gradients(attend(graph, inputs, backend="fused"), inputs) for _ in range(2)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = gradients(attend(graph, inputs, backend="fused"), inputs)
    finally:
        torch.set_num_threads(before)
    for name in inputs:
        assert torch.equal(runs[0][name], runs[1][name])
        torch.testing.assert_close(runs[0][name], alone[name], rtol=1e-4, atol=1e-4)


def test_fused_holds_no_tensor_of_edges_times_width():
    graph = _larger_graph(num_edges=5_000)
    width = 64
    saved: list[tuple[int, ...]] = []
    inputs = random_inputs(graph, num_heads=1, width=width)

    def note(tensor):
        saved.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(graph, inputs, backend="fused")
        assert saved
        assert max(math.prod(shape) for shape in saved) < graph.num_edges * width
        saved.clear()
        attend(graph, inputs, backend="torch")
        assert max(math.prod(shape) for shape in saved) == graph.num_edges * width  # the hook does see them


def test_numba_leaves_torch_the_threads_that_it_was_given():
    code = (
        "import torch\n"
        "from mmkg.encoders import ops\n"
        "from tests.encoders.graphs import tiny_graph\n"
        "ops.edge_dots(tiny_graph(), torch.ones(4, 1, 1), torch.ones(4, 1, 1), backend='fused')\n"
        "print(torch.get_num_threads())\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout == "1\n", run.stderr


def test_auto_is_fused_for_floats_on_the_cpu_and_torch_elsewhere():
    assert ops.choose_backend("auto", torch.zeros(1)) == "fused"
    assert ops.choose_backend("auto", torch.zeros(1, dtype=torch.float64)) == "fused"
    assert ops.choose_backend("auto", torch.zeros(1, dtype=torch.bfloat16)) == "torch"
    assert ops.choose_backend("auto", torch.zeros(1, device="meta")) == "torch"


def test_what_cannot_run_says_what_can():
    with pytest.raises(ConfigError, match=r"'fused' runs on the CPU .* found bfloat16 .* use backend 'torch'"):
        ops.choose_backend("fused", torch.zeros(1, dtype=torch.bfloat16))
    with pytest.raises(ConfigError, match="'dgl' runs on the CPU"):
        ops.choose_backend("dgl", torch.zeros(1, device="meta"))
    with pytest.raises(ConfigError, match="Did you mean 'fused'"):
        ops.choose_backend("fussed", torch.zeros(1))


def test_inputs_that_do_not_fit_are_refused():
    graph = tiny_graph()
    inputs = random_inputs(graph, num_heads=2, width=3)
    with pytest.raises(ConfigError, match="message 'sum' of an attention needs relation vectors"):
        ops.attend(graph, terms_of(inputs), inputs["value_NHD"])
    with pytest.raises(ConfigError, match="takes no relation vectors"):
        ops.attend(graph, terms_of(inputs), inputs["value_NHD"], inputs["vector_RHD"], message="source")
    with pytest.raises(ConfigError, match="Did you mean 'sum'"):
        ops.attend(graph, terms_of(inputs), inputs["value_NHD"], inputs["vector_RHD"], message="som")
    with pytest.raises(ConfigError, match=r"vector_RHD must have the shape \(2, 2, 3\)"):
        ops.attend(graph, terms_of(inputs), inputs["value_NHD"], inputs["vector_RHD"][:1])
    with pytest.raises(ConfigError, match="keep_E must be bool"):
        attend(graph, inputs, keep_E=torch.ones(5, dtype=torch.int64))


def _edge_inputs(graph, *, width, seed=0, dtype=torch.float64):
    """Leaves with gradient: two vectors of a node for each of two heads, and a weight of an edge."""
    generator = np.random.default_rng(seed)
    shapes = {
        "query_NHD": (graph.num_nodes, 2, width),
        "key_NHD": (graph.num_nodes, 2, width),
        "weight_EH": (graph.num_edges, 2),
    }
    return {
        name: torch.tensor(generator.normal(size=shape), dtype=dtype).requires_grad_() for name, shape in shapes.items()
    }


def _check_to_scale(found, expected, name):
    scale = float(expected.detach().abs().max()) or 1.0
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-5, atol=1e-5, msg=name)


def _larger_graph(num_edges: int = 400):
    generator = torch.Generator().manual_seed(0)
    edges = torch.stack([torch.randint(n, (num_edges,), generator=generator) for n in (60, 5, 60)], 1)
    return message_graph(edges.tolist(), num_nodes=61, num_relations=5)  # node 60 stands alone
