"""First sentences of sections: what a question holds, and a run from files of pages and pictures to its report."""

import json
import random
from collections import Counter

import numpy as np
import pytest
import torch

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import open_embedder
from mmkg.errors import ConfigError, DumpError, TrainingError
from mmkg.evaluation.text_scores import cut_sentence, score_texts
from mmkg.reasoners.llm_config import LlmConfig
from mmkg.subgraphs.pages import PAGE_RELATIONS
from mmkg.training.checkpoint import read_checkpoint
from mmkg.training.reasoning.own_language_model import open_own_language_model
from mmkg.training.reasoning.pages.data import page_files, prepare_pages
from mmkg.training.reasoning.pages.recipe import list_page_recipes, open_page_recipe
from mmkg.training.reasoning.pages.run import SCORES, evaluate_pages, train_pages
from mmkg.training.reasoning.pages.texts import about_of, language_rows
from mmkg.training.run_folder import read_json
from tests.tasks.tfrecord_files import framed
from tests.tasks.wikiweb2m_files import alps, as_record

from .made_pictures import COLOURS, draw_shape

TINY = "graph4mm/pages_tiny"
SETTINGS = {"threads": 1, "bootstrap_draws": 20, "batch_size": 4, "max_text_tokens": 32, "max_answer_tokens": 8}


def section(index, parent, first, rest, *captions):
    images = [{"file": f"{index}-{number}.png", "caption": caption} for number, caption in enumerate(captions)]
    return {
        "section_index": index,
        "section_title": f"part {index}",
        "section_depth": 0 if parent == -1 else 1,
        "section_parent_index": parent,
        "section_text": f"{first} {rest}".strip(),
        "section_images": images,
    }


def page_about(town, colour="red", **more):
    """Lead (0), History (1, a picture), Early (2, below 1), Sights (3, a picture without caption); no description."""
    return {
        "page_title": town,
        "page_url": f"https://example.org/{town}",
        "sections": [
            section(0, -1, f"{town} is a town.", "It lies on a river. Many live there."),
            section(1, 0, f"{town} is old.", "It was founded early.", f"a {colour} flag"),
            section(2, 1, "Its walls stood.", "They were high. They fell."),
            section(3, 0, "There is a tower.", "It can be climbed.", ""),
        ],
        **more,
    }


TOWNS = ("Ada", "Bex", "Cul", "Dol", "Ems", "Fey", "Gex", "Hof")


def write_pages(folder, pages=None):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(page) for page in pages or [page_about(town) for town in TOWNS]]
    (folder / "pages.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "pages.jsonl"


def draw_pictures(folder):
    """One of History on every page, of Sights on every second one."""
    folder.mkdir()
    colours, jitter = list(COLOURS), random.Random(0)
    for page in range(len(TOWNS)):
        draw_shape(colours[page % 4], "disc", jitter).save(folder / f"{page}_1_0.png")
        if page % 2:
            draw_shape(colours[page % 4], "bar", jitter).save(folder / f"{page}_3_0.png")
    return folder


def recipe_of(name=TINY, **changes):
    return open_page_recipe(name, {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}})


def all_questions(data):
    return {one.key: one for part in (data.questions.train, data.questions.valid, data.questions.test) for one in part}


@pytest.fixture(scope="module")
def pages_file(tmp_path_factory):
    return write_pages(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("drawn") / "pictures")


# --- recipes


@pytest.mark.capability("G4-17")
def test_an_ablation_changes_what_its_name_says_and_nothing_else():
    full = open_page_recipe("graph4mm/pages").model_dump()
    changed = {}
    for name in list_page_recipes():
        other = open_page_recipe(name).model_dump()
        changed[name.removeprefix("graph4mm/pages")] = {
            key: value for key, value in other["model"].items() if value != full["model"][key]
        }
        if name not in ("graph4mm/pages_tiny", "graph4mm/pages_paper", "graph4mm/pages_released"):
            assert {**other, "model": None, "name": None} == {**full, "model": None, "name": None}
    assert changed[""] == {}
    assert changed["_no_text_structure"] == {"text_structure": "none"}
    assert changed["_no_image_structure"] == {"image_structure": "none"}
    assert changed["_hop_aware"] == {"text_structure": "hop_aware", "image_structure": "hop_aware"}
    assert changed["_gnn"] == {"text_structure": "none", "image_structure": "none", "graph_as_modality": True}
    assert changed["_text"] == {"reads": "nothing"}


