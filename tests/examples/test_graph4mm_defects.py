"""The study of Graph4MM's released code: each defect is there in the re-enactment, and not in ours."""

import sys
from pathlib import Path

import pytest
import torch

from mmkg.subgraphs.batch import batch_graphs

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "graph4mm"


@pytest.fixture
def defects(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import defects

    yield defects
    for module in ("defects", "released"):
        sys.modules.pop(module, None)


@pytest.fixture
def released(defects):
    return sys.modules["released"]


@pytest.mark.capability("G4-06")
@pytest.mark.parametrize("seed", [0, 1])
def test_for_one_sample_ours_can_be_set_to_compute_what_the_released_form_does(defects, seed):
    theirs, ours = defects.both(seed)
    graph = defects.random_graph(torch.Generator().manual_seed(seed), 12, more=0.15, self_loops=False)
    node_ND = torch.randn(12, defects.WIDTH, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        found = ours(graph, node_ND, torch.empty(0))
        torch.testing.assert_close(found, theirs(node_ND[None], defects.mask_of(graph)[None])[0], atol=1e-6, rtol=1e-5)
        ours.query.weight.neg_()
        assert (ours(graph, node_ND, torch.empty(0)) - found).abs().max() > 0.05  # not so even that any would agree


@pytest.mark.capability("G4-P4")
def test_a_sample_moves_with_another_of_its_batch_in_the_released_form_and_not_in_ours(defects):
    for size in (2, 4, 8):
        found = defects.leak(size, seed=0)
        assert found["ours moved"] == 0
        assert found["ours from alone"] < 1e-6
        assert found["released moved"] > 1e-2
        assert found["released from alone"] > 1e-2
    alone = defects.leak(1, seed=0)
    assert alone["released moved"] == 0
    assert alone["released from alone"] < 1e-6
    assert defects.leak(16, seed=0)["released moved"] < defects.leak(2, seed=0)["released moved"] / 4  # one of 16


def test_the_released_broadcast_is_the_mean_of_all_samples_under_each_mask(released):
    weight_BNN = torch.rand(3, 5, 5).softmax(2)
    mask_BNN = (torch.rand(3, 5, 5) < 0.5).float()
    found = released.masked_shares(weight_BNN, mask_BNN)
    for b in range(3):
        parts = [weight_BNN[c] * mask_BNN[b] for c in range(3)]
        wanted = sum(part / (part.sum(1, keepdim=True) + 1e-9) for part in parts) / 3
        torch.testing.assert_close(found[b], wanted)


def test_the_gradient_of_one_sample_reaches_the_others_in_the_released_form_alone(defects):
    theirs, ours = defects.both(0)
    generator = torch.Generator().manual_seed(0)
    graphs = [defects.random_graph(generator, 6, more=0.2, self_loops=False) for _ in range(2)]
    node_BND = torch.randn(2, 6, defects.WIDTH, generator=generator, requires_grad=True)
    mask_BNN = torch.stack([defects.mask_of(graph) for graph in graphs])
    [leaked] = torch.autograd.grad(theirs(node_BND, mask_BNN)[0].square().sum(), node_BND)
    flat_ND = ours(batch_graphs(graphs), node_BND.flatten(0, 1), torch.empty(0))
    [kept] = torch.autograd.grad(flat_ND[:6].square().sum(), node_BND)
    assert leaked[1].abs().max() > 1e-3
    assert kept[1].abs().max() == 0
    assert theirs.attention.out_proj.weight.grad is None  # and half of what it trains is not used
    theirs(node_BND, mask_BNN).sum().backward()
    assert theirs.attention.out_proj.weight.grad is None
    assert theirs.attention.in_proj_weight.grad[2 * defects.WIDTH :].abs().max() == 0


@pytest.mark.capability("G4-P1")
def test_released_rows_add_to_a_third_and_ours_to_1(defects):
    found = defects.rows(seed=0)
    assert found["released"] == pytest.approx(1 - 0.9**4, abs=1e-6)
    assert found["1 − (1−α)^K"] == pytest.approx(0.3439, abs=1e-12)
    assert found["ours"] == pytest.approx(1, abs=1e-6)


@pytest.mark.capability("G4-07")
def test_the_printed_formula_gives_non_edges_over_half_and_rows_nearly_even(defects):
    found = defects.literal(40, seed=0)
    assert found["non-edges"] == pytest.approx(0.59, abs=0.03)
    assert found["max / min"] == pytest.approx(1.6, abs=0.2)


@pytest.mark.capability("G4-P6")
def test_a_node_without_neighbours_keeps_a_tenth_in_the_released_form(defects):
    found = defects.alone(seed=0)
    assert found["released"] == pytest.approx(0.1, abs=1e-6)
    assert found["ours"] == pytest.approx(1, abs=1e-6)


def test_the_trained_parameters_of_the_released_form_are_counted(released):
    count = sum(p.numel() for p in released.ReleasedHopDiffusion(768).parameters())
    assert count == 4 * (768 * 768 + 768) == 2_362_368


def test_released_edges_are_shifted_by_one_but_for_the_constants(released):
    section = released.Section
    target = section(number=0, has_image=True)
    others = [section(number=1), section(number=2, has_image=True), section(number=3, parent=1)]
    # 0 target, 1 page, 2 caption, 3 section 1, 4 section 2, 5 its caption, 6 section 3
    meant, below = released.text_edges(others, target=target, released=False)
    assert meant == {(0, 1), (0, 2), (1, 3), (3, 4), (4, 5), (5, 6), (3, 6)}
    assert below == {(3, 6)}
    made, made_below = released.text_edges(others, target=target, released=True)
    assert made == {(0, 2), (0, 3), (1, 4), (4, 5), (5, 6), (6, 7)}
    assert made_below == set()
    plain = section(number=0, parent=2)
    assert released.text_edges(others[:2], target=plain, released=False)[1] == {(0, 3)}


def test_a_page_of_nine_other_sections_has_an_edge_out_of_range(defects):
    assert defects.page_edges(8)["out of range"] == 0
    nine = defects.page_edges(9)
    assert nine["out of range"] == 1
    assert (nine["parent-child"], nine["parent-child as released"]) == (3, 0)
    others, target = defects.page(9)
    made, _ = defects.text_edges(others, target=target, released=True)
    assert max(max(pair) for pair in made) == 12
    with pytest.raises(IndexError):
        torch.zeros(12, 12)[list(zip(*sorted(made), strict=True))] = 1


def test_images_and_their_graph_do_not_line_up(released):
    sections = [released.Section(number=n, has_image=n in (0, 2, 3)) for n in range(5)]
    assert released.image_slots(sections) == [(0, 0), (1, 2), (2, 3)]


@pytest.mark.capability("G4-P1")
@pytest.mark.parametrize(("num_terms", "left_out"), [(1, 0.9), (4, 0.6561), (32, 0.9**32), (128, 0.9**128)])
def test_what_k_terms_leave_out(defects, num_terms, left_out):
    assert defects.truncation(num_terms, seed=0) == pytest.approx(left_out, rel=1e-6)


@pytest.mark.capability("G4-P5")
def test_the_claim_about_energy_holds_with_the_residual_and_not_without(defects):
    found = {(alpha, k): (plain, added) for alpha, k, plain, added in defects.wins(60, seed=0)}
    assert min(added for _, added in found.values()) >= 0.98
    assert found[0.1, 1][0] == 0
    assert found[0.1, 10][0] > 0.8
    assert found[0.5, 10][0] > 0.95


def test_the_script_prints_every_table(defects, capsys):
    defects.main(["--graphs", "5", "--seed", "1"])
    printed = capsys.readouterr().out
    assert printed.count("\n\n") == 10
    for line in ("released  0.3439", "0–1, 0–2, 1–3, 3–4  0–2, 0–3, 1–4, 4–5", "at most the target's  11.1 %"):
        assert line in printed
    with pytest.raises(SystemExit):
        defects.main(["--help"])
    assert "python examples/graph4mm/defects.py" in capsys.readouterr().out
