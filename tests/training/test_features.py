"""Vectors of texts and pictures as features of entities: what is added, what is masked, what a run remembers."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings.hashing import HashingEmbedder
from mmkg.embeddings.vectors import vectors_schema
from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.metrics import summarise_ranks
from mmkg.reasoners.feature_map import FeatureMap
from mmkg.shards import write_table
from mmkg.tables import IMAGES
from mmkg.training.checkpoint import read_checkpoint, write_checkpoint
from mmkg.training.data import LinkPredictionData, read_link_prediction_data
from mmkg.training.features import read_features
from mmkg.training.link_prediction import LinkPredictionLearner, loop_settings
from mmkg.training.loop import TrainingLoop
from mmkg.training.models import make_model
from mmkg.training.recipes import open_recipe
from mmkg.training.run import evaluate_run, train

from .made_graphs import ring_data, write_tables

CPU = torch.device("cpu")
WIDTH = 6
IDENTITY = replace(
    HashingEmbedder(EmbeddingsConfig(kind="hashing")).identity, dimension=WIDTH, dtype="float32", unit=False
)
PICTURES = {0: "pa", 3: "pb", 39: "pc"}  # an entity and its one picture


def sha(name):
    return name.rjust(64, "0")


def write_made_vectors(folder, *, texts=None, pictures=None, identity=IDENTITY):
    """The table `vectors`: texts by entity_index, pictures by name."""
    rows = [{"entity_index": e, "sha256": None, "modality": "text", "vector": v} for e, v in sorted(texts.items())]
    rows += [
        {"entity_index": None, "sha256": sha(name), "modality": "image", "vector": v}
        for name, v in sorted((pictures or {}).items())
    ]
    (folder / "vectors").mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([{**row, "content": "made"} for row in rows], schema=vectors_schema(identity))
    pq.write_table(table, folder / "vectors" / "part-00000.parquet")


def write_images(folder, rows):
    """The table `images` from (entity_index, picture's name or None, status)."""
    made = [
        {"entity_index": entity, "url": "made:", "origin": "made", "status": status, "reason": "", "sha256": name}
        for entity, name, status in ((e, None if name is None else sha(name), s) for e, name, s in rows)
    ]
    write_table(folder, "images", [pa.Table.from_pylist(made, schema=IMAGES)])


def some_vectors(names, seed=0):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(len(names), WIDTH)).astype(np.float32)
    return dict(zip(names, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).tolist(), strict=True))


@pytest.fixture
def tables(tmp_path):
    """The ring with a text for every second entity and a picture for three."""
    folder = write_tables(tmp_path / "tables", ring_data())
    write_made_vectors(folder, texts=some_vectors(range(0, 40, 2)), pictures=some_vectors(PICTURES.values(), seed=1))
    write_images(folder, [(entity, name, "ok") for entity, name in PICTURES.items()])
    return folder


def recipe_of(features, name="complex", **overrides):
    settings = {"device": "cpu", "threads": 1, "epochs": 4, "valid_every": 2, "features": features, **overrides}
    return open_recipe(f"link_prediction/{name}_tiny", settings)


def loop_of(recipe, tables):
    data = read_link_prediction_data(tables, features=recipe.features)
    torch.manual_seed(recipe.random_seed)
    learner = LinkPredictionLearner(recipe, data, make_model(recipe, data), device=CPU)
    return TrainingLoop(learner, loop_settings(recipe), device=CPU)


def test_a_mapped_vector_is_added_by_hand_and_an_entity_without_one_has_its_free_vector_alone():
    feature_map = FeatureMap(torch.tensor([2, 0]), torch.tensor([[1.0, 0, 0], [0, 2, 0]]), width=2)
    free = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    with torch.no_grad():
        assert torch.equal(feature_map(free), free)
        feature_map.weight_FD[:] = torch.tensor([[1.0, 2], [3, 4], [9, 9]])
        expected = torch.tensor([[0.1 + 6, 0.2 + 8], [0.3, 0.4], [0.5 + 1, 0.6 + 2]])
        torch.testing.assert_close(feature_map(free), expected)
        assert torch.equal(feature_map(free)[1], free[1])