def test_the_released_recipe_is_the_papers_but_for_what_the_code_does_otherwise():
    paper, released = (open_page_recipe(f"graph4mm/pages_{name}").model_dump() for name in ("paper", "released"))
    assert paper["batch_size"] // paper["accumulate"] == 8
    assert paper["data"]["split"] == "official"
    model = {key: value for key, value in released["model"].items() if value != paper["model"][key]}
    assert model == {
        "modalities": "shared",
        "order": "released",
        "loss": "whole",
        "residual": False,
        "rescale": False,
        "self_loops": False,
        "isolated": "zero",
        "mask": "renormalise",
    }
    assert {key for key in paper if paper[key] != released[key]} == {"name", "model", "data"}


def test_a_recipe_that_there_is_not_and_shares_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'graph4mm/pages_hop_aware'"):
        open_page_recipe("graph4mm/pages_hop_awar")
    with pytest.raises(ConfigError, match=r"leave nothing to learn from: 0\.5 \+ 0\.5"):
        open_page_recipe(TINY, {"data.valid_share": 0.5, "data.test_share": 0.5})


# --- questions


@pytest.mark.capability("G4-16")
def test_a_prompt_has_instruction_rest_and_caption_and_if_wanted_neighbours_in_order_or_under_their_hops(pages_file):
    asked = {
        how: all_questions(prepare_pages(recipe_of(data__neighbours_in_words=how), pages_file))
        for how in ("no", "in_order", "by_hop")
    }
    assert asked["no"]["0/0"].text == "summarize: It lies on a river. Many live there."
    assert asked["no"]["0/1"].text == "summarize: It was founded early. context: a red flag"
    lead = "Ada is a town. It lies on a river. Many live there."
    early, sights = "Its walls stood. They were high. They fell.", "There is a tower. It can be climbed."
    assert asked["in_order"]["0/1"].text == f"{asked['no']['0/1'].text} Ada {lead} {early} {sights}"
    # from History: its page, its parent and its child one edge away; Sights behind Early, and below the lead
    hops = f"{asked['no']['0/1'].text} 1-hop neighbours: Ada; {lead}; {early} 2-hop neighbours: {sights}"
    assert asked["by_hop"]["0/1"].text == hops
    cut = prepare_pages(
        recipe_of(data__neighbours_in_words="by_hop", data__max_neighbour_words=2, data__num_hops=1), pages_file
    )
    assert all_questions(cut)["0/1"].text == f"{asked['no']['0/1'].text} 1-hop neighbours: Ada; Ada is; Its walls"
    assert cut.questions.told["nodes"]["texts_too_far"] > 0


def test_a_prompt_without_caption_has_its_marker_before_what_stands_around(pages_file):
    texts = all_questions(prepare_pages(recipe_of(data__neighbours_in_words="in_order"), pages_file))
    assert texts["0/0"].text.startswith("summarize: It lies on a river. Many live there. context: Ada Ada is old. It")


def test_sections_of_a_page_are_of_one_split_and_one_cluster_and_another_seed_draws_others(pages_file):
    data = prepare_pages(recipe_of(), pages_file)
    questions = data.questions
    clusters = [{one.cluster for one in part} for part in (questions.train, questions.valid, questions.test)]
    assert [len(names) for names in clusters] == [5, 1, 2]
    assert set.union(*clusters) == {str(number) for number in range(8)}
    assert all(one.cluster == one.key.split("/")[0] for one in all_questions(data).values())
    assert questions.told["pages"] == {"test": 2, "train": 5, "valid": 1}
    assert len(all_questions(data)) == questions.told["questions"]["asked"] == 8 * 4
    drawn = [
        {one.cluster for one in prepare_pages(recipe_of(data__split_seed=seed), pages_file).questions.test}
        for seed in range(4)
    ]
    assert len(set(map(frozenset, drawn))) > 1


