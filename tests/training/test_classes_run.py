"""Classes of entities: what training meets of unseen ones, what is shown, answers by vectors, and runs."""

import json

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError, TrainingError
from mmkg.reasoners.graph4mm import Graph4mm
from mmkg.tasks.mars import read_markg
from mmkg.training.checkpoint import read_checkpoint, write_checkpoint
from mmkg.training.reasoning.classes.data import GROUPS, read_classes_data
from mmkg.training.reasoning.classes.language import language_rows
from mmkg.training.reasoning.classes.measure import (
    COMMONEST,
    COSINE,
    NEIGHBOURS,
    NOT_SAID,
    answers_without_model,
    group_of,
    measure_classes,
    score_classes,
)
from mmkg.training.reasoning.classes.recipe import list_class_recipes, open_class_recipe
from mmkg.training.reasoning.classes.run import (
    compare_class_runs,
    evaluate_classes,
    train_classes,
)
from mmkg.training.reasoning.classes.semantic import SemanticLearner, SemanticReader
from mmkg.training.reasoning.run import read_answers

from .made_tiny_llm import make_tiny_llm

CLASSES = ("lake", "river", "poem", "opera", "oak", "pine")
KIND = {"lake": "water", "river": "water", "poem": "work", "opera": "work", "oak": "plant", "pine": "plant"}
RELATIONS = {"P31": "instance of", "P279": "subclass of", "P1": "beside", "P2": "made of"}
MEMBERS = 6


