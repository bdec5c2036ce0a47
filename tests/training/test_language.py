"""Tiny language models: texts, tokenizer, batches, a run; and what the two that are bundled can do."""

import json
import random
import re
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkg.errors import ConfigError, TrainingError
from mmkg.reasoners.llm import IGNORED, LlmConfig, open_llm
from mmkg.reasoners.llm_source import ATLAS_LM, BUNDLED
from mmkg.training.language.figures import measure_language_model, write_answers
from mmkg.training.language.model import loss_of, make_model
from mmkg.training.language.recipe import list_language_recipes, open_language_recipe
from mmkg.training.language.run import train_language
from mmkg.training.language.text import Rows, Text, make_tokenizer, read_texts

ATLAS = Path(__file__).resolve().parents[2] / "examples" / "atlas"
TINY = ("language/atlas_causal_tiny", "language/atlas_seq2seq_tiny")
CAPITALS = {"France": "Paris", "Chad": "N'Djamena", "Peru": "Lima", "Norway": "Oslo"}
TEXTS = [
    text
    for country, city in CAPITALS.items()
    for text in (
        Text("statement", "", f"{city} is the capital of {country}."),
        Text("question", f"Question: What is the capital of {country}? Answer:", city),
        Text("reading", f"Context: {country} capital {city}. Question: And {country}? Answer:", city),
    )
]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(TEXTS, 400)


def write_text(folder: Path, rows: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.tsv").write_text("\n".join(["split\tkind\tprompt\tanswer", *rows]) + "\n", encoding="utf-8")
    return folder


# --- recipes and texts


def test_every_recipe_has_a_tiny_cousin_with_fewer_parameters(tokenizer):
    names = ("atlas_causal", "atlas_seq2seq", "descriptions")
    for name in names:
        whole, tiny = (
            make_model(open_language_recipe(f"language/{name}{cousin}"), tokenizer) for cousin in ("", "_tiny")
        )
        assert tiny.num_parameters() < whole.num_parameters() / 4
    assert len(list_language_recipes()) == 2 * len(names)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="width is 30: not a multiple of twice num_heads, 2"):
        open_language_recipe(TINY[0], ["width=30"])
    with pytest.raises(ConfigError, match="Did you mean 'language/atlas_causal'"):
        open_language_recipe("language/atlas_casual")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["train\tquestion\tWhat?"], "line 2: expected 4 columns and an answer"),
        (["train\tstatement\t\tYes.", "train\tquestion\tWhat?\t"], "line 3: expected 4 columns and an answer"),
        (["test\tstatement\t\tYes."], "expected rows of the split 'train'"),
    ],
)
def test_texts_that_cannot_be_used_are_named_by_file_and_line(rows, message, tmp_path):
    with pytest.raises(TrainingError, match=message):
        read_texts(write_text(tmp_path, rows))


def test_a_folder_without_texts_says_how_to_make_them(tmp_path):
    with pytest.raises(TrainingError, match=r"text\.tsv: no such file; .*write_lm_text\.py"):
        read_texts(tmp_path)
    (tmp_path / "text.tsv").write_text("a\tb\n")
    with pytest.raises(TrainingError, match="line 1: expected the columns"):
        read_texts(tmp_path)


def test_what_is_held_out_is_said_nowhere_in_train_rows(monkeypatch):
    monkeypatch.syspath_prepend(str(ATLAS))
    import lm_facts
    from atlas_tables import read_atlas
    from write_lm_text import write_texts

    atlas = read_atlas()
    rows = list(write_texts(atlas, readings={"train": 150, "test": 20}))
    assert rows[:3000] == list(islice(write_texts(atlas, readings={}), 3000))
    said = {part for split, kind, *parts in rows if split == "train" for part in parts if kind != "reading"}
    contexts = " ".join(prompt for split, kind, prompt, _ in rows if (split, kind) == ("train", "reading"))
    facts = lm_facts.read_facts(atlas)
    held_out = [fact for fact in facts if fact.split != "train"]
    assert 0.12 < len(held_out) / len(facts) < 0.18
    for fact in held_out:
        for template in lm_facts.FORMS[fact.relation].statements:
            assert fact.say(template) not in said
            assert f" {fact.say(template)}" not in contexts
        for template in lm_facts.FORMS[fact.relation].questions:
            assert f"Question: {fact.say(template)} Answer:" not in said
    for _, kind, prompt, answer in rows:
        if kind == "reading":  # the answer stands there
            assert answer in prompt


# --- tokens and batches


@given(st.text(max_size=40))
def test_any_text_comes_back_from_its_tokens(tokenizer, text):
    tokens = tokenizer.encode(text, add_special_tokens=False)
    text = re.sub(r"<pad>|<s>|</s>", "", text)
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text.removeprefix(" ")


def test_tokens_of_a_prompt_and_of_an_answer_can_be_joined(tokenizer):
    for text in TEXTS[1::3]:
        joined = [token for part in (text.prompt, text.answer) for token in tokenizer.encode(part)]
        assert joined == tokenizer.encode(f"{text.prompt} {text.answer}")


