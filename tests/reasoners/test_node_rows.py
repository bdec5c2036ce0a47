"""Rows of nodes before attention: what each says and how it is tied to the target, by hand."""

import pytest
import torch

from mmkg.errors import ConfigError
from mmkg.reasoners import node_rows
from mmkg.reasoners.llm_config import LoraConfig
from mmkg.reasoners.node_rows import NodeRows
from mmkg.subgraphs.batch_multimodal import batch_multimodal

from .made_graphs import EMPTY, FAILED, PICTURED, TEXT_ONLY, VECTOR, WIDTH, R, frozen_llm, make_graph, with_vector
from .made_llms import make_llm

TEXT = PICTURED.text_subgraph()


def make_rows(llm=None, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NodeRows(llm or frozen_llm("llama"), width=WIDTH, dimension=VECTOR, **settings)


def rows_of(rows, *subgraphs):
    return rows(subgraphs, batch_multimodal(subgraphs))


# --- what a node says


@pytest.mark.capability("G4-05")
def test_of_vectors_a_row_is_a_map_of_its_vector_and_what_has_none_takes_the_learnt_row():
    rows = make_rows()
    found = rows_of(rows, TEXT, EMPTY, TEXT_ONLY)
    expected = [rows.project(torch.from_numpy(vector)) for vector in TEXT.vector_ND[:3]]
    expected += [rows.missing, *(rows.project(torch.from_numpy(vector)) for vector in TEXT_ONLY.vector_ND)]
    torch.testing.assert_close(found, torch.stack(expected))
    for junk in (7.0, float("inf"), float("nan")):  # what stands there is no vector
        assert torch.equal(rows_of(rows, with_vector(TEXT, 3, junk)), found[:4])


@pytest.mark.parametrize("family", ["llama", "opt", "opt_projected", "t5"])
def test_of_states_a_row_is_a_map_of_the_mean_state_over_its_own_tokens(family):
    llm = frozen_llm(family)
    rows = make_rows(llm, text="states")
    found = rows_of(rows, TEXT, TEXT_ONLY)
    reads = llm.model.get_encoder() if llm.kind == "encoder_decoder" else llm.model.base_model
    for number, label in enumerate([*TEXT.labels, *TEXT_ONLY.labels]):  # each alone, so without any padding
        expected = rows.missing
        if label is not None:
            expected = rows.project(reads(input_ids=torch.tensor([llm.tokens(label)])).last_hidden_state[0].mean(0))
        torch.testing.assert_close(found[number], expected, atol=1e-5, rtol=1e-4)
    assert not any(parameter.grad_fn or parameter.requires_grad for parameter in llm.parameters())


def test_states_are_made_once_for_each_text_and_kept(monkeypatch):
    rows, made = make_rows(text="states"), []
    real = node_rows.mean_states
    monkeypatch.setattr(node_rows, "mean_states", lambda llm, tokens: made.extend(tokens) or real(llm, tokens))
    first = rows_of(rows, TEXT, TEXT)
    count = len(made)
    assert count == 4  # three labels and none at all
    assert torch.equal(rows_of(rows, TEXT, TEXT), first)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # what is kept does not depend on who asked first
        rows_of(rows, TEXT_ONLY)
    assert len(made) == count + 2  # "Bern" is known already
    torch.testing.assert_close(rows_of(rows, TEXT_ONLY), rows_of(make_rows(text="states"), TEXT_ONLY))


@pytest.mark.parametrize("settings", [{"trains": True}, {"lora": LoraConfig(targets=("q_proj",))}])
def test_states_of_a_language_model_that_learns_are_refused_and_words_of_it_are_not(settings):
    llm = make_llm("llama", **settings)
    with pytest.raises(ConfigError, match="needs a language model that does not learn; choose 'words'"):
        make_rows(llm, text="states")
    make_rows(llm, text="words")


@pytest.mark.parametrize("family", ["llama", "opt_projected", "t5"])
def test_of_words_a_row_is_a_map_of_the_mean_word_embedding(family):
    llm = frozen_llm(family)
    rows = make_rows(llm, text="words", max_tokens=3)
    found = rows_of(rows, TEXT, EMPTY, TEXT_ONLY)
    table = llm.model.get_input_embeddings().weight
    for number, label in enumerate([*TEXT.labels, *TEXT_ONLY.labels]):
        tokens = llm.tokens(label or "")[:3]
        expected = rows.project(table[tokens].mean(0)) if tokens else rows.missing
        torch.testing.assert_close(found[number], expected)
    assert max(len(llm.tokens(label or "")) for label in TEXT_ONLY.labels) > 3  # so the cut shows


def test_word_embeddings_of_a_model_that_learns_learn_from_nodes():
    for trains in (True, False):
        llm = make_llm("llama", trains=trains)
        rows_of(make_rows(llm, text="words"), TEXT).sum().backward()
        grad = llm.model.get_input_embeddings().weight.grad
        said = {token for label in TEXT.labels for token in llm.tokens(label or "")}
        assert grad is None if not trains else set(grad.any(1).nonzero()[:, 0].tolist()) == said


@pytest.mark.parametrize("text", ["vectors", "states", "words"])
def test_a_batch_without_any_node_has_no_row(text):
    rows = make_rows(text=text, num_relations=R, num_places=2, marks_targets=True)
    batch = batch_multimodal([EMPTY, EMPTY])
    found = rows([EMPTY, EMPTY], batch)
    assert found.shape == rows.mark(found, batch).shape == (0, WIDTH)


def test_a_text_of_more_tokens_than_the_model_has_positions_is_told():
    graph = make_graph("long", ["What " * 60])
    with pytest.raises(ConfigError, match="the language model has 48 positions, found 50"):
        rows_of(make_rows(text="states", max_tokens=50), graph)
    assert rows_of(make_rows(text="states", max_tokens=48), graph).isfinite().all()


# --- where it stands


def added(rows, *subgraphs):
    """What relations and places add to rows that are all alike."""
    with torch.no_grad():
        rows.project.weight.zero_()
        rows.project.bias.zero_()
        rows.missing.zero_()
    return rows_of(rows, *subgraphs)


def test_relations_to_the_target_are_averaged_and_their_direction_is_told():
    rows = make_rows(num_relations=R)
    vector = rows.relation.weight
    along, against, untied = vector[:R], vector[R : 2 * R], vector[2 * R]
    assert len(vector) == 2 * R + 1
    found = added(rows, TEXT, TEXT_ONLY)
    zero = torch.zeros(WIDTH)
    torch.testing.assert_close(found[0], zero)  # the target itself is tied by none, and not untied
    torch.testing.assert_close(found[1], (along[0] + against[1]) / 2)
    torch.testing.assert_close(found[2], untied)  # two edges away
    torch.testing.assert_close(found[3], against[1])
    torch.testing.assert_close(found[4:], torch.stack([zero, along[2], against[0]]))
    assert len(torch.unique(vector, dim=0)) == 2 * R + 1  # so a wrong one would show


def test_several_edges_of_one_relation_and_several_targets_count_each_edge():
    edges = [(0, 1, 2), (0, 1, 2), (2, 0, 1), (0, 2, 1), (2, 2, 2), (0, 0, 0)]
    graph = make_graph("two", ["Paris", "Bern", "Chad"], edges, num_seeds=2)
    rows = make_rows(num_relations=R)
    found, vector = added(rows, graph), rows.relation.weight
    assert not found[:2].any()  # an edge between targets, or from one to itself, tells nothing
    torch.testing.assert_close(found[2], (2 * vector[1] + vector[R]) / 3)


def test_places_are_those_in_the_own_graph_and_late_ones_are_like_the_last():
    rows = make_rows(num_places=2)
    expected = rows.place.weight[[0, 1, 1, 1, 0, 1, 1]]
    torch.testing.assert_close(added(rows, TEXT, EMPTY, TEXT_ONLY), expected)


def test_the_mark_is_the_targets_alone():
    two = make_graph("two", ["Paris", "Bern", "Chad"], num_seeds=2)
    rows, batch = make_rows(marks_targets=True), batch_multimodal([TEXT, EMPTY, two])
    marked = rows.mark(torch.zeros(7, WIDTH), batch)
    assert [bool(row.any()) for row in marked] == [True, False, False, False, True, True, False]
    assert torch.equal(marked[5], rows.target)
    plain = make_rows()
    assert not plain.mark(torch.zeros(7, WIDTH), batch).any()
    assert not [name for name, _ in plain.named_parameters() if "target" in name]  # nothing that nobody reads


@pytest.mark.capability("G4-P4")
@pytest.mark.parametrize("text", ["vectors", "states", "words"])
def test_rows_of_a_graph_alone_are_those_in_a_batch(text):
    rows = make_rows(text=text, num_relations=R, num_places=3)
    together = rows_of(rows, TEXT, EMPTY, FAILED, TEXT_ONLY)
    alone = torch.cat([rows_of(rows, one) for one in (TEXT, FAILED, TEXT_ONLY)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_a_graph_that_counts_other_relations_is_refused():
    for count in (R - 1, R + 1):
        with pytest.raises(ConfigError, match=f"made for {count} relations, found subgraphs with {R}"):
            rows_of(make_rows(num_relations=count), TEXT)
