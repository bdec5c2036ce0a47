"""The loop on link prediction: what the encoder may see, what is saved, when it stops, and that it learns."""

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.metrics import summarise_ranks
from mmkg.subgraphs.batch import MessageGraph
from mmkg.training.checkpoint import read_checkpoint, write_checkpoint
from mmkg.training.hardware import choose_device, choose_products
from mmkg.training.link_prediction import LinkPredictionLearner, loop_settings
from mmkg.training.loop import TrainingLoop
from mmkg.training.models import make_model
from mmkg.training.recipes import list_recipes, open_recipe

from .made_graphs import ring_data

CPU = torch.device("cpu")
TINY = [name for name in list_recipes() if name.endswith("_tiny")]


def loop_of(name, data=None, **overrides):
    recipe = open_recipe(name, {"device": "cpu", **overrides})
    data = ring_data() if data is None else data
    torch.manual_seed(recipe.random_seed)
    learner = LinkPredictionLearner(recipe, data, make_model(recipe, data), device=CPU)
    return TrainingLoop(learner, loop_settings(recipe), device=CPU)


def loss_of(loop, rows):
    return loop.learner.loss(rows, np.random.default_rng(0)).loss


def finish(loop):
    for _ in loop.run():
        pass
    return loop


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_recipe_learns_a_made_graph(name):
    """Chance ranks the true one of 40 entities uniformly: its MRR is the mean of 1/rank, 0.107."""
    loop = finish(loop_of(name))
    loop.model.load_state_dict(loop.best)
    mrr = summarise_ranks(loop.learner.rank(loop.learner.data.test)).both["mrr"]
    chance = (1 / np.arange(1, 41)).mean()
    assert mrr.low > 1.5 * chance, mrr


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_gets_a_gradient(name):
    loop = loop_of(name)
    loss_of(loop, np.arange(64)).backward()
    for parameter_name, parameter in loop.model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_edges_of_a_batch_are_hidden_both_ways_by_hand():
    data = ring_data()
    loop = loop_of("link_prediction/rgat_complex_tiny", data)
    num_train, n = len(data.train), data.num_entities
    keep = loop.learner.keep_edges(np.array([0, 5]))
    hidden = torch.nonzero(~keep)[:, 0].tolist()
    assert len(keep) == 2 * num_train + n
    assert hidden == [0, 5, num_train, num_train + 5]
    graph = loop.model.graph
    head, relation, tail = data.train[5].tolist()
    ends = [(int(graph.src_E[e]), int(graph.relation_E[e]), int(graph.dst_E[e])) for e in (5, num_train + 5)]
    assert ends == [(head, relation, tail), (tail, relation + data.num_relations, head)]


def test_a_batch_is_encoded_as_if_its_triples_were_not_in_the_graph():
    data = ring_data()
    loop = loop_of("link_prediction/rgat_distmult_tiny", data)
    rows = np.array([3, 17, 40])
    triple = np.unique(loop.learner.queries.batch(rows)[2])
    seen = []
    states = loop.model.states
    loop.model.states = lambda keep: seen.append(states(keep)) or seen[-1]
    loss_of(loop, rows)
    left = np.setdiff1d(np.arange(len(data.train)), triple)
    head, relation, tail = torch.from_numpy(data.train[left].T.copy())
    without = MessageGraph(
        src_E=head, relation_E=relation, dst_E=tail, num_nodes=data.num_entities, num_relations=data.num_relations
    )
    without = without.with_inverse_relations().with_self_relation()
    expected = loop.model.encoder(without, loop.model.entity_ND, loop.model.message_RD, None)
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(seen[0], states(None), atol=1e-4)


def test_edges_stay_when_the_recipe_says_so_and_a_decoder_alone_has_none():
    assert (
        loop_of("link_prediction/rgat_complex_tiny", hide_batch_edges=False).learner.keep_edges(np.array([0])) is None
    )
    assert loop_of("link_prediction/complex_tiny").learner.keep_edges(np.array([0])) is None


