"""MR-MKG on MARS: what an item may see, and a run from its files to its report."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError, TrainingError
from mmkg.subgraphs.assemble import NodeKind, Picture
from mmkg.tasks.mars import read_candidates, read_markg, read_mars
from mmkg.training.checkpoint import read_checkpoint, write_checkpoint
from mmkg.training.reasoning.mars import run as mars_run
from mmkg.training.reasoning.mars.data import UNSEEN, read_mars_data
from mmkg.training.reasoning.mars.graph import (
    MarsGraph,
    MarsGraphConfig,
    facts_of,
    node_features,
    questions_of,
    swapped,
)
from mmkg.training.reasoning.mars.known import CandidateKnowledge
from mmkg.training.reasoning.mars.learner import markg_questions
from mmkg.training.reasoning.mars.model import opened_learner
from mmkg.training.reasoning.mars.recipe import list_mars_recipes, open_mars_recipe
from mmkg.training.reasoning.mars.run import (
    compare_mars_runs,
    evaluate_mars,
    train_mars,
)
from mmkg.training.run_folder import read_history

from .made_mars import write_mars

TINY = {"batch_size": 4, "threads": 1, "bootstrap_draws": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_mars(tmp_path_factory.mktemp("mars"))


@pytest.fixture(scope="module")
def parts(folder):
    markg = read_markg(folder)
    rng = np.random.default_rng(0)
    entity_ND = rng.normal(size=(len(markg.names), 8)).astype(np.float32)
    relation_RD = rng.normal(size=(len(markg.relation_ids), 8)).astype(np.float32)
    return markg, read_mars(folder, "train", markg), read_mars(folder, "dev", markg), entity_ND, relation_RD


def graph_of(parts, **settings):
    markg, train, dev, entity_ND, relation_RD = parts
    config = MarsGraphConfig(**{"with_example": True, **settings})
    return MarsGraph(markg, train, entity_ND, relation_RD, config, hidden_pairs=dev)


def test_the_graph_is_markg_and_the_pairs_of_train_under_relations_of_their_own(parts):
    whole, markg = graph_of(parts), parts[0]
    assert len(whole.triples) == 24 + 11
    assert whole.num_relations == 4 + 2
    assert np.array_equal(whole.relation_RD[4], parts[4][markg.relation_ids.index("A1")])  # called as it is in MarKG
    assert whole.group_R.tolist() == [0] * 4 + [1] * 2 + [2] * 2
    assert len(graph_of(parts, with_markg=False).triples) == 11
    assert len(graph_of(parts, with_facts=False).triples) == 24
    with pytest.raises(ConfigError, match="has no edge"):
        graph_of(parts, with_markg=False, with_facts=False)


def test_a_strict_graph_ties_no_pair_of_train_or_dev(parts):
    _, train, dev, *_ = parts
    pairs = {frozenset(p) for i in (*train, *dev) for p in ((i.example_head, i.example_tail), (i.question, i.answer))}
    strict = graph_of(parts, strict=True, with_facts=False)
    assert not [t for t in strict.triples.tolist() if frozenset((t[0], t[2])) in pairs]


def edges_of(item):
    """Edges of an item's subgraph by entity."""
    subgraph, entity = item.subgraph, item.entity_N
    return set(
        zip(entity[subgraph.src_E].tolist(), subgraph.relation_E.tolist(), entity[subgraph.dst_E].tolist(), strict=True)
    )


def without_facts(parts, question, **settings):
    """The graph as if the two facts of a question had never been in it."""
    graph = graph_of(parts, **settings)
    graph.triples = np.array([triple for triple in graph.triples.tolist() if tuple(triple) not in question.facts])
    return graph


