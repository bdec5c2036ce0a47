"""MR-MKG on MARS: what an item may see, and a run from its files to its report."""

import json

import numpy as np
import pytest

from mmkg.errors import ConfigError, TrainingError
from mmkg.subgraphs.assemble import NodeKind, Picture
from mmkg.tasks.mars import read_candidates, read_markg, read_mars
from mmkg.training.reasoning.mars_data import UNSEEN, read_mars_data
from mmkg.training.reasoning.mars_graph import MarsGraph, MarsGraphConfig, node_features, questions_of
from mmkg.training.reasoning.mars_learner import markg_questions
from mmkg.training.reasoning.mars_recipe import list_mars_recipes, open_mars_recipe
from mmkg.training.reasoning.mars_run import compare_mars_runs, evaluate_mars, is_mars_run, train_mars

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


def test_an_items_own_facts_are_hidden_where_it_is_learnt_and_the_same_pair_under_another_relation_is_not(parts):
    markg, train, *_ = parts
    graph = graph_of(parts)
    question = questions_of(train, markg, train)[0]
    own = graph.subgraph_of(question)
    subgraph = own.subgraph
    place = {entity: node for node, entity in enumerate(own.entity_N.tolist())}
    edges = list(zip(subgraph.src_E.tolist(), subgraph.relation_E.tolist(), subgraph.dst_E.tolist(), strict=True))
    hidden = {edges[number] for number in np.flatnonzero(~own.keep_E)}
    assert hidden == {(place[h], r, place[t]) for h, r, t in question.facts}
    q, a = place[question.question], place[question.answer]
    assert [e for e in edges if {e[0], e[2]} == {q, a} and e not in hidden]  # the currency is named under P38 too
    assert subgraph.num_seeds == 3
    assert own.entity_N[:3].tolist() == [question.question, question.head, question.tail]


def test_how_often_an_answer_was_one_leaves_out_the_item_that_is_learnt(parts):
    markg, train, *_ = parts
    graph, question = graph_of(parts), questions_of(train, markg, train)[0]
    item = graph.subgraph_of(question)
    node = item.entity_N.tolist().index(question.answer)
    counts = {question.answer: 5}
    assert question.own_count == 4  # in two items as the question, in two as the example
    shown, learnt = (node_features(item, question, counts, hide=hide) for hide in (False, True))
    assert shown[node, 0] == pytest.approx(np.log1p(5))
    assert learnt[node, 0] == pytest.approx(np.log1p(1))
    assert (learnt[:, 2] <= shown[:, 2]).all()
    assert learnt[node, 2] < shown[node, 2]


def test_the_example_is_no_part_of_the_subgraph_unless_it_is_asked_for(parts):
    markg, train, *_ = parts
    question = questions_of(train, markg, train)[0]
    item = graph_of(parts, with_example=False).subgraph_of(question)
    assert item.subgraph.num_seeds == 1
    assert item.entity_N[0] == question.question


@pytest.mark.capability("MR-03")
def test_pictures_of_entities_are_nodes_of_an_items_subgraph(parts):
    markg, train, _, entity_ND, relation_RD = parts
    picture = Picture(sha256="a" * 64, vector=np.ones(8, np.float32))
    graph = MarsGraph(markg, train, entity_ND, relation_RD, MarsGraphConfig(), pictures={train[0].question: [picture]})
    item = graph.subgraph_of(questions_of(train, markg, train)[0])
    node = int(np.flatnonzero(item.subgraph.kind_N == NodeKind.IMAGE)[0])
    assert item.subgraph.entity_of_image == {node: 0}
    assert item.entity_N[node] == -1
    assert item.keep_E[-1]


def test_analogies_of_markg_are_of_one_relation_with_another_example_and_a_candidate_for_an_answer(folder, parts):
    markg = parts[0]
    candidates = read_candidates(folder, markg)
    asked = markg_questions(markg, candidates, per_fact=2, random_seed=0)
    known = set(map(tuple, markg.triples.tolist()))
    assert all(set(q.facts) <= known and q.facts[0] != q.facts[1] for q in asked)
    assert {q.answer for q in asked} <= set(candidates.tolist())
    assert {q.reverse for q in asked} == {False, True}
    # capitals both ways round; instances only from class to instance, since classes are no candidates
    assert len(asked) == 2 * (8 + 8 + 16)
    assert asked == markg_questions(markg, candidates, per_fact=2, random_seed=0)


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
    assert is_mars_run(tmp_path / "run")

    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("epoch 1/2: "):
            raise Killed

    with pytest.raises(Killed):
        train_mars(recipe, folder, tmp_path / "killed", cache_folder=tmp_path / "vectors", progress=kill)
    again = train_mars(recipe, folder, tmp_path / "killed", cache_folder=tmp_path / "vectors", resume=True)
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
        "_pairs_only": {"graph"},
        "_strict": {"graph"},
        "_gat": {"model"},
        "_gnn": {"model"},
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