def test_splits_as_the_file_says_or_by_number_and_the_first_questions_of_each(tmp_path):
    splits = ["train", "train", "val", "test", "test", "other"]
    file = write_pages(tmp_path, [page_about(town, split=split) for town, split in zip(TOWNS, splits, strict=False)])
    data = prepare_pages(recipe_of(data__split="file", data__max_train=6, data__max_test=2), file)
    questions = data.questions
    assert [one.key for one in questions.train] == ["0/0", "0/1", "0/2", "0/3", "1/0", "1/1"]
    assert [one.key for one in questions.valid] == ["2/0", "2/1", "2/2", "2/3"]
    assert [one.key for one in questions.test] == ["3/0", "3/1"]
    assert questions.told["pages"] == {"test": 2, "train": 2, "valid": 1, "without_split": 1}
    assert [page.title for page in data.train_pages] == ["Ada", "Bex"]
    with pytest.raises(TrainingError, match="found 24 of train, 0 of valid, 0 of test; pages: 6 train"):
        prepare_pages(recipe_of(data__split="official"), file)  # all are below 400,000


@pytest.mark.capability("G4-05")
def test_a_picture_node_has_the_vector_of_its_sections_file_and_what_lacks_one_is_told(tmp_path, pages_file, pictures):
    data = prepare_pages(recipe_of(), pages_file, pictures_folder=pictures)
    embedder = open_embedder(EmbeddingsConfig(kind="hashing"))
    files = [pictures / f"1_{place}_0.png" for place in (1, 3)]
    own = embedder.embed_images([embedder.prepare_image(file.read_bytes()) for file in files])
    graph = all_questions(data)["1/3"].subgraph  # Sights, whose picture is the first node
    assert np.allclose(graph.vector_ND[graph.is_image], own[::-1], atol=1e-6)
    assert graph.has_vector_N[graph.is_image].all()
    graph = all_questions(data)["1/2"].subgraph  # Early has none: an empty slot
    assert np.allclose(graph.vector_ND[graph.is_image], [np.zeros_like(own[0]), *own], atol=1e-6)
    assert graph.has_vector_N[graph.is_image].tolist() == [False, True, True]
    graph = all_questions(data)["0/3"].subgraph  # its picture has no file
    assert graph.has_vector_N[graph.is_image].tolist() == [False, True]
    assert data.questions.told["pictures"] == {"sections_with_pictures": 16, "with_vector": 12, "without_file": 4}
    broken = draw_pictures(tmp_path / "broken")
    (broken / "1_1_0.png").write_bytes(b"no picture")
    told = prepare_pages(recipe_of(), pages_file, pictures_folder=broken).questions.told["pictures"]
    assert told == {"sections_with_pictures": 16, "with_vector": 11, "without_file": 4, "not_a_picture": 1}
    with pytest.raises(ConfigError, match="expected a folder of pictures"):
        prepare_pages(recipe_of(), pages_file, pictures_folder=tmp_path / "nowhere")


@pytest.mark.capability("G4-01", "G4-04")
def test_pictures_have_edges_of_their_own_alone_and_hops_are_of_each_graph_apart(pages_file, pictures):
    data = prepare_pages(recipe_of(), pages_file, pictures_folder=pictures)
    graph = all_questions(data)["1/2"].subgraph  # from Early: History and Sights are as near
    images = graph.image_subgraph(lent=recipe_of().model.lent_edges)
    edges = zip(images.src_E.tolist(), images.relation_E.tolist(), images.dst_E.tolist(), strict=True)
    assert Counter((src, PAGE_RELATIONS[relation], dst) for src, relation, dst in edges) == Counter(
        [(1, "next image", 2), (0, "nearest image", 1), (0, "nearest image", 2)]
    )
    assert images.hop_N.tolist() == [0, 1, 1]
    # its page and its parent stand one edge away, the caption of its parent two
    hop_of = dict(zip(graph.labels, graph.hop_N.tolist(), strict=True))
    assert (hop_of["Bex"], hop_of["Bex is old. It was founded early."], hop_of["a red flag"]) == (1, 1, 2)
    assert graph.is_cross.sum() == 3  # each picture and the empty slot belong to their sections
    assert not any(open_page_recipe(name).model.lent_edges for name in list_page_recipes())