@pytest.mark.parametrize("with_example", [False, True])
def test_where_an_item_is_learnt_its_facts_are_as_if_they_had_never_been_there(parts, with_example):
    markg, train, *_ = parts
    graph = graph_of(parts, with_example=with_example)
    for question in questions_of([*train, *swapped(train)], markg, train):
        learnt, shown = (graph.subgraph_of(question, hide=hide) for hide in (True, False))
        bare = without_facts(parts, question, with_example=with_example).subgraph_of(question, hide=False)
        assert learnt.entity_N.tolist() == bare.entity_N.tolist()
        assert edges_of(learnt) == edges_of(bare)
        assert np.allclose(learnt.relevance_N2, bare.relevance_N2)
        assert np.array_equal(learnt.tied_N4, bare.tied_N4)
        assert question.facts[0] in edges_of(shown)
        assert not set(question.facts) & edges_of(learnt)
        # no node stands alone but those that are asked about: it would tell what was hidden
        tied = set(learnt.subgraph.src_E.tolist()) | set(learnt.subgraph.dst_E.tolist())
        assert set(range(learnt.subgraph.num_seeds, learnt.subgraph.num_nodes)) <= tied


def test_ties_with_the_question_are_counted_by_where_they_stand_and_which_way_they_lead(parts):
    markg, train, dev, *_ = parts
    question = questions_of(dev, markg, train)[2]  # Fiji (5): train says that its currency (21) goes with it
    item = graph_of(parts, with_example=False).subgraph_of(question, hide=False)
    ties = {int(entity): row.tolist() for entity, row in zip(item.entity_N, item.tied_N4, strict=True) if row.any()}
    assert ties == {13: [1, 0, 0, 0], 24: [1, 0, 0, 0], 21: [0, 0, 0, 1]}  # capital, country; the currency


def test_the_same_pair_under_another_relation_stays(parts):
    markg, train, *_ = parts
    question = questions_of(train, markg, train)[0]
    pair = {question.question, question.answer}
    kept = [edge for edge in edges_of(graph_of(parts).subgraph_of(question, hide=True)) if {edge[0], edge[2]} == pair]
    assert kept  # the currency is named under P38 too
    assert all(relation != question.relation for _, relation, _ in kept)


def test_how_often_an_answer_was_one_leaves_out_the_item_that_is_learnt(parts):
    markg, train, *_ = parts
    graph, question = graph_of(parts), questions_of(train, markg, train)[0]
    item = graph.subgraph_of(question, hide=True)
    node = item.entity_N.tolist().index(question.answer)
    counts = {question.answer: 5}
    assert question.own_count == 4  # in two items as the question, in two as the example
    shown, learnt = (node_features(item, question, counts, hide=hide) for hide in (False, True))
    assert shown[node, 0] == pytest.approx(np.log1p(5))
    assert learnt[node, 0] == pytest.approx(np.log1p(1))
    assert np.array_equal(shown[:, 1:], learnt[:, 1:])


def test_an_entity_without_text_has_its_own_edges(parts):
    markg, train, dev, entity_ND, relation_RD = parts
    question = questions_of(train, markg, train)[0]
    silent = entity_ND.copy()
    silent[question.question] = 0
    item = graph_of((markg, train, dev, silent, relation_RD)).subgraph_of(question, hide=True)
    own = {tuple(t) for t in graph_of(parts).triples.tolist() if question.question in (t[0], t[2])} - set(
        question.facts
    )
    assert own
    assert own <= edges_of(item)
    assert not item.subgraph.has_vector_N[0]


def test_the_example_is_no_part_of_the_subgraph_unless_it_is_asked_for(parts):
    markg, train, *_ = parts
    question = questions_of(train, markg, train)[0]
    item = graph_of(parts, with_example=False).subgraph_of(question, hide=True)
    assert item.subgraph.num_seeds == 1
    assert item.entity_N[0] == question.question


@pytest.mark.capability("MR-03")
def test_pictures_of_entities_are_nodes_of_an_items_subgraph(parts):
    markg, train, _, entity_ND, relation_RD = parts
    picture = Picture(sha256="a" * 64, vector=np.ones(8, np.float32))
    graph = MarsGraph(markg, train, entity_ND, relation_RD, MarsGraphConfig(), pictures={train[0].question: [picture]})
    item = graph.subgraph_of(questions_of(train, markg, train)[0], hide=False)
    node = int(np.flatnonzero(item.subgraph.kind_N == NodeKind.IMAGE)[0])
    assert item.subgraph.entity_of_image == {node: 0}
    assert item.entity_N[node] == -1


