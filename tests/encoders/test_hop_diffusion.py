"""Hop-diffused attention: by hand, against whole matrices, and where published code goes wrong."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.encoders import HopDiffusion, HopDiffusionConfig, open_encoder, ops
from mmkg.encoders.hop_diffusion import diffuse, row_sum, truncation_error
from mmkg.encoders.hop_diffusion_dense import attention_on_edges, diffusion_matrix
from mmkg.errors import ConfigError
from mmkg.subgraphs.batch import batch_graphs
from mmkg.subgraphs.directions import undirected
from tests.encoders.graphs import message_graph, message_graphs, tiny_graph

BACKENDS = ["fused", "torch", "dgl"]
RELEASED = {"mask": "renormalise", "residual": False, "rescale": False, "isolated": "zero", "self_loops": False}
NO_RELATIONS = torch.empty(0)


def random_graph(seed, *, num_nodes=9, density=0.3, self_loops=True):
    generator = torch.Generator().manual_seed(seed)
    pairs = (torch.rand(num_nodes, num_nodes, generator=generator) < density).triu(1).nonzero().tolist()
    graph = message_graph([(i, 0, j) for i, j in pairs], num_nodes=num_nodes, num_relations=1)
    return undirected(graph, self_loops=self_loops)


def random_shares(graph, *, num_heads=1, seed=0, backend="torch"):
    generator = torch.Generator().manual_seed(seed)
    logit_EH = torch.randn(graph.num_edges, num_heads, generator=generator, dtype=torch.float64)
    return ops.edge_softmax(graph, logit_EH, backend=backend)


def random_values(graph, *, num_heads=1, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(graph.num_nodes, num_heads, width, generator=generator, dtype=torch.float64)


def whole(graph, share_EH):
    """A of each head as a matrix; the shares of repeated edges add up."""
    flat_E = graph.dst_E * graph.num_nodes + graph.src_E
    empty_HP = torch.zeros(share_EH.shape[1], graph.num_nodes**2, dtype=share_EH.dtype)
    return empty_HP.index_add(1, flat_E, share_EH.T).unflatten(1, (graph.num_nodes, graph.num_nodes))


def diffused_matrix(graph, share_E1, **options):
    """𝒜 as :func:`diffuse` has it: what it makes of the identity."""
    identity_N1N = torch.eye(graph.num_nodes, dtype=share_E1.dtype)[:, None]
    return diffuse(graph, share_E1, identity_N1N, **options)[:, 0]


def encoder_of(width=8, **config):
    torch.manual_seed(0)
    return open_encoder("hop_diffusion", {"node_width": width, "num_heads": 2} | config).double()


def states(encoder, graph, node_ND):
    return encoder(graph, node_ND, NO_RELATIONS)


@pytest.mark.capability("G4-06")
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_nodes_by_hand(backend):
    # A is 1/2 everywhere, and so is each of its powers. α = 1/2: 𝒜 = I/2 + A/4 + A²/8 = I/2 + 3A/8.
    graph = message_graph([(0, 0, 1)], num_nodes=2, num_relations=1)
    node_ND = torch.tensor([[8.0, 0.0], [0.0, 16.0]], dtype=torch.float64)
    expected = torch.tensor([[5.5, 3.0], [1.5, 11.0]], dtype=torch.float64)
    settings_ = {"alpha": 0.5, "num_terms": 3, "backend": backend}
    for residual in (False, True):
        for rescale in (False, True):  # the rows of 𝒜 add to 7/8
            encoder = encoder_of(2, num_heads=1, residual=residual, rescale=rescale, **settings_)
            with torch.no_grad():
                encoder.query.weight.zero_()
                encoder.query.bias.zero_()
            wanted = expected / (7 / 8 if rescale else 1) + (node_ND if residual else 0)
            torch.testing.assert_close(states(encoder, graph, node_ND), wanted)


@pytest.mark.capability("G4-06")
def test_the_attention_is_that_of_the_formula_head_by_head():
    graph = random_graph(1)
    node_ND = torch.randn(9, 8, dtype=torch.float64)
    for heads in ("each", "mean"):
        encoder = encoder_of(heads=heads, alpha=0.3, num_terms=3, residual=False, rescale=False)
        shown_NN = whole(graph, torch.ones(graph.num_edges, 1))[0].bool()
        parts = []
        for h in range(2):
            columns = slice(4 * h, 4 * h + 4)
            query, key = (
                (node_ND @ side.weight.T + side.bias)[:, columns] for side in (encoder.query, encoder.key)
            )  # one head's
            parts.append((query @ key.T / math.sqrt(4)).masked_fill(~shown_NN, -torch.inf).softmax(1))
        mean_NN = (parts[0] + parts[1]) / 2
        wanted = [
            diffusion_matrix(part if heads == "each" else mean_NN, alpha=0.3, num_terms=3)
            @ node_ND[:, 4 * h : 4 * h + 4]
            for h, part in enumerate(parts)
        ]
        torch.testing.assert_close(states(encoder, graph, node_ND), torch.cat(wanted, 1))


@pytest.mark.capability("G4-06", "G4-P9")
@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15)
@given(graph=message_graphs(), alpha=st.sampled_from([0.05, 0.3, 1.0]), num_terms=st.integers(1, 7))
def test_the_sum_is_that_of_powers_and_of_the_appnp_form(backend, graph, alpha, num_terms):
    share_EH, value_NHD = random_shares(graph, num_heads=2), random_values(graph, num_heads=2)
    options = {"alpha": alpha, "num_terms": num_terms}
    found = diffuse(graph, share_EH, value_NHD, isolated="zero", backend=backend, **options)
    for h, share_NN in enumerate(whole(graph, share_EH)):
        start_ND = value_NHD[:, h]
        torch.testing.assert_close(found[:, h], diffusion_matrix(share_NN, **options) @ start_ND, atol=1e-12, rtol=0)
        state_ND = start_ND  # X ← (1 − α) A X + α X₀, which keeps a last term (1 − α)^K A^K X₀
        for _ in range(num_terms):
            state_ND = (1 - alpha) * share_NN @ state_ND + alpha * start_ND
        last_ND = (1 - alpha) ** num_terms * torch.linalg.matrix_power(share_NN, num_terms) @ start_ND
        torch.testing.assert_close(found[:, h] + last_ND, state_ND, atol=1e-12, rtol=0)


@pytest.mark.capability("G4-06", "G4-P1")
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5, 1.0])
def test_rows_and_error_of_k_terms_are_powers_of_1_minus_alpha(alpha):
    graph = random_graph(2)
    share_E1 = random_shares(graph)
    exact_NN = diffused_matrix(graph, share_E1, alpha=alpha, num_terms=None)
    ones_N = torch.ones(9, dtype=torch.float64)
    torch.testing.assert_close(exact_NN, diffusion_matrix(whole(graph, share_E1)[0], alpha=alpha, num_terms=None))
    torch.testing.assert_close(exact_NN.sum(1), ones_N)
    assert row_sum(alpha, None) == 1
    for num_terms in (1, 2, 4, 8, 32, 128):
        cut_NN = diffused_matrix(graph, share_E1, alpha=alpha, num_terms=num_terms)
        assert row_sum(alpha, num_terms) == pytest.approx(1 - (1 - alpha) ** num_terms)
        torch.testing.assert_close(cut_NN.sum(1), ones_N * row_sum(alpha, num_terms))
        error = torch.linalg.matrix_norm(exact_NN - cut_NN, torch.inf).item()
        assert error == pytest.approx((1 - alpha) ** num_terms, rel=1e-9, abs=1e-14)
        assert error == pytest.approx(truncation_error(alpha, num_terms), rel=1e-9, abs=1e-14)


@pytest.mark.capability("G4-P1")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6), (torch.bfloat16, 0.05)]
)
def test_all_terms_are_exact_to_the_precision_of_the_type(dtype, tolerance):
    graph = random_graph(3)
    share_E1 = random_shares(graph)
    wanted_NN = diffusion_matrix(whole(graph, share_E1)[0], alpha=0.1, num_terms=None)
    found_NN = diffused_matrix(graph, share_E1.to(dtype), alpha=0.1, num_terms=None)
    assert found_NN.dtype == dtype
    torch.testing.assert_close(found_NN.double(), wanted_NN, atol=tolerance, rtol=0)


@pytest.mark.capability("G4-06", "G4-P1")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("isolated", ["self", "zero"])
def test_the_gradient_of_all_terms_is_that_through_a_solver(backend, isolated):
    graph = random_graph(4, self_loops=False, density=0.15)
    share_EH = random_shares(graph, num_heads=2).requires_grad_()
    value_NHD = random_values(graph, num_heads=2).requires_grad_()
    weight_NHD = random_values(graph, num_heads=2, seed=1)
    found = diffuse(graph, share_EH, value_NHD, alpha=0.2, num_terms=None, isolated=isolated, backend=backend)
    share_HNN = whole(graph, share_EH)
    alone_N = (share_HNN[0] == 0).all(1)
    assert alone_N.any()  # the rule is used
    if isolated == "self":
        share_HNN = share_HNN + torch.diag(alone_N.double())
    wanted = 0.2 * torch.linalg.solve(torch.eye(9, dtype=torch.float64) - 0.8 * share_HNN, value_NHD.transpose(0, 1))
    wanted = wanted.transpose(0, 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad((out * weight_NHD).sum(), (share_EH, value_NHD)) for out in (found, wanted)]
    for mine, theirs in zip(*grads, strict=True):
        assert theirs.abs().max() > 0.01
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.capability("G4-P1")
@pytest.mark.parametrize("num_terms", [4, None])
def test_the_gradient_is_that_of_finite_differences(num_terms):
    graph = tiny_graph()
    inputs = (random_shares(graph, num_heads=2).requires_grad_(), random_values(graph, num_heads=2).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda share, value: diffuse(graph, share, value, alpha=0.3, num_terms=num_terms, backend="fused"), inputs
    )


@pytest.mark.capability("G4-P1")
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_terms_keep_one_state_however_many_products_they_take(backend):
    graph = random_graph(5, num_nodes=30)
    share_E1 = random_shares(graph).requires_grad_()
    value_N1D = random_values(graph, width=50).requires_grad_()
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    def kept_by(alpha, num_terms):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            diffuse(graph, share_E1, value_N1D, alpha=alpha, num_terms=num_terms, backend=backend)
        return sum(kept)

    assert kept_by(0.5, None) == kept_by(0.02, None) <= value_N1D.numel() + 2 * graph.num_edges
    terms = [kept_by(0.1, num_terms) for num_terms in (11, 21)]
    assert terms[1] - terms[0] >= 10 * value_N1D.numel()  # the hook does see them
    if backend == "fused":  # a state a hop, and nothing of edges × width
        assert terms[1] - terms[0] <= 10 * (value_N1D.numel() + graph.num_edges)


@pytest.mark.capability("G4-P2")
@pytest.mark.parametrize("num_terms", [1, 4, None])
def test_with_alpha_1_nothing_moves(num_terms):
    graph = random_graph(6)
    found_NN = diffused_matrix(graph, random_shares(graph), alpha=1.0, num_terms=num_terms)
    assert torch.equal(found_NN, torch.eye(9, dtype=torch.float64))


@pytest.mark.capability("G4-P2")
def test_with_alpha_near_0_all_nodes_of_a_connected_graph_get_the_same():
    graph = random_graph(7, density=0.5)
    share_E1 = random_shares(graph)
    share_NN = whole(graph, share_E1)[0]
    limit_NN = torch.linalg.matrix_power(share_NN, 4096)
    assert (limit_NN - limit_NN[0]).abs().max() < 1e-12  # connected, and self loops make it aperiodic
    apart = []
    for alpha in (0.1, 0.01):
        found_NN = diffused_matrix(graph, share_E1, alpha=alpha, num_terms=None)
        apart.append((found_NN - limit_NN).abs().max().item())
    assert apart[1] < 0.05
    assert apart[1] < apart[0] / 5  # falls as α does


@pytest.mark.capability("G4-P3")
@pytest.mark.parametrize("num_terms", [1, 2, 3, 5])
@settings(max_examples=15)
@given(graph=message_graphs(min_nodes=1), both_ways=st.booleans())
def test_a_node_gets_from_another_iff_fewer_steps_than_terms_lead_to_it(num_terms, graph, both_ways):
    graph = undirected(graph, self_loops=True) if both_ways else graph.with_self_relation()
    share_E1 = random_shares(graph)
    found_NN = diffused_matrix(graph, share_E1, alpha=0.2, num_terms=num_terms)
    edges = list(zip(graph.src_E.tolist(), graph.dst_E.tolist(), strict=True))
    for i in range(graph.num_nodes):  # breadth first, against the edges: i hears from what leads to it
        heard = {i}
        for _ in range(num_terms - 1):
            heard |= {j for j, k in edges if k in heard}
        assert {j for j in range(graph.num_nodes) if found_NN[i, j] != 0} == heard
        assert found_NN[i].min() >= 0


@pytest.mark.capability("G4-P3")
@pytest.mark.parametrize("mask", ["logits", "renormalise"])
@pytest.mark.parametrize("self_loops", [True, False])
def test_one_step_has_weight_on_edges_alone(mask, self_loops):
    given_ = message_graph([(0, 0, 1), (2, 1, 1), (1, 0, 0), (4, 0, 4)], num_nodes=5, num_relations=2)
    encoder = encoder_of(mask=mask, self_loops=self_loops)
    graph, share_E1 = encoder.attention(given_, torch.randn(5, 8, dtype=torch.float64))
    found = {(i, j) for i, j in (whole(graph, share_E1)[0] != 0).nonzero().tolist()}
    joined = {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert found == (joined | {(i, i) for i in range(5)} if self_loops else joined)


@pytest.mark.capability("G4-06", "G4-P4")
@pytest.mark.parametrize("mask", ["logits", "renormalise", "literal"])
@pytest.mark.parametrize("heads", ["mean", "each"])
@pytest.mark.parametrize("num_terms", [4, None])
def test_another_sample_of_the_batch_moves_nothing(mask, heads, num_terms):
    """The released code averages the attention of all samples under each sample's mask."""
    first, second, other = (random_graph(seed, num_nodes=size) for seed, size in ((1, 6), (2, 6), (3, 6)))
    encoder = encoder_of(mask=mask, heads=heads, num_terms=num_terms)
    node_ND = torch.randn(12, 8, dtype=torch.float64)
    changed_ND = torch.cat([node_ND[:6], 10 * torch.randn(6, 8, dtype=torch.float64)])
    found = states(encoder, batch_graphs([first, second]), node_ND)
    after = states(encoder, batch_graphs([first, other]), changed_ND)
    assert torch.equal(found[:6], after[:6])
    assert (found[6:] - after[6:]).abs().max() > 0.1
    torch.testing.assert_close(found[:6], states(encoder, first, node_ND[:6]), rtol=1e-12, atol=1e-12)