def test_n3_enters_the_loss_by_hand():
    plain, weighted = (loop_of("link_prediction/distmult_tiny", n3=n3) for n3 in (0.0, 2.0))
    rows = np.array([7])
    (head, relation), (_, tail, _) = plain.learner.queries.query[7], plain.learner.queries.batch(rows)
    entity, relations = plain.model.entity_ND, plain.model.relation_RD
    cubes = [entity[head].abs() ** 3, relations[relation].abs() ** 3, *[e.abs() ** 3 / len(tail) for e in entity[tail]]]
    with torch.no_grad():
        expected = 2 * torch.cat([cube.reshape(-1) for cube in cubes]).sum()
        difference = loss_of(weighted, rows) - loss_of(plain, rows)
    assert float(difference) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("weight", ["uniform", "triples"])
def test_query_weights_by_hand(weight):
    """The loss of a batch is the mean of its queries' own losses, weighted by one or by their number of tails."""
    data = ring_data()
    extra = np.array([[0, 0, t] for t in (5, 6, 7)])  # one query with several tails
    data = type(data)(
        num_entities=data.num_entities,
        num_relations=data.num_relations,
        train=np.unique(np.concatenate([data.train, extra]), axis=0),
        valid=data.valid,
        test=data.test,
    )
    loop = loop_of("link_prediction/complex_tiny", data, query_weight=weight)
    several = int(np.flatnonzero((loop.learner.queries.query == [0, 0]).all(axis=1))[0])
    rows = np.array([several, several + 1])
    count = np.bincount(loop.learner.queries.batch(rows)[0]).astype(float)
    alone = np.array([loss_of(loop, rows[i : i + 1]).item() for i in range(2)])
    expected = np.average(alone, weights=count if weight == "triples" else None)
    assert count[0] >= 3
    assert loss_of(loop, rows).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["link_prediction/conve_tiny", "link_prediction/rgat_complex_tiny"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(name):
    first, again, other = (finish(loop_of(name, epochs=3, random_seed=seed)).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("saves", [1, 4, 9])
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("link_prediction/conve_tiny", {}),
        ("link_prediction/rgat_complex_tiny", {"attention_dropout": 0.2, "dropout": 0.1, "query_weight": "triples"}),
    ],
)
def test_going_on_from_any_step_gives_the_same_bits(tmp_path, name, overrides, saves):
    """With a checkpoint after each step; the third epoch is reached, the run is cut after ``saves`` of them."""
    settings = {"epochs": 4, "batch_size": 64, "valid_every": 2, "checkpoint_minutes": 1e-9, **overrides}
    straight = finish(loop_of(name, **settings))
    cut, path = loop_of(name, **settings), tmp_path / "checkpoint.safetensors"
    for number, _ in enumerate(cut.run(), start=1):
        if number == saves:
            write_checkpoint(path, cut.tensors(), cut.document())
            break
    torch.rand(13)  # whatever happened in between
    going_on = loop_of(name, **settings)
    going_on.load(read_checkpoint(path), path)
    finish(going_on)
    for key, value in straight.model.state_dict().items():
        assert torch.equal(value, going_on.model.state_dict()[key]), key
    for key, value in straight.best.items():
        assert torch.equal(value, going_on.best[key]), key
    timeless = [[{k: v for k, v in row.items() if "second" not in k} for row in loop.position.history]
                for loop in (straight, going_on)]  # fmt: skip
    assert timeless[0] == timeless[1]


def test_the_learning_rate_falls_to_nothing():
    loop = finish(loop_of("link_prediction/complex_tiny", epochs=5))
    rates = [row["learning_rate"] for row in loop.position.history]
    assert rates == pytest.approx([0.008, 0.006, 0.004, 0.002, 0.0])