def write_markg(folder, members=MEMBERS, *, shuffled=False):
    """Six classes Q0-Q5 of some members each, from Q10 on; things they are made of, Q90-Q92; Both, Q99, is of two.

    Each class is a chain by "beside". Its first member says the class and is a subclass of it too, the second says
    nothing, the others say what they are made of. Shuffled numbers, so that names tell nothing, begin at Q100.
    """
    names = {f"Q{c}": name for c, name in enumerate(CLASSES)}
    texts = {f"Q{c}": f"one kind of {KIND[name]}" for c, name in enumerate(CLASSES)}
    triples = []
    numbers = np.arange(10, 10 + 6 * members)
    if shuffled:
        numbers = 100 + np.random.default_rng(0).permutation(6 * members)
    for c, name in enumerate(CLASSES):
        for m, number in enumerate(numbers.reshape(6, members)[c].tolist()):
            entity = f"Q{number}"
            names[entity] = f"Thing{number}"
            if m == 0:
                texts[entity] = f"a {name.upper()} of old"
                triples.append((entity, "P279", f"Q{c}"))
            elif m > 1:
                texts[entity] = f"{KIND[name]} number {m}"
            triples.append((entity, "P31", f"Q{c}"))
            triples.append((entity, "P2", f"Q{90 + c // 2}"))
            if m + 1 < members:
                triples.append((entity, "P1", f"Q{numbers[c * members + m + 1]}"))
    for number, kind in enumerate(("water", "work", "plant")):
        names[f"Q{90 + number}"] = kind
    names["Q99"] = "Both"
    triples += [("Q99", "P31", "Q0"), ("Q99", "P31", "Q1"), ("Q99", "P1", f"Q{numbers[2]}")]
    files = {
        "entity2text.txt": "".join(f"{q}\t{name}\n" for q, name in names.items()),
        "entity2textlong.txt": "".join(f"{q}\t{text}\n" for q, text in texts.items()),
        "relation2text.txt": "".join(f"{r}\t{name}\n" for r, name in RELATIONS.items()),
        "relation2textlong.txt": "",
        "wiki_tuple_ids.txt": "".join("\t".join(t) + "\n" for t in triples),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_markg(tmp_path_factory.mktemp("markg"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("vectors")


def tiny(**changes):
    return open_class_recipe("graph4mm/classes_tiny", changes)


@pytest.fixture(scope="module")
def data(folder, cache):
    return read_classes_data(tiny(), folder, cache)


def learner_of(data, recipe, *, llm=None):
    torch.manual_seed(0)
    reasoner = Graph4mm(
        recipe.model, llm or make_tiny_llm(width=32), relation_RD=torch.from_numpy(data.questions.relation_RD)
    )
    reader = SemanticReader(reasoner, dimension=data.questions.relation_RD.shape[1], temperature=recipe.temperature)
    return SemanticLearner(reader, data, batch_size=8, valid_questions=50, device=torch.device("cpu"))


def train_steps(learner, steps, rate=1e-2):
    trained = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=rate)
    random = np.random.default_rng(0)
    learner.model.train()
    while steps:
        for rows in learner.batches(random):
            optimiser.zero_grad()
            learner.loss(rows, random).loss.backward()
            optimiser.step()
            steps -= 1
            if not steps:
                return


# --- what is asked and shown -----------------------------------------------------------------------------------------


@pytest.mark.capability("G4-16")
def test_training_meets_no_unseen_class_and_no_entity_of_one(data):
    split, questions = data.split, data.questions
    assert len(split.unseen) == 2
    assert len(split.seen) == 4
    unseen = set(split.unseen)
    for one in (*questions.train, *questions.valid):
        assert not unseen & {one.answer, *one.choices}
    members = {data.markg.entity_ids[entity] for entity, name in data.class_of.items() if name in unseen}
    assert not members & {one.key.partition("/")[0] for one in (*questions.train, *questions.valid)}
    assert {one.key.partition("/")[0] for one in questions.test if one.answer in unseen} == members
    assert len(members) == 2 * MEMBERS  # Both is of two classes, so of none
    # and the language model reads neither their texts nor those of any other test entity
    rows = list(language_rows(data))
    assert not unseen & {answer for _, kind, _, answer in rows if kind == "class"}
    hidden = {data.markg.names[entity] for entity in (*split.test_seen, *split.test_unseen)}
    assert not any(name in cell for *_, prompt, answer in rows for cell in (prompt, answer) for name in hidden)


@pytest.mark.capability("G4-16")
def test_each_test_entity_is_asked_among_its_kind_and_among_all(data):
    by_group = {group: [one for one in data.questions.test if group_of(one.key) == group] for group in GROUPS}
    assert len(by_group["seen"]) == len(by_group["seen_of_all"]) == len(data.split.test_seen)
    assert len(by_group["unseen"]) == len(by_group["unseen_of_all"]) == len(data.split.test_unseen)
    for group, choices in {"seen": data.split.seen, "unseen": data.split.unseen}.items():
        assert {one.choices for one in by_group[group]} == {choices}
        assert {one.choices for one in by_group[f"{group}_of_all"]} == {(*data.split.seen, *data.split.unseen)}


def test_a_subgraph_holds_every_fact_between_its_nodes_but_those_that_are_asked_for(data):
    markg = data.markg
    for one in (*data.questions.train, *data.questions.test):
        subgraph = one.subgraph
        nodes = [markg.index_of[key] for key in subgraph.keys]
        place = {node: at for at, node in enumerate(nodes)}
        expected = {
            (place[h], r, place[t])
            for h, r, t in markg.triples.tolist()
            if h in place and t in place and markg.relation_names[r] != "instance of"
        }
        assert set(zip(subgraph.src_E, subgraph.relation_E, subgraph.dst_E, strict=True)) == expected
        assert not set(subgraph.keys) & {f"Q{c}" for c in range(6)}  # classes are no neighbours
        assert subgraph.keys[0] == one.key.partition("/")[0]
        assert subgraph.num_seeds == 1


def test_classes_are_neighbours_where_that_is_wanted(folder, cache):
    shown = read_classes_data(tiny(**{"data.class_nodes": "shown"}), folder, cache)
    assert any("Q0" in one.subgraph.keys for one in (*shown.questions.train, *shown.questions.test))


def test_a_placebo_has_its_own_text_and_the_surroundings_of_another(data, folder, cache):
    placebo = read_classes_data(tiny(**{"data.exchanged": True}), folder, cache)
    own = {one.key: one for one in data.questions.test}
    shapes = {one.key: (one.subgraph.keys[1:], one.subgraph.src_E.tolist()) for one in data.questions.test}
    kept = 0
    for one in placebo.questions.test:
        assert (one.text, one.answer) == (own[one.key].text, own[one.key].answer)
        assert one.subgraph.keys[0] == one.key.partition("/")[0]
        assert one.subgraph.labels[0] == own[one.key].subgraph.labels[0]
        found = (one.subgraph.keys[1:], one.subgraph.src_E.tolist())
        assert found in [shape for key, shape in shapes.items() if group_of(key) == group_of(one.key)]
        kept += found == shapes[one.key]
    assert kept == 0


@pytest.mark.capability("G4-16")
def test_the_prompt_names_neighbours_by_hop(folder, cache):
    recipe = tiny(**{"data.in_words": True, "data.max_second": 2, "answering": "likelihood"})
    data = read_classes_data(recipe, folder, cache)
    asked = {one.key.partition("/")[0]: one.text for one in (*data.questions.train, *data.questions.test)}
    # Q13 stands in the chain of the lakes (Q10-Q15), beside Q12 and Q14, and is made of water, which has most facts;
    # two hops away are Both (by Q12), Q11 and Q15 (by the chain and by water), Q10 and the rivers (by water)
    assert asked["Q13"] == (
        "1-hop neighbours: Thing14; Thing12; water\n2-hop neighbours: Thing15; Thing11\nThing13: water number 3\nClass:"
    )
    for one in data.questions.test:
        words = data.neighbours.in_words(data.neighbours.around(data.markg.index_of[one.key.partition("/")[0]]))
        hops = dict(zip(one.subgraph.labels, one.subgraph.hop_N.tolist(), strict=True))
        told = {
            int(line[0]): line.partition(": ")[2].split("; ")
            for line in words.splitlines()
            if "-hop neighbours" in line
        }
        by_name = {label.partition(":")[0]: hop for label, hop in hops.items()}
        assert all(by_name[name] == hop for hop, names in told.items() for name in names)


def test_it_is_told_how_often_a_text_or_a_neighbour_says_the_class(data):
    told = data.questions.told["class_is_said"]
    total = {column: sum(part[column] for part in told.values()) for column in next(iter(told.values()))}
    assert total["entities"] == 6 * MEMBERS
    assert total["own_description"] == total["other_relation"] == 6  # every first member, in capitals
    assert total["own_name"] == total["neighbour_names"] == 0
    assert total["neighbour_descriptions"] > 6
    assert len(data.said) == 6
    assert data.questions.told["left_out"]["entities_with_several_classes"] == 1


def test_the_largest_classes_are_kept_and_what_does_not_fit_is_refused(folder, cache):
    few = read_classes_data(tiny(**{"data.num_classes": 4}), folder, cache)
    assert {*few.split.seen, *few.split.unseen} == {"lake", "river", "poem", "opera"}
    with pytest.raises(ConfigError, match=r"no relation is called 'instance'.*Did you mean 'instance of'"):
        read_classes_data(tiny(**{"data.relation": "instance"}), folder, cache)


# --- answers by vectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "_text", "_gnn"])
def test_before_training_the_answer_is_the_nearest_class_name(data, name):
    recipe = open_class_recipe(f"graph4mm/classes{name}", {"model.width": 16})
    learner = learner_of(data, recipe)
    given = [answer.given for answer in learner.answer(data.questions.test)]
    assert given == answers_without_model(data, data.questions.test)[COSINE]


def test_the_loss_is_that_of_a_softmax_over_the_seen_names(data):
    learner = learner_of(data, tiny())
    seen = data.split.seen
    rows = np.array([0, 3, 5])
    names_KD = data.class_vectors(seen).astype(np.float64)
    names_KD /= np.linalg.norm(names_KD, axis=1, keepdims=True)
    expected = []
    for row in rows:
        one = data.questions.train[row]
        text = data.vector_of[one.text].astype(np.float64)
        logit = names_KD @ (text / np.linalg.norm(text)) / 0.05
        expected.append(np.log(np.exp(logit).sum()) - logit[seen.index(one.answer)])
    parts = learner.loss(rows, np.random.default_rng(0))
    assert float(parts.loss.detach()) == pytest.approx(np.mean(expected), rel=1e-4)
    assert parts.weight == 3


@pytest.mark.parametrize("variant", ["", "_text", "_no_structure", "_hop_aware", "_gnn"])
def test_all_that_is_trained_gets_a_gradient_and_the_language_model_none(data, variant):
    learner = learner_of(data, open_class_recipe(f"graph4mm/classes{variant}", {"model.width": 16}))
    train_steps(learner, 2)  # the maps begin as 0: what lies before them moves from the second step on
    lacking = [name for name, one in learner.model.named_parameters() if one.requires_grad and one.grad is None]
    assert all(name.startswith("reasoner.image_") for name in lacking)  # there are no pictures
    assert not any(parameter.requires_grad for parameter in learner.model.reasoner.llm.parameters())


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(data):
    learner = learner_of(data, tiny())
    train_steps(learner, 3)
    together = learner.answer(data.questions.test)
    alone = [learner.answer([one])[0] for one in data.questions.test[:10]]
    assert [one.given for one in alone] == [one.given for one in together[:10]]


@pytest.mark.capability("G4-17")
def test_what_only_neighbours_tell_is_learnt_with_the_graph_and_not_without(cache, tmp_path):
    recipe = tiny(**{"data.own": "name", "data.num_unseen": 1, "data.test_share": 0.34})
    data = read_classes_data(recipe, write_markg(tmp_path, members=14, shuffled=True), cache)
    asked = [one for one in data.questions.test if group_of(one.key) == "seen"]
    right = {}
    for reads in ("graph", "nothing"):
        learner = learner_of(data, replace_model(recipe, reads=reads))
        train_steps(learner, 60)
        right[reads] = np.mean([KIND[one.given] == KIND[one.right] for one in learner.answer(asked)])
    assert right["graph"] > right["nothing"] + 0.3


def replace_model(recipe, **changes):
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})