@pytest.mark.capability("G4-P4")
@pytest.mark.parametrize("mask", ["logits", "renormalise"])
def test_padding_nodes_move_nothing(mask):
    encoder = encoder_of(num_heads=1, mask=mask)
    graph = random_graph(8)
    padded = message_graph(
        torch.stack([graph.src_E, graph.relation_E, graph.dst_E], 1).tolist(), num_nodes=14, num_relations=1
    )
    node_ND = torch.randn(14, 8, dtype=torch.float64)
    tolerance = 1e-12 if mask == "logits" else 1e-6  # of 1e-9 beside sums over more nodes
    torch.testing.assert_close(
        states(encoder, padded, node_ND)[:9], states(encoder, graph, node_ND[:9]), rtol=0, atol=tolerance
    )


@pytest.mark.capability("G4-06", "G4-P6")
@pytest.mark.parametrize("mask", ["logits", "renormalise"])
@pytest.mark.parametrize("num_terms", [1, 3, None])
@pytest.mark.parametrize("num_nodes", [0, 1, 3])
def test_without_edges_a_node_keeps_itself_or_the_first_term(mask, num_terms, num_nodes):
    graph = message_graph([], num_nodes=num_nodes, num_relations=1)
    node_ND = torch.randn(num_nodes, 8, dtype=torch.float64)
    settings_ = {"mask": mask, "alpha": 0.25, "num_terms": num_terms}
    sums = {1: 0.25, 3: 1 - 0.75**3, None: 1.0}
    for self_loops, isolated, kept in ((True, "zero", "all"), (False, "self", "all"), (False, "zero", "first")):
        wanted = node_ND * (sums[num_terms] if kept == "all" else 0.25)
        for residual, rescale in ((False, False), (True, True)):
            encoder = encoder_of(
                self_loops=self_loops, isolated=isolated, residual=residual, rescale=rescale, **settings_
            )
            out = wanted / sums[num_terms] if rescale else wanted
            tolerance = 1e-12 if mask == "logits" else 1e-7
            found = states(encoder, graph, node_ND)
            torch.testing.assert_close(found, out + node_ND if residual else out, rtol=0, atol=tolerance)