def test_text_nodes_have_vectors_of_their_texts_where_rows_are_made_of_those(pages_file):
    data = prepare_pages(recipe_of(model__node_text="vectors"), pages_file)
    embedder = open_embedder(EmbeddingsConfig(kind="hashing"))
    graph = all_questions(data)["0/1"].subgraph
    assert np.allclose(graph.vector_ND, embedder.embed_texts(list(graph.labels)))
    assert graph.has_vector_N.all()
    assert data.questions.embedder != prepare_pages(recipe_of(), pages_file).questions.embedder
    assert prepare_pages(recipe_of(), pages_file).questions.relation_RD.shape == (len(PAGE_RELATIONS), 0)


def test_what_is_left_out_or_does_not_fit_is_told(tmp_path):
    many = page_about("Big")
    many["sections"] += [section(place, 0, f"Part {place} is.", "It goes on.") for place in range(4, 24)]
    odd = page_about("Odd")
    odd["sections"][1] = section(1, 0, "* ", "\nA list. It goes on.")
    odd["sections"][2] = section(2, 1, "There is no rest.", "")
    empty = {"page_title": "Empty", "page_url": "", "sections": []}
    said = page_about("Twice", page_description="", clean_page_description="Twice is a town. It is said twice.")
    said["sections"][3] = section(3, 0, "It was founded early.", "It can be climbed.")  # stands in History too
    file = write_pages(tmp_path, [many, odd, empty, said, *(page_about(town) for town in TOWNS)])
    told = prepare_pages(recipe_of(), file).questions.told
    assert told["rejects"] == {"no_sections": 1}
    assert told["left_out"] == {"first_sentence_without_words": 1, "no_rest": 1}
    # 24 sections, the page and a caption, for twelve nodes
    assert told["nodes"]["texts_beyond_the_slots"] == 24 * (26 - 12)
    assert told["questions"] == {
        "asked": 24 + 2 + 4 + 32,
        "description_hidden": 1,
        "sentence_stands_elsewhere": 1,
    }


def test_a_folder_is_read_in_order_of_names_records_and_lines_alike(tmp_path):
    (tmp_path / "b.tfrecord.gz-00000-of-00001").write_bytes(framed(as_record(alps())))
    (tmp_path / "notes.txt").write_text("no pages")
    write_pages(tmp_path, [page_about(town, split=split) for town, split in (("Ada", "train"), ("Bex", "test"))])
    assert [path.name[0] for path in page_files(tmp_path)] == ["b", "p"]
    data = prepare_pages(recipe_of(data__split="file"), tmp_path)
    assert [one.cluster for one in data.questions.train[:4]] == ["0", "0", "0", "1"]  # the Alps are of train, too
    assert data.questions.train[1].text == "summarize: Many stayed. context: a hut"
    (tmp_path / "none").mkdir()
    with pytest.raises(DumpError, match="expected files of pages"):
        page_files(tmp_path / "none")


# --- words


def test_controls_say_the_rests_the_pages_and_the_commonest_first_sentence(pages_file):
    data = prepare_pages(recipe_of(), pages_file)
    assert data.controls["rest's first sentence"]["0/2"] == "They were high."
    assert data.controls["page's first sentence"]["0/2"] == "Ada is a town."
    assert data.controls["page's first sentence"]["0/0"] == "Ada"  # the sentence itself is what is asked for
    assert Counter(data.sentences)["Its walls stood."] == 5
    page = data.train_pages[0]
    assert about_of(page, 1) == page.sections[0].first_sentence