# --- scores ----------------------------------------------------------------------------------------------------------


def test_macro_accuracy_counts_classes_alike():
    right = np.array([1.0, 1, 1, 1, 0, 0, 1])
    score = score_classes(right, ["a"] * 4 + ["b"] * 2 + ["c"], chance=0.25, draws=200)
    assert score.by_class.value == score.by_entity.value == pytest.approx(5 / 7)
    assert score.macro.value == pytest.approx((1 + 0 + 1) / 3)
    assert (score.num_entities, score.num_classes) == (7, 3)
    assert score.by_class.high - score.by_class.low > score.by_entity.high - score.by_entity.low


def test_neighbours_answer_for_seen_classes_and_can_say_no_unseen_one(data):
    said = answers_without_model(data, data.questions.test)
    train = set(data.split.train)
    for one, given, commonest in zip(data.questions.test, said[NEIGHBOURS], said[COMMONEST], strict=True):
        if group_of(one.key) != "seen":
            assert given is None
            assert (commonest is None) == (group_of(one.key) == "unseen")
            continue
        near = data.neighbours.near(data.markg.index_of[one.key.partition("/")[0]]) & train
        assert given in ({data.class_of[other] for other in near} or {commonest})


def test_measured_groups_stand_beside_controls_and_where_the_text_does_not_say_it(data):
    answers = learner_of(data, tiny()).answer(data.questions.test)
    found = measure_classes(data, "ours", answers, draws=20, random_seed=0)
    groups = found.numbers["groups"]
    assert set(groups) == set(GROUPS)
    assert set(groups["seen"]["controls"]) == {COSINE, COMMONEST, NEIGHBOURS}
    assert set(groups["unseen"]["controls"]) == {COSINE}
    # nothing is learnt: ours is the control
    assert groups["seen"]["differences"][f"ours − {COSINE}"]["by_class"]["value"] == 0
    unseen = [one for one in answers if group_of(one.key) == "unseen"]
    assert groups["unseen"]["by_class"]["value"] == pytest.approx(np.mean([one.is_right for one in unseen]))
    hard = [one for one in unseen if one.key.partition("/")[0] not in data.said]
    assert groups["unseen"]["not_said"]["ours"]["num_entities"] == len(hard) == len(unseen) - 2
    seen, other = (groups[group]["macro"]["value"] for group in ("seen_of_all", "unseen_of_all"))
    assert found.numbers["harmonic_mean"]["ours"] == pytest.approx(2 * seen * other / (seen + other))


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(folder, cache, tmp_path_factory):
    where = tmp_path_factory.mktemp("runs") / "tiny"
    return where, train_classes("graph4mm/classes_tiny", where, data_folder=folder, cache_folder=cache)