@pytest.mark.capability("G4-07")
def test_renormalising_one_head_is_masking_its_logits():
    graph = random_graph(9)
    query_N1D, key_N1D = random_values(graph, width=8) / math.sqrt(8), random_values(graph, width=8, seed=1)
    logits_E1 = ops.edge_softmax(graph, ops.edge_dots(graph, query_N1D, key_N1D))
    pairs, share_E1 = attention_on_edges(graph, query_N1D, key_N1D, None, mask="renormalise", mean=True)
    everything_NN = (query_N1D[:, 0] @ key_N1D[:, 0].T).softmax(1)
    shown_NN = whole(graph, torch.ones(graph.num_edges, 1, dtype=torch.float64))[0]
    seen_N = (everything_NN * shown_NN).sum(1)
    exact_NN = whole(graph, logits_E1)[0] * (seen_N / (seen_N + 1e-9))[:, None]  # the released 1e-9
    torch.testing.assert_close(whole(pairs, share_E1)[0], exact_NN, rtol=0, atol=1e-14)
    assert (whole(pairs, share_E1) - whole(graph, logits_E1)).abs().max() < 1e-7


@pytest.mark.capability("G4-07")
def test_of_several_heads_the_two_agree_apart_and_not_in_the_mean():
    graph, node_ND = random_graph(10), torch.randn(9, 8, dtype=torch.float64)
    gap = {}
    for heads in ("each", "mean"):
        made = [states(encoder_of(heads=heads, mask=mask), graph, node_ND) for mask in ("logits", "renormalise")]
        gap[heads] = (made[0] - made[1]).abs().max()
    assert gap["each"] < 1e-7
    assert gap["mean"] > 1e-4