def test_a_language_model_of_a_runs_own_reads_no_page_but_those_to_learn_from(pages_file):
    data = prepare_pages(recipe_of(), pages_file)
    rows = list(language_rows(data.train_pages, data.questions.valid))
    hidden = {TOWNS[int(one.cluster)] for one in (*data.questions.valid, *data.questions.test)}
    learnt = " ".join(answer for split, _, _, answer in rows if split == "train").split()
    assert not hidden & set(learnt)
    assert set(TOWNS) - hidden <= set(learnt)
    assert ("train", "statement", "", "They were high.") in rows
    assert [answer for split, _, _, answer in rows if split == "valid"] == [one.answer for one in data.questions.valid]
    assert {(kind, prompt) for _, kind, prompt, _ in rows} == {("statement", "")}  # no answer beside its question


def test_a_language_model_that_is_named_is_opened_and_no_row_is_read(tmp_path):
    def never():
        raise AssertionError
        yield "train", "statement", "", ""

    settings = {"language": "none", "epochs": 1, "random_seed": 0, "device": "cpu", "about": "nothing"}
    llm = open_own_language_model(LlmConfig(model="atlas-causal"), never(), tmp_path, **settings)
    assert llm.kind == "causal"
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="no recipe is called"):
        open_own_language_model(LlmConfig(model="own"), iter(()), tmp_path, **settings)


# --- runs


class Killed(Exception):
    pass


def killing(when):
    def progress(line):
        if line.startswith(when):
            raise Killed

    return progress