def test_a_run_leaves_its_folder_and_is_asked_again(run, folder, cache):
    where, metrics = run
    assert {"report.html", "answers-test.jsonl", "metrics.json", "model.safetensors"} <= {
        p.name for p in where.iterdir()
    }
    again = evaluate_classes(where, cache_folder=cache)
    assert again["groups"] == metrics["groups"]
    valid = evaluate_classes(where, split="valid", cache_folder=cache)
    assert set(valid["groups"]) == {"seen"}
    assert train_classes("graph4mm/classes_tiny", where, data_folder=folder, cache_folder=cache, resume=True) == metrics
    with pytest.raises(TrainingError, match="holds a run already"):
        train_classes("graph4mm/classes_tiny", where, data_folder=folder, cache_folder=cache)
    assert NOT_SAID in (where / "report.html").read_text()


def test_a_model_of_other_questions_is_refused(run, folder, cache, tmp_path):
    where, _ = run
    moved = write_markg(tmp_path / "other")
    path = moved / "entity2textlong.txt"
    path.write_text(path.read_text().replace("number 3", "number three"))
    with pytest.raises(TrainingError, match="other questions or vectors"):
        evaluate_classes(where, data_folder=moved, cache_folder=cache)
    best = where / "model.safetensors"
    held = best.read_bytes()
    saved = read_checkpoint(best)
    write_checkpoint(best, saved.tensors, {**saved.document, "learner": {"frozen": {}, "embedder": "another"}})
    with pytest.raises(TrainingError, match="another language model or embedder"):
        evaluate_classes(where, cache_folder=cache)
    best.write_bytes(held)