def test_rows_that_do_not_fit_their_vectors_are_refused():
    with pytest.raises(ConfigError, match=r"\(3,\).*\(2, 4\)"):
        FeatureMap(torch.arange(3), torch.zeros(2, 4), width=2)


@pytest.mark.parametrize("name", ["complex", "conve", "rgat_complex"])
def test_training_begins_at_the_model_without_and_the_gradient_reaches_every_map(tables, name):
    rows = np.arange(48)
    plain, featured = (loop_of(recipe_of(kind, name), tables) for kind in ("none", "text_image"))
    losses = []
    for loop in (plain, featured):
        torch.manual_seed(0)  # of ConvE's dropout
        losses.append(loop.learner.loss(rows, np.random.default_rng(0)).loss)
    assert torch.equal(*losses)
    losses[1].backward()
    assert set(featured.model.feature_maps) == {"text", "image"}
    for parameter_name, parameter in featured.model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_fixed_vectors_are_not_saved_and_not_trained(tables):
    loop = loop_of(recipe_of("text_image"), tables)
    assert {name for name in loop.tensors() if "feature" in name} == {
        "model.feature_maps.text.weight_FD", "model.feature_maps.image.weight_FD",
    }  # fmt: skip
    before = loop.model.feature_maps["text"].vector_MF.clone()
    for _ in loop.run():
        pass
    assert torch.equal(loop.model.feature_maps["text"].vector_MF, before)
    assert loop.model.feature_maps["text"].weight_FD.abs().sum() > 0


def test_without_features_nothing_changes_whether_the_build_has_vectors_or_not(tmp_path, tables):
    """The digest is the one of runs from before there were features, so those can still be evaluated."""
    bare = write_tables(tmp_path / "bare", ring_data())
    loops = [loop_of(recipe_of("none"), folder) for folder in (tables, bare)]
    for loop in loops:
        assert loop.learner.digest == "f14479a16c1b56be"
        assert set(loop.model.state_dict()) == {"entity_ND", "relation_RD"}
        assert loop.model.states() is loop.model.entity_ND
        for _ in loop.run():
            pass
    one, other = (loop.tensors() for loop in loops)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_rows_are_those_of_the_entities_that_are_left(tmp_path):
    """Entity 1 of the build is in no triple: number 1 of the data is entity 2 of the build."""
    train_triples = np.array([[0, 0, 2], [2, 0, 3]])
    empty = np.empty((0, 3), dtype=np.int64)
    data = LinkPredictionData(num_entities=4, num_relations=1, train=train_triples, valid=empty, test=empty)
    folder = write_tables(tmp_path / "tables", data)
    vectors = some_vectors([1, 2])
    write_made_vectors(folder, texts=vectors)
    found = read_link_prediction_data(folder, features="text").features.known["text"]
    assert found.row.tolist() == [1]
    np.testing.assert_array_equal(found.vector, np.array([vectors[2]], np.float32))


def test_an_entitys_picture_vector_is_the_mean_of_those_it_keeps_by_hand(tmp_path):
    unit = np.eye(WIDTH).tolist()
    write_made_vectors(tmp_path, texts={5: unit[0]}, pictures={"a": unit[0], "b": unit[1], "c": unit[2], "e": unit[3]})
    rows = [
        *[(5, "b", "ok"), (5, "a", "ok"), (5, "a", "ok")],  # the same picture from two addresses counts once
        *[(5, "c", "too_small"), (5, "d", "ok"), (5, None, "http_404")],  # rejected, without vector, never came
        *[(6, "d", "ok"), (7, "c", "ok"), (8, "e", "ok")],  # without any vector; kept here; not asked for
    ]
    write_images(tmp_path, rows)
    found = read_features(tmp_path, np.array([7, 6, 5]), "text_image").known["image"]
    assert found.row.tolist() == [0, 2]
    np.testing.assert_allclose(found.vector, [unit[2], [0.5, 0.5, 0, 0, 0, 0]])