def test_minutes_end_a_run_and_take_the_learning_rate_with_them():
    loop = finish(loop_of("link_prediction/complex_tiny", epochs=1_000_000, max_minutes=0.01, valid_every=1_000_000))
    last = loop.position.history[-1]
    assert "max_minutes" in loop.position.stopped
    assert 0.6 <= last["elapsed_seconds"] < 5
    assert last["learning_rate"] == 0
    assert "valid_mrr" in last


def test_patience_ends_a_run_and_the_best_model_is_kept():
    data = ring_data()
    loop = finish(loop_of("link_prediction/complex_tiny", data, epochs=500, valid_every=1, patience=3))
    seen = [row["valid_mrr"] for row in loop.position.history]
    assert "no better valid MRR" in loop.position.stopped
    assert len(seen) < 500
    assert seen[-4] == max(seen)
    assert loop.position.best_epoch == len(seen) - 3
    loop.model.load_state_dict(loop.best)
    assert summarise_ranks(loop.learner.rank(data.valid), draws=0).both["mrr"].value == pytest.approx(max(seen))


def test_without_valid_triples_the_last_model_is_the_best():
    loop = finish(loop_of("link_prediction/complex_tiny", ring_data(valid=0), epochs=2, valid_every=1))
    assert all(torch.equal(value, loop.best[name]) for name, value in loop.model.state_dict().items())


def test_a_run_that_diverges_says_so_and_what_to_try():
    with pytest.raises(TrainingError, match=r"diverged.*learning_rate"):
        finish(loop_of("link_prediction/complex_tiny", learning_rate=1e30))


def test_clipping_bounds_the_step():
    loop = loop_of("link_prediction/complex_tiny", gradient_clip=1e-3, initial_scale=1.0)
    loop._step(np.arange(32))
    norm = torch.stack([p.grad.norm() for p in loop.model.parameters()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_batches_hold_every_query_once_and_no_more_than_they_may():
    loop = loop_of("link_prediction/complex_tiny", batch_size=7)
    batches = list(loop._batches())
    assert len(batches) == loop.batches_per_epoch
    assert max(map(len, batches)) <= 7
    assert min(map(len, batches)) >= 6
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(loop.learner.queries)))


def test_bfloat16_products_learn_as_well():
    loop = finish(loop_of("link_prediction/complex_tiny", products="bfloat16"))
    assert loop.position.best_score > 0.2


def test_auto_products_are_one_of_the_two_and_are_remembered(tmp_path):
    recipe = open_recipe("link_prediction/complex_tiny", {"products": "auto"})
    assert choose_products(recipe, 40, CPU) in (torch.float32, torch.bfloat16)
    loop = loop_of("link_prediction/complex_tiny", products="bfloat16")
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, loop.tensors(), loop.document())
    other = loop_of("link_prediction/complex_tiny", products="float32")
    other.load(read_checkpoint(path), path)
    assert other.learner.products == torch.bfloat16


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(ConfigError, match="no GPU"):
        choose_device("cuda")
    with pytest.raises(ConfigError, match="'gpu' is not one"):
        choose_device("gpu")


def test_a_checkpoint_of_another_model_or_other_data_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    loop = loop_of("link_prediction/complex_tiny")
    write_checkpoint(path, loop.tensors(), loop.document())
    with pytest.raises(TrainingError, match=r"another model.*entity_ND.*\(40, 16\).*\(40, 32\)"):
        loop_of("link_prediction/complex_tiny", width=16).load(read_checkpoint(path), path)
    with pytest.raises(TrainingError, match="tables have changed"):
        loop_of("link_prediction/complex_tiny", ring_data(seed=1)).load(read_checkpoint(path), path)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint here"):
        read_checkpoint(tmp_path / "missing.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match="not a checkpoint of mmkg"):
        read_checkpoint(broken)


def test_a_checkpoint_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(path, {"a": torch.ones(2)}, {"n": 1})

    def full(_tensors, partial, **_options):
        partial.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("mmkg.training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(path, {"a": torch.zeros(2)}, {"n": 2})
    assert read_checkpoint(path).document == {"n": 1}