@pytest.mark.capability("G4-14", "G4-15")
def test_a_run_with_pictures_is_scored_freely_and_forced_and_goes_on_after_a_kill(tmp_path, pages_file, pictures):
    given = {"data": pages_file, "pictures_folder": pictures}
    recipe, said = recipe_of(), []
    metrics = train_pages(recipe, tmp_path / "run", **given, progress=said.append)
    assert said[0] == "20 sections to learn from, 8 of 2 pages to report on"
    assert (metrics["texts"]["num_items"], metrics["texts"]["num_clusters"]) == (8, 2)
    rows = [json.loads(line) for line in (tmp_path / "run" / "answers-test.jsonl").read_text().splitlines()]
    written, right = [row["given"] for row in rows], [row["right"] for row in rows]
    clusters = [row["cluster"] for row in rows]
    again = score_texts(written, right, clusters=clusters, draws=20)
    assert metrics["texts"] == again.as_json()
    cut = score_texts([*map(cut_sentence, written)], right, clusters=clusters, draws=20)
    assert metrics["cut"]["texts"] == cut.as_json()
    assert metrics["teacher_forced"].keys() == metrics["cut"]["teacher_forced"].keys() == metrics["texts"].keys()
    assert metrics["controls"].keys() == {
        "rest's first sentence", "page's first sentence", "commonest first sentence",
    }  # fmt: skip
    # "Its walls stood." is what most sections of train begin with, and one of four to be written
    assert metrics["controls"]["commonest first sentence"]["exact"]["value"] == 1 / 4
    gap = metrics["differences"]["graph4mm/pages_tiny − commonest first sentence"]
    commonest = metrics["controls"]["commonest first sentence"]
    for name in SCORES:
        assert gap[name]["value"] == pytest.approx(metrics["texts"][name]["value"] - commonest[name]["value"])
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Written freely (8 sections of 2 pages)" in report
    assert "no generation" in report
    told = read_json(tmp_path / "run" / "environment.json")["questions_told"]
    assert told["pictures"] == {"sections_with_pictures": 16, "with_vector": 12, "without_file": 4}

    for when in ("epoch 1  steps", "epoch 2/2: "):  # while the language model learns, and while the reasoner does
        with pytest.raises(Killed):
            train_pages(recipe, tmp_path / "killed", **given, progress=killing(when))
        if when == "epoch 1  steps":
            with pytest.raises(TrainingError, match="Leave out resume to start one"):
                train_pages(recipe, tmp_path / "killed", **given, resume=True)
    said.clear()
    resumed = train_pages(recipe, tmp_path / "killed", **given, resume=True, progress=said.append)
    assert any("going on after step" in line for line in said)
    assert not any("a language model of" in line for line in said)  # it was there
    first, second = (read_checkpoint(tmp_path / name / "model.safetensors").tensors for name in ("run", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed["texts"] == metrics["texts"]
    assert train_pages(recipe, tmp_path / "killed", **given, resume=True) == resumed
    evaluated = evaluate_pages(tmp_path / "run")
    assert {name: evaluated[name] for name in ("texts", "teacher_forced", "cut", "controls", "differences")} == {
        name: metrics[name] for name in ("texts", "teacher_forced", "cut", "controls", "differences")
    }
    assert evaluate_pages(tmp_path / "run", split="valid", **given)["texts"]["num_items"] == 4
    with pytest.raises(TrainingError, match="holds a run already"):
        train_pages(recipe, tmp_path / "run", **given)
    config = tmp_path / "run" / "config.json"
    config.write_text(json.dumps({**read_json(config), "pictures": None}), encoding="utf-8")
    with pytest.raises(TrainingError, match="another embedder"):  # without pictures nothing is embedded
        evaluate_pages(tmp_path / "run")


@pytest.mark.capability("G4-17")
def test_text_alone_is_read_by_a_recipe_that_reads_nothing_and_two_seeds_are_summed_up(tmp_path, pages_file):
    recipe = recipe_of(model__reads="nothing", epochs=1, cut_predictions=False)
    summary = train_pages(recipe, tmp_path / "runs", data=pages_file, seeds=[0, 1])
    each = [read_json(tmp_path / "runs" / f"seed-{seed}" / "metrics.json") for seed in (0, 1)]
    values = [one["texts"]["rouge_l"]["value"] for one in each]
    assert summary["over_seeds"]["texts.rouge_l"]["mean"] == pytest.approx(np.mean(values))
    assert summary["seeds"] == 2
    assert each[0]["cut"] == {}
    names = read_checkpoint(tmp_path / "runs" / "seed-0" / "model.safetensors").tensors
    assert all(name.startswith("llm.") for name in names)


@pytest.mark.capability("G4-12", "G4-13")
def test_the_released_settings_learn_around_a_frozen_model_of_pictures_and_states(tmp_path, pages_file, pictures):
    released = open_page_recipe("graph4mm/pages_released").model
    model = released.model_copy(update={"width": 16, "num_heads": 2, "num_queries": 4, "max_node_tokens": 16})
    recipe = recipe_of(epochs=1, llm__model="atlas-causal", llm__trains=False, model=model.model_dump())
    metrics = train_pages(recipe, tmp_path / "run", data=pages_file, pictures_folder=pictures)
    assert metrics["left_out_by_diffusion"] == pytest.approx(0.9**4)
    names = read_checkpoint(tmp_path / "run" / "model.safetensors").tensors
    assert names
    assert not any(name.startswith("llm.") for name in names)


@pytest.mark.shared
@pytest.mark.capability("G4-02")
def test_the_real_pages_become_questions_whose_sentence_no_graph_holds(shared_data):
    data = prepare_pages(recipe_of(), shared_data / "tasks/wikipages/en_pages.jsonl.gz")
    told = data.questions.told
    assert told["pages"] == {"train": 15, "valid": 3, "test": 6}
    assert told["questions"]["asked"] == 429 - told["left_out"]["first_sentence_without_words"]
    assert told["left_out"]["no_rest"] == 31
    page = data.train_pages[0]
    question = next(one for one in data.questions.train if one.cluster == str(page.page_id))
    assert question.subgraph.labels[0] == page.sections[int(question.key.split("/")[1])].rest
    assert told["questions"]["sentence_stands_elsewhere"] < 10  # such as "Courses offered:"