def test_what_is_missing_is_named_with_the_next_step(tmp_path, tables):
    bare = write_tables(tmp_path / "bare", ring_data())
    with pytest.raises(TrainingError, match=r"features = 'text'.*no vectors here. Set `kind` in .embeddings"):
        train(recipe_of("text"), bare, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    write_made_vectors(bare, texts={0: [0.0] * WIDTH})
    with pytest.raises(TrainingError, match=r"features = 'text_image'.*images"):
        read_link_prediction_data(bare, features="text_image")
    write_images(bare, [(0, "pa", "ok")])
    with pytest.raises(TrainingError, match=r"no image of the 40 entities .* features=text"):
        read_link_prediction_data(bare, features="text_image")
    write_made_vectors(bare, texts={}, pictures={"pa": [1.0] * WIDTH})
    with pytest.raises(TrainingError, match="no text of the 40 entities"):
        read_link_prediction_data(bare, features="text")
    with pytest.raises(ConfigError, match="features = 'text', the data were read with 'none'"):
        make_model(recipe_of("text"), read_link_prediction_data(tables))


def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path, tables):
    recipe = recipe_of("text_image", epochs=3, checkpoint_minutes=1e-9, dropout=0.1)
    straight = loop_of(recipe, tables)
    for _ in straight.run():
        pass
    cut = loop_of(recipe, tables)
    for number, _ in enumerate(cut.run(), start=1):
        if number == 4:
            write_checkpoint(tmp_path / "cut", cut.tensors(), cut.document())
            break
    going_on = loop_of(recipe, tables)
    torch.rand(13)  # whatever happened in between
    going_on.load(read_checkpoint(tmp_path / "cut"), tmp_path / "cut")
    for _ in going_on.run():
        pass
    one, other = straight.tensors(), going_on.tensors()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_tells_its_embedder_and_refuses_other_vectors(tmp_path, tables):
    recipe, run = recipe_of("text_image", epochs=2), tmp_path / "run"
    trained = train(recipe, tables, run)
    told = json.loads((run / "environment.json").read_text())["features"]
    assert told["embedder_digest"] == IDENTITY.digest
    assert told["entities_with_vector"] == {"text": 20, "image": 3}
    assert evaluate_run(run)["mrr"] == trained["mrr"]
    (run / "metrics.json").unlink()  # as if the run had been killed before its end

    def refuse():
        with pytest.raises(TrainingError, match="not those this run was trained on"):
            evaluate_run(run)
        with pytest.raises(TrainingError, match="tables have changed"):
            train(recipe, tables, run, resume=True)

    same = {"texts": some_vectors(range(0, 40, 2)), "pictures": some_vectors(PICTURES.values(), seed=1)}
    write_made_vectors(tables, **same, identity=replace(IDENTITY, model="another of the same width"))
    refuse()
    write_made_vectors(tables, **{**same, "pictures": some_vectors(PICTURES.values(), seed=2)})
    refuse()
    write_made_vectors(tables, **same)
    assert train(recipe, tables, run, resume=True)["mrr"] == trained["mrr"]


@pytest.mark.parametrize(("features", "found"), [("none", False), ("text", True)])
def test_an_entity_that_no_train_triple_names_is_placed_by_its_text(tmp_path, features, found):
    """Forty things of four classes; text tells the class. Eight of them are in test triples alone."""
    rows = np.array([[4 + n, 0, n % 4] for n in range(40)])
    empty = np.empty((0, 3), dtype=np.int64)
    data = LinkPredictionData(num_entities=44, num_relations=1, train=rows[:32], valid=empty, test=rows[32:])
    folder = write_tables(tmp_path / "tables", data)
    of_class = some_vectors(range(4))
    write_made_vectors(folder, texts={4 + n: of_class[n % 4] for n in range(40)})
    loop = loop_of(recipe_of(features, epochs=60, batch_size=64, valid_every=60), folder)
    for _ in loop.run():
        pass
    # of the tails "which class has this thing": by chance the right one of four
    tails = summarise_ranks(loop.learner.rank(data.test), draws=0).by_direction["tail"]["mrr"]
    assert (tails > 0.95) if found else (tails < 0.75)
