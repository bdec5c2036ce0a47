"""Contrastive runs: what is read, how it is augmented, a run that can be killed, and a model that open_clip loads."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from mmkg.cli import app
from mmkg.embeddings.atlas_tokenizer import AtlasTokenizer, make_vocabulary
from mmkg.errors import ConfigError, TrainingError
from mmkg.training.checkpoint import read_checkpoint
from mmkg.training.contrastive.augment import augment
from mmkg.training.contrastive.learner import ContrastiveLearner, loop_settings
from mmkg.training.contrastive.model import make_model, normalise, open_exported
from mmkg.training.contrastive.pictures import digest_of_pictures, read_captioned_pictures
from mmkg.training.contrastive.recipe import AugmentationConfig, list_contrastive_recipes, open_contrastive_recipe
from mmkg.training.contrastive.run import evaluate_contrastive_run, train_contrastive
from mmkg.training.loop import TrainingLoop
from mmkg.training.run_folder import read_history

from .made_pictures import COLOURS, SHAPES, write_pictures

TINY = "contrastive/atlas_clip_tiny"


def recipe_of(**overrides):
    return open_contrastive_recipe(
        TINY, {"device": "cpu", "epochs": 4, "valid_every": 2, "batch_size": 32, **overrides}
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def make_loop(pictures, **overrides) -> TrainingLoop:
    recipe, splits = recipe_of(**overrides), read_captioned_pictures(pictures)
    tokenizer = AtlasTokenizer.of(make_vocabulary(splits["train"].texts, recipe.vocabulary_size), recipe.context_length)
    torch.manual_seed(0)
    model = make_model(recipe, len(tokenizer.tokens))
    parts = {"data_digest": "pictures", "device": torch.device("cpu")}
    learner = ContrastiveLearner(recipe, splits["train"], splits["valid"], model, tokenizer, **parts)
    return TrainingLoop(learner, loop_settings(recipe), device=torch.device("cpu"))


# --- recipes and pictures


def test_every_recipe_has_a_tiny_cousin_with_fewer_parameters():
    names = list_contrastive_recipes()
    assert names == ("contrastive/atlas_clip", "contrastive/atlas_clip_tiny")
    sizes = [sum(p.numel() for p in make_model(open_contrastive_recipe(name), 100).parameters()) for name in names]
    assert sizes[1] < sizes[0] / 4


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("contrastive/atlas_klip", {}, "Did you mean 'contrastive/atlas_clip'"),
        (TINY, {"epoch": 3}, "Did you mean 'epochs'"),
        (TINY, ["augmentation.jpeg=2"], "augmentation.jpeg"),
        (TINY, {"image_size_px": 33}, "not a multiple of patch_size_px"),
        (TINY, {"kind_weights": {"shape": 0}}, "kind_weights.shape"),
    ],
)
def test_a_wrong_name_or_setting_is_told_with_what_would_be_right(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        open_contrastive_recipe(name, overrides)


def test_a_caption_is_true_of_all_pictures_with_its_statement(pictures):
    test = read_captioned_pictures(pictures)["test"]
    truth = test.truth.toarray()
    assert truth.shape == (24, 12 + 3 + 4)
    assert truth[:, test.statement_names.index("a disc")].sum() == 8
    assert truth[:, test.statement_names.index("a red disc")].sum() == 2
    assert (truth.sum(axis=1) == 3).all()


def test_without_a_split_column_what_is_shown_is_in_one_split_whatever_is_added(tmp_path):
    folder = write_pictures(tmp_path, split=False)
    before = {split: set(found.shows) for split, found in read_captioned_pictures(folder).items()}
    assert not before["train"] & (before.get("valid", set()) | before.get("test", set()))
    with (folder / "index.tsv").open("a") as index:
        index.write("train-red-disc-0.png\tred disc\tmore of it\n")
    after = {split: set(found.shows) for split, found in read_captioned_pictures(folder).items()}
    assert after == before


def test_a_row_without_a_caption_is_told_with_its_line(tmp_path):
    (tmp_path / "index.tsv").write_text("file\tsplit\tcaption\na.png\ttrain\ta flag\nb.png\ttrain\t\n")
    with pytest.raises(TrainingError, match=r"index.tsv, line 3: expected a file and a caption"):
        read_captioned_pictures(tmp_path)


def test_what_is_no_picture_is_told_by_its_name(tmp_path):
    (tmp_path / "index.tsv").write_text("file\tsplit\tcaption\na.png\ttrain\ta flag\n")
    (tmp_path / "a.png").write_text("<html>")
    with pytest.raises(TrainingError, match=r"a\.png: not a picture"):
        read_captioned_pictures(tmp_path)["train"].pixels(8)
    with pytest.raises(TrainingError, match="no picture of the split 'train'"):
        (tmp_path / "index.tsv").write_text("file\tsplit\tcaption\na.png\ttest\ta flag\n")
        read_captioned_pictures(tmp_path)


def test_another_picture_or_caption_has_another_digest(tmp_path):
    folder = write_pictures(tmp_path, each=1)
    first = digest_of_pictures(folder, read_captioned_pictures(folder))
    (folder / "test-red-disc-0.png").write_bytes((folder / "test-blue-bar-0.png").read_bytes())
    second = digest_of_pictures(folder, read_captioned_pictures(folder))
    assert first != second


# --- augmentation


def batch_of(count=6, size=20) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(3)).to(torch.uint8)


def test_augmentation_depends_on_its_generator_alone():
    config = AugmentationConfig()
    one, same, other = (augment(batch_of(), 16, config, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == (6, 3, 16, 16)
    assert 0 <= one.min() <= one.max() <= 1


def test_untouched_pictures_are_only_resized():
    seen = augment(batch_of(), 16, AugmentationConfig(untouched=1), np.random.default_rng(0))
    plain = functional.interpolate(batch_of().float() / 255, (16, 16), mode="bilinear", antialias=True)
    assert torch.equal(seen, plain)


NOTHING = dict.fromkeys(AugmentationConfig.model_fields, 0.0)


def test_with_all_limits_at_zero_nothing_changes():
    seen = augment(batch_of(size=16), 16, AugmentationConfig(**NOTHING), np.random.default_rng(0))
    torch.testing.assert_close(seen, batch_of(size=16).float() / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in NOTHING if name != "untouched"])
def test_each_setting_changes_pictures_by_itself(name):
    limit = {"rotation_degrees": 20.0, "hue_degrees": 20.0}.get(name, 0.5)
    seen = augment(batch_of(size=16), 16, AugmentationConfig(**{**NOTHING, name: limit}), np.random.default_rng(0))
    assert (seen - batch_of(size=16).float() / 255).abs().max() > 0.05


def test_pictures_are_never_mirrored():
    """The left half is white: however far it is changed within the defaults, the left stays lighter."""
    half = torch.zeros((200, 3, 20, 20), dtype=torch.uint8)
    half[..., :10] = 255
    seen = augment(half, 16, AugmentationConfig(), np.random.default_rng(0))
    assert (seen[:, :, 6:10, 3:6].mean(dim=(1, 2, 3)) > seen[:, :, 6:10, 10:13].mean(dim=(1, 2, 3))).all()


# --- the loop


def test_after_a_backward_pass_no_parameter_lacks_a_gradient(pictures):
    loop = make_loop(pictures)
    loop.learner.loss(np.arange(32), np.random.default_rng(0)).backward()
    lacking = [n for n, p in loop.model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert lacking == []


def test_a_picture_or_text_alone_has_the_vector_it_has_in_a_batch(pictures):
    loop = make_loop(pictures)
    pixels, texts = loop.learner.valid.pixels(32), ["a red disc", "a bar", "something else that is much longer"]
    images, words = loop.learner.encode_images(pixels), loop.learner.encode_texts(texts)
    for place in (0, 5):
        np.testing.assert_allclose(loop.learner.encode_images(pixels[place : place + 1])[0], images[place], atol=1e-5)
    for place, text in enumerate(texts):
        np.testing.assert_allclose(loop.learner.encode_texts([text])[0], words[place], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)


def test_captions_are_drawn_by_kind_first(pictures):
    loop = make_loop(pictures, captions_per_picture=300)
    drawn = [loop.learner.train.kinds[caption] for caption in loop.learner._draw_captions(0, np.random.default_rng(0))]
    assert {kind: drawn.count(kind) > 60 for kind in drawn} == {"whole": True, "shape": True, "colour": True}


def test_a_kind_of_three_times_the_weight_is_drawn_three_times_as_often(pictures):
    loop = make_loop(pictures, captions_per_picture=1000, kind_weights={"shape": 3.0})
    drawn = [loop.learner.train.kinds[caption] for caption in loop.learner._draw_captions(0, np.random.default_rng(0))]
    assert {kind: round(drawn.count(kind) / 100) for kind in drawn} == {"whole": 2, "shape": 6, "colour": 2}


def test_the_temperature_stays_within_its_limit(pictures):
    loop = make_loop(pictures, max_logit_scale=15.0, learning_rate=1.0, epochs=1, warmup=0.0)
    with torch.no_grad():
        loop.model.logit_scale.fill_(5.0)
    next(iter(loop.run()))
    assert loop.model.logit_scale.exp().item() <= 15.0 + 1e-4


# --- runs


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = recipe_of(epochs=30, valid_every=5)
    return folder, train_contrastive(recipe, pictures, folder)


def test_the_tiny_recipe_learns_in_seconds_and_is_far_above_chance(finished):
    _, metrics = finished
    for direction in ("image_to_text", "text_to_image"):
        recall = metrics["splits"]["test"]["captions"]["whole"][direction]["recall_at_1"]
        assert recall["chance"] <= 1 / 6
        assert recall["value"] >= 0.75
        assert recall["low"] <= recall["value"] <= recall["high"]
    assert metrics["splits"]["test"]["captions"]["whole"]["text_to_image"]["num_queries"] == len(COLOURS) * len(SHAPES)


def test_a_run_leaves_everything_that_says_what_it_was(finished):
    folder, metrics = finished
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert set(metrics["splits"]) == {"valid", "test"}
    history = read_history(folder)
    assert [row["epoch"] for row in history] == list(range(1, 31))
    assert history[-1]["loss"] < history[0]["loss"]
    assert "valid_image_to_text_recall_at_5" in history[-1]
    assert json.loads((folder / "environment.json").read_text())["train_pictures"] == 144
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    report = (folder / "report.html").read_text()
    assert "caption → picture" in report
    assert report.count("<img") > 3 * 12
    assert "http" not in report.replace("http-equiv", "")


def test_open_clip_loads_the_exported_model_and_gives_its_vectors(finished, pictures):
    folder, _ = finished
    model, preprocess, tokenizer = open_exported(folder / "model")
    best = read_checkpoint(folder / "checkpoint.safetensors").part("best")
    loop = make_loop(pictures)
    loop.model.load_state_dict(best)
    image = next(iter(loop.learner.valid.open_pictures()))
    with torch.no_grad():
        vector = model.encode_image(preprocess(image)[None], normalize=True)
        words = model.encode_text(tokenizer("a red disc"), normalize=True)
    pixels = loop.learner.valid.pixels(32)[:1]
    np.testing.assert_allclose(vector.numpy(), loop.learner.encode_images(pixels), atol=0.01)  # float16
    np.testing.assert_allclose(words.numpy(), loop.learner.encode_texts(["a red disc"]), atol=0.01)
    seen = normalise(pixels.float() / 255)
    torch.testing.assert_close(preprocess(image)[None], seen, atol=0.02, rtol=0)


def test_a_run_that_is_cut_off_and_resumed_is_bit_for_bit_the_run_that_was_not(pictures, tmp_path):
    recipe = recipe_of()
    straight = train_contrastive(recipe, pictures, tmp_path / "straight")

    def cut(line):
        if line.startswith("epoch 3/4: "):  # its checkpoint is not written yet
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_contrastive(recipe, pictures, tmp_path / "cut", progress=cut)
    said = []
    resumed = train_contrastive(recipe, pictures, tmp_path / "cut", resume=True, progress=said.append)
    assert said[0].startswith("going on after step 10")
    assert resumed["splits"] == straight["splits"]
    one, other = (read_checkpoint(tmp_path / name / "checkpoint.safetensors") for name in ("straight", "cut"))
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("straight", "cut")]
    assert weights[0] == weights[1]
    losses = [[row["loss"] for row in read_history(tmp_path / name)] for name in ("straight", "cut")]
    assert losses[0] == losses[1]


def test_a_finished_run_is_only_read_and_never_written_over(finished, pictures):
    folder, metrics = finished
    recipe = recipe_of(epochs=30, valid_every=5)
    assert train_contrastive(recipe, pictures, folder, resume=True) == metrics
    with pytest.raises(TrainingError, match="holds a run already"):
        train_contrastive(recipe, pictures, folder)
    with pytest.raises(TrainingError, match="other settings"):
        train_contrastive(recipe_of(epochs=31, valid_every=5), pictures, folder, resume=True)


def test_a_run_is_not_continued_on_other_pictures(tmp_path):
    folder = write_pictures(tmp_path / "pictures", each=3)
    recipe = recipe_of(epochs=2, valid_every=1)

    def cut(line):
        if line.startswith("epoch 2/2: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_contrastive(recipe, folder, tmp_path / "run", progress=cut)
    (folder / "train-red-disc-0.png").write_bytes((folder / "train-blue-bar-0.png").read_bytes())
    with pytest.raises(TrainingError, match="the pictures have changed"):
        train_contrastive(recipe, folder, tmp_path / "run", resume=True)


def test_a_finished_run_is_evaluated_on_another_split_with_the_same_figures(finished):
    folder, metrics = finished
    again = evaluate_contrastive_run(folder, split="valid")
    assert again["splits"]["valid"] == metrics["splits"]["valid"]
    assert (folder / "report-valid.html").exists()
    with pytest.raises(ConfigError, match="no split is called 'tset'"):
        evaluate_contrastive_run(folder, split="tset")


def test_the_command_line_trains_and_evaluates(tmp_path):
    folder, run = write_pictures(tmp_path / "pictures", each=2), tmp_path / "run"
    trained = CliRunner().invoke(
        app,
        ["train", TINY, "--pictures", str(folder), "--run", str(run), "--set", "epochs=1", "--set", "valid_every=1"],
    )
    assert trained.exit_code == 0, trained.output
    assert "text_to_image" in trained.output
    evaluated = CliRunner().invoke(app, ["evaluate", str(run), "--split", "valid", "--json"])
    assert json.loads(evaluated.output)["splits"]["valid"]["num_pictures"] == 24
    wrong = CliRunner().invoke(app, ["train", TINY, "--build", "nowhere"])
    assert wrong.exit_code != 0
    assert "--pictures" in wrong.output + str(wrong.exception)