def test_analogies_of_markg_are_of_one_relation_with_another_example_and_a_candidate_for_an_answer(folder, parts):
    markg = parts[0]
    candidates = read_candidates(folder, markg)
    asked = markg_questions(markg.triples, candidates, per_fact=2, random_seed=0)
    known = set(map(tuple, markg.triples.tolist()))
    assert all(set(q.facts) <= known and q.facts[0] != q.facts[1] for q in asked)
    assert {q.answer for q in asked} <= set(candidates.tolist())
    assert {q.reverse for q in asked} == {False, True}
    # capitals both ways round; instances only from class to instance, since classes are no candidates
    assert len(asked) == 2 * (8 + 8 + 16)
    assert asked == markg_questions(markg.triples, candidates, per_fact=2, random_seed=0)


@pytest.mark.capability("MR-14", "MR-16", "MR-18")
def test_a_run_leaves_ranks_figures_beside_look_ups_and_a_report_and_goes_on_after_a_kill(folder, tmp_path):
    recipe = open_mars_recipe("mr_mkg/mars_tiny", TINY)
    said = []
    metrics = train_mars(recipe, folder, tmp_path / "run", progress=said.append)
    assert "pre-training on MarKG" in said
    rows = metrics["rows"]
    assert {"MR-MKG", "MR-MKG, examples exchanged", "look-up", "look-up + MarKG neighbours"} <= rows.keys()
    assert rows["MR-MKG"]["groups"]["all"]["num_items"] == 3
    assert rows["MR-MKG"]["groups"][UNSEEN]["num_items"] == 2
    ranks = np.load(tmp_path / "run" / "ranks-dev.npz")["rank"]
    assert rows["MR-MKG"]["groups"]["all"]["mrr"]["value"] == pytest.approx((1 / ranks).mean())
    assert ((ranks >= 1) & (ranks <= 24)).all()
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "look-up + MarKG neighbours" in report

    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("epoch 2/2: "):
            raise Killed

    with pytest.raises(Killed):
        train_mars(recipe, folder, tmp_path / "killed", cache_folder=tmp_path / "vectors", progress=kill)
    said.clear()
    again = train_mars(
        recipe, folder, tmp_path / "killed", cache_folder=tmp_path / "vectors", resume=True, progress=said.append
    )
    assert any("going on after step" in line for line in said)
    first, second = (read_checkpoint(tmp_path / name / "model.safetensors").tensors for name in ("run", "killed"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again["rows"] == metrics["rows"]
    with pytest.raises(TrainingError, match="holds a run already"):
        train_mars(recipe, folder, tmp_path / "run")
    assert evaluate_mars(tmp_path / "run")["rows"] == metrics["rows"]
    data = read_mars_data(recipe, folder, tmp_path / "vectors")
    same = compare_mars_runs(data, [tmp_path / "run"], [tmp_path / "killed"], draws=20)
    assert (same.wins, same.losses, same.ties) == (0, 0, 3)
    other = tmp_path / "run" / "environment.json"
    told = json.loads(other.read_text(encoding="utf-8"))
    told["frozen"] = dict.fromkeys(told["frozen"], "0" * 16)
    other.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(TrainingError, match="language model"):
        evaluate_mars(tmp_path / "run")


def test_seeds_killed_in_pre_training_go_on_and_nothing_is_gone_on_with_where_nothing_was_begun(folder, tmp_path):
    recipe = open_mars_recipe("mr_mkg/mars_tiny", {**TINY, "epochs": 1})

    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("seed 1: epoch 1/1"):
            raise Killed

    with pytest.raises(TrainingError, match="no run here to go on with"):
        train_mars(recipe, folder, tmp_path / "run", resume=True)
    with pytest.raises(Killed):
        train_mars(recipe, folder, tmp_path / "run", seeds=[0, 1], progress=kill)
    assert (tmp_path / "run" / "seed-1" / "pretraining" / "config.json").exists()
    assert not (tmp_path / "run" / "seed-1" / "config.json").exists()
    assert train_mars(recipe, folder, tmp_path / "run", seeds=[0, 1], resume=True)["seeds"] == [0, 1]


def test_runs_that_ranked_other_items_are_not_compared(folder, tmp_path):
    recipe = open_mars_recipe("mr_mkg/mars_tiny", {**TINY, "epochs": 1, "pretrain_epochs": 0})
    data = write_mars(tmp_path / "mars")
    lines = (data / "dev.json").read_text(encoding="utf-8").splitlines()
    (data / "dev.json").write_text("\n".join(reversed(lines)), encoding="utf-8")
    train_mars(recipe, folder, tmp_path / "run")
    train_mars(recipe, data, tmp_path / "other")
    with pytest.raises(TrainingError, match=r"other[/\\]ranks-dev\.npz: ranks of other items"):
        evaluate_mars(tmp_path / "run", against=tmp_path / "other")


def without_facts_known(data, known, question):
    """What is known of the candidates as if the two facts of a question had never been said, on the same scale."""
    bare = CandidateKnowledge(
        data.markg,
        (data.entity_ND, data.name_ND),
        data.candidate_C,
        answer_counts=known.answer_counts - Counter({question.answer: question.own_count}),
        facts=[fact for fact in facts_of(data.train, data.markg) if fact not in question.facts],
        sample=[question],
        device=torch.device("cpu"),
    )
    bare.mean_F, bare.deviation_F = known.mean_F, known.deviation_F
    return bare


@pytest.mark.parametrize("stage", ["mars", "markg"])
def test_a_learner_scores_what_it_learns_as_if_the_facts_had_never_been_there(folder, tmp_path, stage):
    recipe = open_mars_recipe("mr_mkg/mars_tiny", TINY)
    data = read_mars_data(recipe, folder, tmp_path)
    with opened_learner(recipe, data, stage=stage) as learner, opened_learner(recipe, data, stage=stage) as bare:
        learner.model.eval()
        bare.model.eval()
        for question in learner.questions[:6]:
            rows = [list(triple) for triple in learner.graph.triples.tolist() if tuple(triple) not in question.facts]
            bare.graph.__dict__.pop("adjacency", None)
            bare.graph.__dict__.pop("_retrievals", None)
            bare.graph.__dict__.pop("_row_of", None)
            bare.graph.triples = np.array(rows)
            bare.known = without_facts_known(data, learner.known, question)
            hidden, shown = learner.forward([question], hide=True), bare.forward([question], hide=False)
            assert torch.allclose(hidden.score_BC, shown.score_BC, atol=1e-5)
            assert not torch.allclose(hidden.score_BC, learner.forward([question], hide=False).score_BC, atol=1e-5)


@pytest.mark.capability("MR-14")
def test_the_second_stage_begins_where_the_first_ended_and_only_on_the_same_files(folder, tmp_path):
    recipe = open_mars_recipe("mr_mkg/mars_tiny", {**TINY, "learning_rate": 1e-12, "average": 0.0, "weight_decay": 0.0})
    data = write_mars(tmp_path / "mars")
    train_mars(recipe, data, tmp_path / "run")
    stages = [read_checkpoint(tmp_path / "run" / part / "model.safetensors").tensors for part in ("pretraining", ".")]
    taken_over = [name for name in stages[0] if not name.startswith("head.")]
    assert all(torch.allclose(stages[0][name], stages[1][name], atol=1e-8) for name in taken_over)
    with opened_learner(recipe, read_mars_data(recipe, data, tmp_path / "vectors"), stage="mars") as learner:
        head = {f"head.{name}": row for name, row in learner.model.head.named_parameters()}  # begins anew
    assert all(torch.allclose(head[name], stages[1][name], atol=1e-8) for name in head)
    assert not all(torch.equal(head[name], stages[0][name]) for name in head)
    columns = [read_history(tmp_path / "run" / part)[0].keys() for part in ("pretraining", ".")]
    assert "relation_loss" in columns[0]
    assert "relation_loss" not in columns[1]
    (tmp_path / "run" / "metrics.json").unlink()
    lines = (data / "wiki_tuple_ids.txt").read_text(encoding="utf-8").splitlines()
    (data / "wiki_tuple_ids.txt").write_text("\n".join(lines[1:]), encoding="utf-8")
    with pytest.raises(TrainingError, match="trained on other files of MARS"):
        train_mars(recipe, data, tmp_path / "run", resume=True)


def test_ranks_are_those_of_the_trained_model_and_of_exchanged_examples(folder, tmp_path, monkeypatch):
    recipe = open_mars_recipe("mr_mkg/mars_tiny", {**TINY, "epochs": 1, "pretrain_epochs": 0})
    monkeypatch.setattr(
        mars_run, "exchange_examples", lambda items, seed: [replace(item, question=item.answer) for item in items]
    )
    metrics = train_mars(recipe, folder, tmp_path / "run")
    ranks = np.load(tmp_path / "run" / "ranks-dev.npz")
    assert not np.array_equal(ranks["rank"], ranks["exchanged"])
    path = tmp_path / "run" / "model.safetensors"
    best = read_checkpoint(path)
    other = {name: -value if name.startswith("head.") else value for name, value in best.tensors.items()}
    write_checkpoint(path, other, best.document)
    assert evaluate_mars(tmp_path / "run")["rows"]["MR-MKG"] != metrics["rows"]["MR-MKG"]


def test_an_answer_of_dev_that_is_no_candidate_counts_as_wrong_and_one_of_train_is_told(folder, tmp_path):
    data = write_mars(tmp_path / "mars")
    lines = (data / "dev.json").read_text(encoding="utf-8").splitlines()
    odd = json.loads(lines[-1]) | {"answer": "Q24"}
    (data / "dev.json").write_text("\n".join([*lines, json.dumps(odd)]) + "\n", encoding="utf-8")
    recipe = open_mars_recipe("mr_mkg/mars_tiny", {**TINY, "epochs": 1, "pretrain_epochs": 0})
    metrics = train_mars(recipe, data, tmp_path / "run")
    assert metrics["rows"]["MR-MKG"]["groups"]["all"]["num_missing"] == 1
    text = (tmp_path / "run" / "metrics.json").read_text(encoding="utf-8")
    assert "Infinity" not in text
    (data / "analogy_entities.txt").write_text("Q0\nQ1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"have an answer that is no candidate, first '.*' \(Q\d+\)"):
        train_mars(recipe, data, tmp_path / "other")


def test_examples_are_learnt_as_questions_too_where_they_are_swapped(folder, tmp_path):
    data = read_mars_data(open_mars_recipe("mr_mkg/mars_tiny"), folder, tmp_path)
    asked = {}
    for swap in (True, False):
        recipe = open_mars_recipe("mr_mkg/mars_tiny", {**TINY, "swap": swap})
        with opened_learner(recipe, data, stage="mars") as learner:
            asked[swap] = learner.questions
    assert asked[True] == [*asked[False], *questions_of(swapped(data.train), data.markg, data.train)]


@pytest.mark.capability("MR-20")
def test_every_ablation_is_a_recipe_that_changes_its_part_alone():
    whole = open_mars_recipe("mr_mkg/mars").model_dump()
    changed = {}
    for name in list_mars_recipes():
        one = open_mars_recipe(name).model_dump()
        changed[name.removeprefix("mr_mkg/mars")] = {key for key in whole if one[key] != whole[key]} - {"name"}
    assert changed.pop("") == set()
    paper, tiny = changed.pop("_paper"), changed.pop("_tiny")
    assert {"llm", "learning_rate", "epochs"} <= paper
    assert "model" not in tiny
    assert changed == {
        "_no_graph": {"model"},
        "_pairs_only": {"graph", "pretrain_epochs"},
        "_strict": {"graph"},
        "_gat": {"model"},
        "_gnn": {"model"},
        "_no_encoder": {"model"},
        "_no_alignment": {"model"},
        "_no_pretraining": {"pretrain_epochs"},
    }
    with pytest.raises(ConfigError, match=r"no recipe is called 'mr_mkg/mras'\. Did you mean 'mr_mkg/mars'"):
        open_mars_recipe("mr_mkg/mras")


def test_a_run_without_graph_and_one_of_several_seeds(folder, tmp_path):
    recipe = open_mars_recipe(
        "mr_mkg/mars_tiny", {**TINY, "pretrain_epochs": 0, "model.knowledge": "none", "epochs": 1}
    )
    metrics = train_mars(recipe, folder, tmp_path / "run", seeds=[0, 1])
    assert metrics["seeds"] == [0, 1]
    assert metrics["rows"]["MR-MKG"]["all"]["mrr"]["mean"] > 0
    assert "look-up" in metrics["lookups"]
    state = (tmp_path / "run" / "seed-1" / "model.safetensors").read_bytes()
    assert b"knowledge" not in state