@pytest.mark.capability("G4-07")
def test_a_neighbour_that_all_nodes_together_outweigh_is_lost_to_renormalising_and_not_to_logits():
    # a's only neighbour is b; c's logit is 30 higher, so b has e^-30, far below the released 1e-9.
    graph = undirected(message_graph([(1, 0, 0)], num_nodes=3, num_relations=1), self_loops=False)
    query_N1D = torch.tensor([1.0, 0, 0], dtype=torch.float64)[:, None, None]
    key_N1D = torch.tensor([0.0, 0, 30], dtype=torch.float64)[:, None, None]
    pairs, share_E1 = attention_on_edges(graph, query_N1D, key_N1D, None, mask="renormalise", mean=True)
    assert whole(pairs, share_E1)[0, 0].sum() < 1e-3
    logits_E1 = ops.edge_softmax(graph, ops.edge_dots(graph, query_N1D, key_N1D))
    assert whole(graph, logits_E1)[0, 0].tolist() == [0, 1, 0]


@pytest.mark.capability("G4-07")
def test_the_printed_formula_gives_over_half_of_a_row_to_pairs_without_an_edge():
    away, ratios = [], []
    for seed in range(20):
        graph = random_graph(seed, num_nodes=12, density=1 / 3)
        query_N1D, key_N1D = (
            random_values(graph, width=16, seed=seed) / 4,
            random_values(graph, width=16, seed=99 + seed),
        )
        pairs, share_E1 = attention_on_edges(graph, query_N1D, key_N1D, None, mask="literal", mean=True)
        found_NN = whole(pairs, share_E1)[0]
        shown_NN = whole(graph, torch.ones(graph.num_edges, 1, dtype=torch.float64))[0]
        first_NN = (query_N1D[:, 0] @ key_N1D[:, 0].T).softmax(1)
        torch.testing.assert_close(found_NN, (shown_NN * first_NN).softmax(1))
        away.append((found_NN * (1 - shown_NN)).sum(1).mean())
        ratios.append(found_NN.max() / found_NN.min())
    assert torch.stack(away).mean().item() == pytest.approx(0.59, abs=0.03)
    assert 1.2 < torch.stack(ratios).mean() < 2.2  # all rows nearly even