def test_runs_are_compared_entity_by_entity(run, folder, cache, tmp_path):
    where, metrics = run
    recipe = replace_model(tiny(), reads="nothing")
    seeds = train_classes(recipe, tmp_path / "text", data_folder=folder, cache_folder=cache, seeds=[0, 1])
    apart = compare_class_runs(where, tmp_path / "text" / "seed-1", draws=20)
    other = json.loads((tmp_path / "text" / "seed-1" / "metrics.json").read_text())
    for group in GROUPS:
        difference = metrics["groups"][group]["by_class"]["value"] - other["groups"][group]["by_class"]["value"]
        assert apart[group]["by_class"]["value"] == apart[group]["by_entity"]["value"] == pytest.approx(difference)
    first = json.loads((tmp_path / "text" / "seed-0" / "metrics.json").read_text())
    mean = (first["groups"]["unseen"]["macro"]["value"] + other["groups"]["unseen"]["macro"]["value"]) / 2
    assert seeds["over_seeds"]["unseen.macro"]["mean"] == pytest.approx(mean)
    with pytest.raises(TrainingError, match="no answers here"):
        compare_class_runs(where, tmp_path)


def test_a_language_model_of_its_own_chooses_by_likelihood(folder, cache, tmp_path):
    recipe = tiny(**{"answering": "likelihood", "llm.model": "own", "llm.trains": True, "epochs": 1})
    metrics = train_classes(recipe, tmp_path / "run", data_folder=folder, cache_folder=cache)
    assert set(metrics["groups"]) == set(GROUPS)
    answers = read_answers(tmp_path / "run")
    assert all(answer.given in CLASSES for answer in answers.values())
    assert (tmp_path / "run" / "language_model" / "run" / "model").is_dir()
    again = evaluate_classes(tmp_path / "run", cache_folder=cache)
    assert again["groups"] == metrics["groups"]


def test_the_recipe_of_the_paper_sees_six_classes_and_not_five():
    paper = open_class_recipe("graph4mm/classes_paper")
    assert (paper.data.num_classes, paper.data.num_unseen) == (11, 5)
    assert (paper.llm.model, paper.answering, paper.data.in_words) == ("facebook/opt-125m", "likelihood", True)
    assert (paper.learning_rate, paper.betas, paper.epochs) == (1e-4, (0.9, 0.95), 50)
    assert paper.batch_size // paper.accumulate == 2
    assert open_class_recipe("graph4mm/classes_gnn").model.graph_as_modality
    assert all(name.startswith("graph4mm/classes") for name in list_class_recipes())
    with pytest.raises(ConfigError, match="Did you mean 'graph4mm/classes_text'"):
        open_class_recipe("graph4mm/classes_texts")


@pytest.mark.shared
def test_markg_has_enough_classes(shared_data):
    markg = read_markg(shared_data / "tasks" / "mars")
    relation = markg.relation_names.index("instance of")
    assert len(np.unique(markg.triples[markg.triples[:, 1] == relation, 2])) == 748