def test_a_causal_model_is_asked_for_what_it_could_know(tokenizer):
    rows = Rows(TEXTS[:3], tokenizer, "causal")
    batch = rows.batch([0, 1, 2], random.Random(0))
    (answer,) = [tokenizer.encode(text.answer) for text in TEXTS[1:2]]
    given, target = batch.given_BP.tolist(), batch.target_BT.tolist()
    statement = tokenizer.encode(TEXTS[0].answer)
    assert [token for token in given[0] if token] == [1, *statement, 2]
    assert [token for token in target[0] if token != IGNORED] == [*statement, 2]
    assert [token for token in target[1] if token != IGNORED] == [*tokenizer.encode(TEXTS[1].prompt), *answer, 2]
    assert [token for token in target[2] if token != IGNORED] == [*answer, 2]  # nobody could guess the context
    asked = batch.target_BT != IGNORED
    assert torch.equal(batch.given_BP[asked], batch.target_BT[asked])


def test_an_epoch_shows_every_row_as_often_as_its_kind_says(tokenizer):
    for kind, kinds in (("causal", 12 + 4), ("seq2seq", 8 + 4)):
        rows = Rows(TEXTS, tokenizer, kind)
        batches = list(rows.batches(120, {"question": 2}, random.Random(0)))
        assert sum(len(batch.given_BP) for batch in batches) == kinds
        assert all(batch.given_BP.numel() <= 120 for batch in batches)
        assert len(batches) > 1


@pytest.mark.parametrize("name", TINY)
def test_the_loss_of_a_batch_is_the_sum_of_its_rows(name, tokenizer):
    recipe = open_language_recipe(name)
    rows, model = Rows(TEXTS, tokenizer, recipe.kind), make_model(recipe, tokenizer).eval()
    places = list(range(len(rows.texts)))
    rows.start = rows.end  # what begins or ends a row is drawn, and here the same either way
    whole = [loss_of(model, rows.batch(places, _Never()))]
    alone = [loss_of(model, rows.batch([place], _Never())) for place in places]
    assert whole[0][1] == sum(count for _, count in alone)
    assert whole[0][0].item() == pytest.approx(sum(loss.item() for loss, _ in alone), rel=1e-5)


class _Never(random.Random):
    def random(self) -> float:
        return 1.0


# --- a run


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    rows = [f"train\t{text.kind}\t{text.prompt}\t{text.answer}" for text in TEXTS * 4]
    rows += [f"{split}\t{text.kind}\t{text.prompt}\t{text.answer}" for split in ("valid", "test") for text in TEXTS]
    return write_text(tmp_path_factory.mktemp("texts"), rows)


@pytest.mark.parametrize("name", TINY)
def test_a_run_learns_leaves_a_model_and_repeats_itself(name, texts, tmp_path):
    recipe = open_language_recipe(name, {"epochs": 12, "tokens_per_batch": 256, "learning_rate": 0.01})
    lines = []
    metrics = train_language(recipe, texts, tmp_path / "one", progress=lines.append)
    assert metrics == json.loads((tmp_path / "one" / "metrics.json").read_text())
    history = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    assert len(history) == len(lines) == 12
    assert history[-1]["train_nll"] < history[0]["train_nll"] / 2
    assert history[-1]["valid_nll"] < history[0]["valid_nll"]
    llm = open_llm(LlmConfig(model=str(tmp_path / "one" / "model")))
    assert llm.digest == metrics["digest"]
    question = metrics["splits"]["test"]["question"]
    assert question["perplexity"] < question["unigram_perplexity"] < metrics["uniform_perplexity"]
    assert train_language(recipe, texts, tmp_path / "two")["digest"] == metrics["digest"]
    with pytest.raises(TrainingError, match="not empty"):
        train_language(recipe, texts, tmp_path / "one")


def test_figures_are_those_of_a_count_by_hand(tmp_path):
    llm = open_llm(LlmConfig(model="atlas-seq2seq"))
    train = [Text("question", "Question: A? Answer:", "yes")] * 3 + [Text("question", "Question: B? Answer:", "no")]
    test = [Text("question", "Question: C? Answer:", "yes"), Text("question", "Question: D? Answer:", "no")]
    figures = measure_language_model(llm, {"train": train, "test": test})
    found = figures["splits"]["test"]["question"]
    yes, no, size = len(llm.tokens("yes")), len(llm.tokens("no")), len(llm.tokenizer)
    assert (found["rows"], found["asked"], found["commonest"], figures["uniform_perplexity"]) == (2, 2, 0.5, size)
    written = write_answers(llm, [row.prompt for row in test])
    assert found["exact"] == sum(text == row.answer for text, row in zip(written, test, strict=True)) / 2
    if (yes, no) == (1, 1):  # three times yes, once no, four times the end; one more of each of all tokens
        total = 8 + size
        p = (4 / total) * (2 / total) * (5 / total) ** 2
        assert found["unigram_perplexity"] == pytest.approx(p ** (-1 / 4), rel=1e-2)


# --- what is bundled


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_what_is_bundled_is_what_its_card_says(name):
    folder = BUNDLED[name]
    card = (ATLAS_LM / "card.md").read_text(encoding="utf-8")
    llm = open_llm(LlmConfig(model=name))
    assert f"{sum(parameter.numel() for parameter in llm.parameters()):,}" in card
    assert llm.digest in card
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_250_000
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_what_is_bundled_knows_sentences_of_the_atlas(name):
    """Random weights would be as unsure as a draw among all tokens, 1,280."""
    llm = open_llm(LlmConfig(model=name))
    rows = [Text("question", f"Question: What is the capital of {country}? Answer:", "Lima") for country in CAPITALS]
    figures = measure_language_model(llm, {"train": rows, "test": rows})
    assert figures["splits"]["test"]["question"]["perplexity"] < 200
    assert all(0 < len(text) < 40 for text in write_answers(llm, [row.prompt for row in rows]))