@pytest.mark.capability("G4-08")
def test_a_module_trains_its_queries_and_keys_and_one_or_two_serve_text_and_vision():
    def count(*modules):
        return sum(p.numel() for p in torch.nn.ModuleList(modules).parameters())  # a shared one counts once

    def new():
        return HopDiffusion(HopDiffusionConfig(node_width=768, num_heads=12))

    shared = new()
    assert count(shared, shared) == 2 * (768 * 768 + 768) == 1_181_184
    assert count(new(), new()) == 2 * 1_181_184


@pytest.mark.capability("G4-08")
def test_text_and_vision_joined_to_one_graph_hear_of_each_other():
    encoder, apart = encoder_of(), batch_graphs([random_graph(1), random_graph(2)])
    node_ND = torch.randn(18, 8, dtype=torch.float64, requires_grad=True)
    edges = torch.stack([apart.src_E, apart.relation_E, apart.dst_E], 1).tolist()
    joint = message_graph([*edges, (0, 0, 9)], num_nodes=18, num_relations=1)
    for graph, hears in ((apart, False), (joint, True)):
        [grad] = torch.autograd.grad(states(encoder, graph, node_ND)[:9].square().sum(), node_ND)
        assert bool((grad[9:] != 0).any()) == hears


def test_repeated_edges_and_their_directions_mean_nothing_unless_asked():
    graph = message_graph([(0, 0, 1), (2, 0, 1)], num_nodes=3, num_relations=2)
    same = message_graph([(1, 1, 0), (0, 0, 1), (2, 0, 1), (2, 1, 1), (1, 0, 1)], num_nodes=3, num_relations=2)
    node_ND = torch.randn(3, 8, dtype=torch.float64)
    encoder = encoder_of()
    assert torch.equal(states(encoder, graph, node_ND), states(encoder, same, node_ND))
    as_it_is = encoder_of(undirected=False, residual=False)
    torch.testing.assert_close(states(as_it_is, graph, node_ND)[[0, 2]], node_ND[[0, 2]])  # nothing comes in
    assert (states(as_it_is, graph, node_ND)[1] - node_ND[1]).abs().max() > 0.1
    assert not torch.allclose(states(as_it_is, graph, node_ND), states(as_it_is, same, node_ND))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"alpha": 0}, "alpha of a diffusion must be more than 0 and at most 1, found 0"),
        ({"alpha": 1.1}, r"found 1\.1"),
        ({"alpha": math.nan}, "found nan"),
        ({"alpha": 1e-6, "num_terms": None}, r"at least 0\.0001, found 1e-06.* products; give num_terms"),
        ({"num_terms": 0}, "num_terms of an encoder must be a whole number of 1 or more, found 0"),
        ({"num_heads": 3}, "node_width 8 of an encoder cannot be split over 3 heads"),
        ({"heads": "sum"}, "no heads is called 'sum'"),
        ({"mask": "logit"}, "Did you mean 'logits'"),
        ({"isolated": "none"}, "no isolated is called 'none'"),
        ({"backend": "fussed"}, "Did you mean 'fused'"),
    ],
)
def test_a_setting_that_cannot_be_used_says_which_and_why(changed, message):
    with pytest.raises(ConfigError, match=message):
        open_encoder("hop_diffusion", {"node_width": 8} | changed)


def test_inputs_that_do_not_fit_are_refused():
    graph = tiny_graph()
    with pytest.raises(ConfigError, match=r"node vectors of shape \(4, 8\), found \(4, 7\)"):
        states(encoder_of(), graph, torch.ones(4, 7, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"weight_EH must have the shape \(5, 2\)"):
        diffuse(graph, torch.ones(5, 1), torch.ones(4, 2, 3), alpha=0.1, num_terms=2)
    with pytest.raises(ConfigError, match="alpha"):
        diffuse(graph, torch.ones(5, 1), torch.ones(4, 1, 3), alpha=2.0, num_terms=2)
