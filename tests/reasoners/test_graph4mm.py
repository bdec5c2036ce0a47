"""Graph4MM: what stands in its prompt, what moves what, its losses by hand, what of it learns, and every switch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from mmkg.encoders.qformer import num_parameters
from mmkg.errors import ConfigError
from mmkg.reasoners.graph4mm import Graph4mm
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm_config import LlmConfig, LoraConfig
from mmkg.reasoners.trainable import frozen_digests, trainable_report
from mmkg.subgraphs.batch_multimodal import batch_multimodal
from mmkg.training.checkpoint import load_trained, trained_state
from mmkg.training.reasoning.question_learner import AskingSettings, QuestionLearner
from mmkg.training.reasoning.recipe import SyntheticConfig
from mmkg.training.reasoning.synthetic import synthetic_questions
from tests.training.made_tiny_llm import make_tiny_llm

from .made_graphs import (
    BATCH,
    EDGELESS,
    EMPTY,
    FAILED,
    GRAPHS,
    LONE,
    PICTURED,
    QUERIES,
    TARGETS,
    TEXT_ONLY,
    TEXTS,
    VECTOR,
    WIDTH,
    R,
    ask,
    graph_rows,
    loss_of,
    make_graph4mm,
    renumbered,
    with_vector,
)
from .made_llms import make_llm

MIXES = {
    "diffused": {},
    "separate": {"modalities": "separate"},
    "joint": {"modalities": "joint"},
    "aware_text": {"text_structure": "hop_aware", "max_hops": 4},
    "aware_image": {"image_structure": "hop_aware", "max_hops": 4},
    "aware": {"text_structure": "hop_aware", "image_structure": "hop_aware"},
    "no_text": {"text_structure": "none"},
    "no_image": {"image_structure": "none"},
    "none": {"text_structure": "none", "image_structure": "none"},
    "gcn": {"text_structure": "none", "image_structure": "none", "graph_as_modality": True},
    "released": {"order": "released", "mask": "renormalise", "residual": False, "rescale": False, "self_loops": False},
    "passed": {"pass_text": True, "graph_as_modality": True, "num_layers": 2},
    "exact": {"num_terms": "exact", "attention_heads": "each", "places": 2, "relations": False},
    "mean": {"reads": "mean"},
}
mixes = pytest.mark.parametrize("settings", MIXES.values(), ids=MIXES)
close = {"atol": 1e-5, "rtol": 1e-4}


# --- G4-05: pictures and their graph line up


@pytest.mark.capability("G4-05", "G4-P7")
@mixes
def test_pictures_in_another_order_with_their_edges_change_nothing_of_the_prompt(settings):
    model = make_graph4mm(**settings)
    expected = ask(model).prompt
    for order in ([0, 1, 2, 3, 6, 4, 5], [0, 1, 2, 3, 5, 4, 6], [4, 0, 1, 5, 2, 3, 6]):  # the last: pictures between
        other = renumbered(PICTURED, order)
        if order[0] == 4:  # seeds come first
            other = replace(other, num_seeds=2)
            assert other.text_subgraph().num_seeds == 1
        found = ask(model, [other, *BATCH[1:]]).prompt
        torch.testing.assert_close(found.row_BPd, expected.row_BPd, **close)


@pytest.mark.capability("G4-05")
@pytest.mark.parametrize(("structure", "felt"), [("diffused", True), ("hop_aware", True), ("none", False)])
def test_a_picture_is_read_at_its_own_place_of_the_graph(structure, felt):
    """Vectors of two pictures exchanged, edges as they were: without structure it is the same set of pictures."""
    model = make_graph4mm(image_structure=structure)
    at = np.array([0, 1, 2, 3, 5, 4, 6])
    other = replace(PICTURED, vector_ND=PICTURED.vector_ND[at])
    rows = [graph_rows(ask(model, [one])) for one in (PICTURED, other)]
    assert torch.allclose(*rows, **close) != felt


@pytest.mark.capability("G4-05")
def test_a_picture_that_failed_takes_the_learnt_row_and_no_made_up_vector():
    model = make_graph4mm(image_structure="none")
    read = ask(model, [PICTURED])
    known = model.image_nodes.project(torch.from_numpy(PICTURED.vector_ND[4:6]))
    expected = model.image_norm(torch.cat([known, model.image_nodes.missing[None]]))
    torch.testing.assert_close(read.image_NW, expected)
    for settings in MIXES.values():
        model = make_graph4mm(**settings)
        rows = graph_rows(ask(model, [PICTURED]))
        assert torch.equal(graph_rows(ask(model, [with_vector(PICTURED, 6, 7.0)])), rows)
        without = graph_rows(ask(model, [PICTURED.keep_nodes(np.arange(7) != 6)]))
        assert torch.allclose(without, rows, **close) == (model.config.reads == "mean")  # its node is there


@pytest.mark.capability("G4-P6")
@mixes
@pytest.mark.parametrize("name", GRAPHS)
def test_every_odd_graph_is_read_and_its_loss_and_gradients_are_finite(name, settings):
    model = make_graph4mm(**settings)
    loss_of(model, [GRAPHS[name]]).sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    unread = {"empty", "pictures_alone"} if model.config.reads == "mean" else {"empty"}
    assert any(grad.any() for grad in grads) == (name not in unread)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("settings", [*MIXES.values(), {"node_text": "words"}, {"node_text": "states"}])
def test_under_autocast_all_is_finite_and_about_the_same(settings):
    model = make_graph4mm(**settings)
    batch = [PICTURED, FAILED, EMPTY, EDGELESS]
    texts, targets = (*TEXTS, "Chad"), [*TARGETS, [4]]
    exact = loss_of(model, batch, texts, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_of(model, batch, texts, targets)
        loss_of(model, [EMPTY, EMPTY])
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.5)


# --- G4-06 to G4-09: structure


def dense_diffusion(structure, row_NW, edges, *, alpha=0.1, num_terms=4):
    """H + 𝒜H with matrices: softmax over neighbours and itself, heads averaged, K terms scaled to rows of 1."""
    count, heads = len(row_NW), 2
    near = torch.eye(count, dtype=torch.bool)
    for one, other in edges:
        near[one, other] = near[other, one] = True
    query, key = (part(row_NW).view(count, heads, -1).transpose(0, 1) for part in (structure.query, structure.key))
    logit = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    share = logit.masked_fill(~near, -torch.inf).softmax(2).mean(0)
    total = sum(alpha * (1 - alpha) ** k * torch.linalg.matrix_power(share, k) for k in range(num_terms))
    return row_NW + total / (1 - (1 - alpha) ** num_terms) @ row_NW


def raw_rows(model, subgraph):
    parts = subgraph.text_subgraph(), subgraph.image_subgraph()
    return [
        rows([part], batch_multimodal([part]))
        for rows, part in zip((model.text_nodes, model.image_nodes), parts, strict=True)
    ]


@pytest.mark.capability("G4-05", "G4-06", "G4-08")
@pytest.mark.parametrize("modalities", ["shared", "separate", "joint"])
def test_rows_are_what_matrices_give_over_the_edges_of_each_graph_or_of_both(modalities):
    model = make_graph4mm(modalities=modalities)
    text, image = raw_rows(model, PICTURED)
    text_edges = [(0, 1), (2, 1), (3, 0)]
    if modalities == "joint":  # and each picture with its entity; none between pictures
        both = dense_diffusion(model.text_structure, torch.cat([text, image]), [*text_edges, (0, 4), (1, 5), (2, 6)])
        text, image = both[:4], both[4:]
    else:  # pictures are tied as their entities are
        text = dense_diffusion(model.text_structure, text, text_edges)
        image = dense_diffusion(model.image_structure, image, [(0, 1), (2, 1)])
    marked = torch.cat([text[:1] + model.text_nodes.target, text[1:]])
    read = ask(model, [PICTURED, TEXT_ONLY])
    torch.testing.assert_close(read.text_NW[:4], model.text_norm(marked), **close)
    torch.testing.assert_close(read.image_NW, model.image_norm(image), **close)


@pytest.mark.capability("G4-08")
@pytest.mark.parametrize("modalities", ["shared", "separate", "joint"])
def test_modalities_share_weights_or_not_and_hear_each_other_only_jointly(modalities):
    model = make_graph4mm(modalities=modalities)
    assert (model.text_structure is model.image_structure) == (modalities != "separate")
    diffusion = 2 * (WIDTH * WIDTH + WIDTH)
    counted = trainable_report(model).total.trainable
    none = trainable_report(make_graph4mm(text_structure="none", image_structure="none")).total.trainable
    assert counted - none == diffusion * (2 if modalities == "separate" else 1)
    read, other = ask(model, [PICTURED]), ask(model, [with_vector(PICTURED, 4, 2.0)])  # the target's picture
    assert torch.equal(read.text_NW, other.text_NW) == (modalities != "joint")
    assert not torch.allclose(read.image_NW, other.image_NW, **close)
    assert not torch.allclose(graph_rows(read), graph_rows(other), **close)
    other = ask(model, [with_vector(PICTURED, 1, 2.0)])  # an entity with a picture
    assert torch.equal(read.image_NW, other.image_NW) == (modalities != "joint")
    with torch.no_grad():
        model.image_structure.query.weight.mul_(-3)
    assert torch.equal(ask(model, [PICTURED]).text_NW, read.text_NW) == (modalities == "separate")


def test_joint_diffusion_needs_both_diffused():
    for name in ("text_structure", "image_structure"):
        with pytest.raises(ValidationError, match="both structures must be 'diffused'"):
            Graph4mmConfig(modalities="joint", **{name: "hop_aware"})


@pytest.mark.capability("G4-09", "G4-17")
@pytest.mark.parametrize("image", ["diffused", "hop_aware", "none"])
@pytest.mark.parametrize("text", ["diffused", "hop_aware", "none"])
def test_structures_mix_by_modality_and_hops_and_edges_move_only_what_reads_them(text, image):
    model = make_graph4mm(text_structure=text, image_structure=image, relations=False)
    read = ask(model, [PICTURED])
    hops = ask(model, [replace(PICTURED, hop_N=PICTURED.hop_N[[0, 2, 1, 3, 5, 4, 6]])])
    ties = replace(PICTURED, src_E=PICTURED.src_E.copy(), dst_E=PICTURED.dst_E.copy())
    ties.dst_E[2] = 3  # Bern is tied to the nameless one, which has no picture, and no more to France
    ties = ask(model, [ties])
    for structure, name in ((text, "text_NW"), (image, "image_NW")):
        own, by_hops, by_ties = (getattr(one, name) for one in (read, hops, ties))
        assert torch.equal(own, by_hops) == (structure != "hop_aware")
        assert torch.allclose(own, by_ties, **close) == (structure != "diffused")
    moved = "hop_aware" in (text, image), "diffused" in (text, image)
    for one, felt in zip((hops, ties), moved, strict=True):
        assert torch.allclose(graph_rows(one), graph_rows(read), **close) != felt


@pytest.mark.capability("G4-09")
def test_hop_aware_adds_the_vector_of_each_nodes_distance():
    model = make_graph4mm(text_structure="hop_aware", image_structure="hop_aware", max_hops=2)
    assert model.text_structure is not model.image_structure
    text, image = raw_rows(model, PICTURED)
    marks = torch.zeros(4, WIDTH).index_fill(0, torch.tensor([0]), 1) * model.text_nodes.target
    read = ask(model, [PICTURED])
    by_hop, of_images = model.text_structure.table.weight, model.image_structure.table.weight
    torch.testing.assert_close(read.text_NW, model.text_norm(text + by_hop[[0, 1, 2, 1]] + marks))
    # a picture is one further than its entity; 3 is beyond the table
    torch.testing.assert_close(read.image_NW, model.image_norm(image + of_images[[1, 2, 2]]))
    cut = ask(model, [replace(PICTURED, hop_N=np.full(7, -1))])
    torch.testing.assert_close(cut.image_NW, model.image_norm(image + of_images[3]))


@pytest.mark.capability("G4-06", "G4-10")
@pytest.mark.parametrize(
    ("setting", "others"),
    [
        ({"alpha": 0.5}, {}),
        ({"num_terms": 2}, {}),
        ({"num_terms": "exact"}, {}),
        ({"attention_heads": "each"}, {}),
        ({"mask": "literal"}, {}),
        ({"mask": "renormalise"}, {"self_loops": False}),
        ({"residual": False}, {}),
        ({"rescale": False}, {}),
        ({"self_loops": False}, {}),
        ({"isolated": "zero"}, {"self_loops": False}),
        ({"order": "released"}, {}),
        ({"max_node_tokens": 1}, {"node_text": "words"}),
    ],
)
def test_each_setting_reaches_its_part(setting, others):
    """With the same weights and another setting, rows are other ones."""
    plain, other = make_graph4mm(**others), make_graph4mm(**others, **setting)
    other.load_state_dict(plain.state_dict())
    batch = [PICTURED, EDGELESS]  # the latter for isolated nodes
    rows = [torch.cat([graph_rows(ask(model, batch), item) for item in (0, 1)]) for model in (plain, other)]
    assert not torch.allclose(*rows, **close)


def test_dropout_is_the_qformers_in_training_alone():
    model = make_graph4mm(dropout=0.5)
    first, again = (graph_rows(ask(model, [PICTURED])) for _ in range(2))
    assert torch.equal(first, again)
    model.train()
    first, again = (graph_rows(ask(model, [PICTURED])) for _ in range(2))
    assert not torch.allclose(first, again)


# --- G4-10, G4-11: the prompt


@pytest.mark.capability("G4-10", "G4-11")
def test_rows_of_the_graph_stand_after_the_text_and_an_empty_graph_leaves_its_slot_empty():
    model = make_graph4mm()
    prompt = ask(model).prompt
    words = [model.llm.tokens(text) for text in TEXTS]
    for item, (tokens, rows) in enumerate(zip(words, (QUERIES, QUERIES, 0), strict=True)):
        start, middle = prompt.place_of["text"][item].tolist()
        assert prompt.place_of["graph"][item].tolist() == [middle, middle + rows]
        assert middle + rows == prompt.row_BPd.shape[1]
        assert torch.equal(prompt.row_BPd[item, start:middle], model.llm.embed(torch.tensor(tokens)))
        assert prompt.mask_BP[item].sum() == 1 + len(tokens) + rows
    read = ask(model)
    expected = model.output(read.query_BQW)
    torch.testing.assert_close(torch.stack([graph_rows(read, 0), graph_rows(read, 1)]), expected[:2])
    before = make_graph4mm(template="<graph>Question: <text>").read_questions(words, BATCH, [None] * 3).prompt
    assert (before.place_of["graph"][:, 1] < before.place_of["text"][:, 0]).all()


@pytest.mark.capability("G4-10", "G4-17")
@pytest.mark.parametrize("order", ["paper", "released"])
def test_text_that_is_passed_on_follows_the_queries_as_the_qformer_left_it(order):
    model = make_graph4mm(pass_text=True, order=order)
    read = ask(model, [PICTURED])
    ones = torch.ones(1, 7, dtype=torch.bool)
    out = model.qformer(read.text_NW[None], ones[:, :4], read.image_NW[None], ones[:, :3])
    expected = model.output(torch.cat([out.query_BQd[0], out.text_BTd[0]]))
    torch.testing.assert_close(graph_rows(read), expected, **close)


ROW_SETTINGS = {
    **MIXES,
    "nothing": {"reads": "nothing"},
    "words": {"node_text": "words", "template": "The text: <text>The graph: <graph>!"},
}


@pytest.mark.capability("G4-17")
@pytest.mark.parametrize("settings", ROW_SETTINGS.values(), ids=ROW_SETTINGS)
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_how_many_rows_a_prompt_has_is_known_beforehand(family, settings):
    model = make_graph4mm(family, **settings)
    graphs = list(GRAPHS.values())
    read = ask(model, graphs, [TEXTS[place % 3] for place in range(len(graphs))])
    for item, (graph, tokens) in enumerate(zip(graphs, read.tokens, strict=True)):
        others, times = model.prompt_rows(graph, num_patches=5)
        assert read.prompt.mask_BP[item].sum() == others + times * len(tokens)


# --- G4-13: losses


def plain_loss(model, read, item, target, *, whole):
    """Of one item: its own rows and target through the plain model, without padding, and cross-entropy by hand."""
    llm, prompt = model.llm, read.prompt
    rows = prompt.row_BPd[item][prompt.mask_BP[item]]
    all_rows = torch.cat([rows, llm.embed(torch.tensor(target))])[None]
    label = torch.full((all_rows.shape[1],), -1)
    label[len(rows) :] = torch.tensor(target)
    if whole:
        tokens = list(read.tokens[item])
        start = int(prompt.place_of["text"][item, 0]) - int((~prompt.mask_BP[item]).sum())
        label[start : start + len(tokens)] = torch.tensor(tokens)
    kept = (label[1:] >= 0).nonzero()[:, 0]
    logit = llm.model(inputs_embeds=all_rows).logits[0, :-1]
    return functional.cross_entropy(logit[kept], label[1:][kept], reduction="sum"), len(kept)


@pytest.mark.capability("G4-11", "G4-13")
@pytest.mark.parametrize("template", ["<text><graph>", "<graph>Question: <text>"])
@pytest.mark.parametrize("loss", ["target", "whole"])
@pytest.mark.parametrize("family", ["llama", "opt", "qwen2"])
def test_the_loss_is_the_cross_entropy_of_the_plain_model_and_no_row_of_the_graph_has_a_label(family, loss, template):
    model = make_graph4mm(family, loss=loss, template=template)
    read = ask(model)
    nll, count = model.answer_loss(read, TARGETS)
    for item, target in enumerate(TARGETS):
        expected, number = plain_loss(model, read, item, target, whole=loss == "whole")
        torch.testing.assert_close(nll[item], expected, **close)
        assert count[item] == number == len(target) + (len(read.tokens[item]) if loss == "whole" else 0)
    assert model.further_losses(read, torch.Generator()) == {}


def test_a_whole_text_has_no_label_for_its_first_token_where_nothing_comes_before_it():
    llm = make_llm("qwen2")
    llm.bos_id = None
    model = make_graph4mm(llm=llm, loss="whole")
    read = ask(model)
    nll, count = model.answer_loss(read, TARGETS)
    expected = [plain_loss(model, read, item, target, whole=True) for item, target in enumerate(TARGETS)]
    torch.testing.assert_close(nll, torch.stack([one for one, _ in expected]), **close)
    assert count.tolist() == [len(t) + len(s) - 1 for t, s in zip(read.tokens, TARGETS, strict=True)]


@pytest.mark.capability("G4-13")
def test_an_encoder_has_no_loss_over_the_whole_sequence():
    with pytest.raises(ConfigError, match="loss = 'whole' needs a causal language model"):
        make_graph4mm("t5", loss="whole")
    nll, count = make_graph4mm("t5").answer_loss(ask(make_graph4mm("t5")), TARGETS)
    assert nll.isfinite().all()
    assert count.tolist() == [3, 1, 2]


@pytest.mark.capability("G4-P4")
@pytest.mark.parametrize(
    ("family", "settings"),
    [(family, {"loss": loss}) for family in ("llama", "opt") for loss in ("target", "whole")]
    + [("t5", {}), *(("llama", one) for one in MIXES.values()), ("llama", {"node_text": "states"})],
)
def test_a_question_alone_has_the_loss_that_it_has_in_a_batch(family, settings):
    model = make_graph4mm(family, **settings)
    together = loss_of(model)
    for item, graph in enumerate(BATCH):
        alone = loss_of(model, [graph], TEXTS[item:], TARGETS[item:])
        torch.testing.assert_close(alone[0], together[item], **close)
    # the second is now another one, longer than all others
    other = [BATCH[0], EDGELESS, BATCH[2]]
    moved = loss_of(model, other, (TEXTS[0], "Bern is the capital of Switzerland." * 2, TEXTS[2]))
    torch.testing.assert_close(moved[[0, 2]], together[[0, 2]], **close)
    assert abs(moved[1] - together[1]) > 1e-3


@pytest.mark.capability("G4-12")
@pytest.mark.parametrize("family", ["llama", "opt", "qwen2", "t5"])
def test_it_writes_after_such_prompts_the_same_alone_and_in_a_batch(family):
    model = make_graph4mm(family)
    prompt = ask(model).prompt
    written = model.llm.generate(prompt.row_BPd, prompt.mask_BP, max_new_tokens=3)
    assert max(map(len, written)) > 0
    for item, graph in enumerate(BATCH):
        alone = ask(model, [graph], TEXTS[item:]).prompt
        assert model.llm.generate(alone.row_BPd, alone.mask_BP, max_new_tokens=3) == [written[item]]


# --- G4-12: what learns


def expected_count(config, d=16):
    """Parameters by formula: rows of nodes and norms, structure, QFormer, graph network, output."""
    width, kinds = config.width, (config.text_structure, config.image_structure)
    rows = VECTOR * width + width + width + 2 * width  # of one modality: the map, the missing row, the norm
    texts = rows + (2 * R + 1) * width * config.relations + config.places * width
    output = width * d + d
    if config.reads == "mean":
        return texts + output
    diffusions = kinds.count("diffused") if config.modalities == "separate" else min(1, kinds.count("diffused"))
    structure = diffusions * 2 * (width * width + width) + kinds.count("hop_aware") * (config.max_hops + 2) * width
    qformer = num_parameters(make_graph4mm(**config.model_dump()).qformer.config)
    gcn = 2 * (width * width + width) * config.graph_as_modality
    return texts + width + rows + structure + qformer + gcn + output  # width: the target's mark


@pytest.mark.capability("G4-12", "G4-P8")
@mixes
def test_all_beside_the_language_model_learns_and_the_model_stays_bit_for_bit(settings):
    llm = make_llm("llama")
    model = make_graph4mm(llm=llm, **settings).train()
    before = {name: value.clone() for name, value in llm.state_dict().items()}
    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    assert trainable_report(model).total.trainable == expected_count(model.config)
    shared = getattr(model, "image_structure", None) is getattr(model, "text_structure", 0) is not None
    twice = {name.replace("text_", "image_", 1) for name in start if name.startswith("text_structure.") and shared}
    assert set(trained_state(model)) == {*start, "relation_RD", *twice}
    loss_of(model).sum().backward()
    assert not any(name.startswith("llm.") for name in start)
    assert all(p.grad is None for p in llm.parameters())
    lacking = {
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or p.grad.abs().max() < 1e-5)
    }
    # a softmax over neighbours does not feel what is added to the logits of a row alike; otherwise all learn
    keys = {f"{part}_structure.key.bias" for part in ("text", "image")}
    assert lacking == {name for name in start if name in keys}
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(torch.equal(value, before[name]) for name, value in llm.state_dict().items())
    assert all(not torch.equal(p, start[name]) for name, p in model.named_parameters() if name in start.keys() - keys)


@pytest.mark.capability("G4-12")
def test_what_a_batch_does_not_hold_is_not_trained():
    model = make_graph4mm(places=9)
    loss_of(model, [TEXT_ONLY, LONE]).sum().backward()
    without = {n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    cross = "qformer.layers.0.cross_attention."
    assert {name for name in without if not name.startswith("image_")} == {
        "text_nodes.missing",
        *(cross + name for name in ("query.weight", "query.bias", "key_value.weight", "key_value.bias")),
        *(cross + name for name in ("output.weight", "output.bias")),
    }
    assert model.text_nodes.place.weight.grad.any(1).tolist() == [True] * 3 + [False] * 6
    used = model.text_nodes.relation.weight.grad.any(1).nonzero()[:, 0].tolist()
    assert used == [2, R]  # along relation 2, against relation 0; here none is untied


@pytest.mark.capability("G4-12", "G4-P8")
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_language_model_that_learns_changes_and_a_checkpoint_holds_it_beside_the_digest_of_its_start(
    family, tmp_path
):
    llm = make_llm(family, trains=True)
    model = make_graph4mm(llm=llm, node_text="words").train()
    assert not llm.model.training  # learning is no reason to drop anything
    digest, start = frozen_digests(model), {n: p.detach().clone() for n, p in llm.named_parameters()}
    assert digest == {"llm": make_llm(family).digest}
    loss_of(model).sum().backward()
    table = llm.model.get_input_embeddings().weight
    heard = set(llm.tokens("the capital of Switzerland")) - {t for text in TEXTS for t in llm.tokens(text)}
    heard -= {t for target in TARGETS for t in target}
    assert heard  # tokens that only a node says
    assert all(table.grad[token].any() for token in heard)
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    changed = {name for name, p in llm.named_parameters() if not torch.equal(p, start[name])}
    assert changed == {name for name, p in llm.named_parameters() if p.grad.any()}
    assert len(changed) > 0.8 * len(start)
    assert frozen_digests(model) == digest
    state = {name: value.clone() for name, value in trained_state(model).items()}
    assert {f"llm.{name}" for name in start} <= state.keys()
    other = make_graph4mm(llm=make_llm(family, trains=True), seed=1, node_text="words")
    load_trained(other, state, tmp_path)
    torch.testing.assert_close(loss_of(other), loss_of(model))


@pytest.mark.capability("G4-12")
def test_low_rank_changes_learn_alone_of_a_language_model():
    llm = make_llm("llama", lora=LoraConfig(rank=2, targets=("q_proj", "v_proj")))
    model = make_graph4mm(llm=llm).train()
    names = {name for name in trained_state(model) if name.startswith("llm.")}
    assert names
    assert all("lora_" in name for name in names)
    loss_of(model).sum().backward()
    assert {f"llm.{name}" for name, p in llm.named_parameters() if p.grad is not None} == names


def test_a_language_model_learns_in_one_way_and_in_float32():
    for settings in ({"lora": LoraConfig()}, {"dtype": "bfloat16"}, {"dtype": "auto"}):
        with pytest.raises(ValidationError, match="trains learns all weights in float32"):
            LlmConfig(trains=True, **settings)
    assert LlmConfig(trains=True).learns
    assert LlmConfig(lora=LoraConfig(), dtype="bfloat16").learns
    assert not LlmConfig(dtype="bfloat16").learns
    with pytest.raises(ConfigError, match="choose 'words'"):
        make_graph4mm(llm=make_llm("llama", trains=True), node_text="states")


# --- G4-17: baselines


@pytest.mark.capability("G4-17")
def test_that_reads_nothing_has_the_text_alone_and_nothing_to_learn():
    model = make_graph4mm(reads="nothing", graph_as_modality=True, pass_text=True)
    read = ask(model)
    assert (read.query_BQW, read.text_NW, read.image_NW) == (None, None, None)
    for item, text in enumerate(TEXTS):
        expected = model.llm.embed(torch.tensor([1, *model.llm.tokens(text)]))
        assert torch.equal(read.prompt.row_BPd[item][read.prompt.mask_BP[item]], expected)
    assert trainable_report(model).total.trainable == 0
    assert trained_state(model) == {}
    learns = make_graph4mm(llm=make_llm("llama", trains=True), reads="nothing")
    assert all(name.startswith("llm.") for name in trained_state(learns))  # nothing that is of one graph alone


def dense_gcn(gcn, row_NW, edges):
    """Degrees over edges, their inverses and self loops; two layers with what came in added."""
    count = len(row_NW)
    adjacency = torch.eye(count)
    for src, dst in edges:
        adjacency[dst, src] += 1
        adjacency[src, dst] += 1
    weight = adjacency / (adjacency.sum(1, keepdim=True) * adjacency.sum(0, keepdim=True)).sqrt()
    for layer, (project, end) in enumerate(zip(gcn.projections, gcn.ends, strict=True)):
        gathered = weight @ project(row_NW) + end.bias
        row_NW = row_NW + (functional.elu(gathered) if layer == 0 else gathered)
    return row_NW


@pytest.mark.capability("G4-17")
def test_a_graph_as_modality_is_one_row_more_the_graph_networks_mean_state_of_the_targets():
    settings = {"text_structure": "none", "image_structure": "none"}
    model, without = make_graph4mm(graph_as_modality=True, **settings), make_graph4mm(**settings)
    without.load_state_dict(model.state_dict(), strict=False)
    two = replace(TEXT_ONLY, num_seeds=2)
    none = replace(TEXT_ONLY, num_seeds=0)
    batch = [PICTURED, two, none]
    read, bare = ask(model, batch), ask(without, batch)
    for item, (graph, edges) in enumerate(
        [(PICTURED, [(0, 1), (1, 0), (2, 1), (3, 0)]), (two, [(0, 1), (2, 0)]), (none, [])]
    ):
        rows = graph_rows(read, item)
        assert len(rows) == QUERIES + 1
        torch.testing.assert_close(rows[:-1], graph_rows(bare, item), **close)
        state = dense_gcn(model.gcn, raw_rows(model, graph)[0], edges)
        mean = state[: graph.num_seeds].mean(0) if graph.num_seeds else torch.zeros(WIDTH)
        torch.testing.assert_close(rows[-1], model.output(mean), **close)


@pytest.mark.capability("G4-17")
def test_the_control_without_attention_is_one_row_the_mean_of_the_text_nodes():
    model = make_graph4mm(reads="mean", places=2)
    pictures = PICTURED.keep_nodes(PICTURED.is_image)
    read = ask(model, [PICTURED, pictures, TEXT_ONLY])
    for item, graph in ((0, PICTURED), (2, TEXT_ONLY)):
        text = graph.text_subgraph()
        mean = model.text_norm(model.text_nodes([text], batch_multimodal([text]))).mean(0, keepdim=True)
        torch.testing.assert_close(graph_rows(read, item), model.output(mean), **close)
    assert len(graph_rows(read, 1)) == 0


@pytest.mark.capability("G4-17")
def test_without_structure_and_relations_edges_change_nothing():
    bare = replace(PICTURED, src_E=PICTURED.src_E[:0], relation_E=PICTURED.relation_E[:0], dst_E=PICTURED.dst_E[:0])
    for settings, felt in (({}, False), ({"relations": True}, True), ({"text_structure": "diffused"}, True)):
        none = {"text_structure": "none", "image_structure": "none", "relations": False}
        model = make_graph4mm(**{**none, **settings})
        assert torch.allclose(graph_rows(ask(model, [PICTURED])), graph_rows(ask(model, [bare])), **close) != felt


# --- what cannot be read


def test_what_does_not_fit_is_told():
    model = make_graph4mm()
    with pytest.raises(ConfigError, match="a subgraph for each of 2 questions, found 1"):
        model.read_questions([[5], [6]], [PICTURED], [None, None])
    with pytest.raises(ConfigError, match="question 1 of the batch has no text"):
        model.read_questions([[5], []], [PICTURED, EMPTY], [None, None])
    with pytest.raises(ConfigError, match=f"made for {R} relations, found subgraphs with {R + 1}"):
        ask(model, [replace(PICTURED, num_relations=R + 1)])
    with pytest.raises(ConfigError, match="has no <text>"):
        make_graph4mm(template="<graph>")
    with pytest.raises(ConfigError, match="has no <graph>, so what is read of it would be lost"):
        make_graph4mm(template="<text>")
    with pytest.raises(ConfigError, match="slot of a prompt"):
        make_graph4mm(template="<text><knowledge>")
    with pytest.raises(ValidationError, match="width 9 cannot be split over 2 heads"):
        Graph4mmConfig(width=9, num_heads=2)
    with pytest.raises(ConfigError, match="num_terms"):
        make_graph4mm(num_terms=0)
    assert Graph4mmConfig(alpha=0.1, num_terms=4).left_out == pytest.approx(0.6561)
    assert Graph4mmConfig(num_terms="exact").left_out == 0


# --- learnt from questions


@pytest.fixture(scope="module")
def made():
    """Some that nothing is known of, some without pictures, some with a picture of their own."""
    made = synthetic_questions(SyntheticConfig(num_train=9, num_valid=4, num_test=2, num_others=1, dimension=VECTOR))
    made = replace(made, train=list(made.train))
    made.train[0] = replace(made.train[0], subgraph=made.train[0].subgraph.keep_nodes(np.zeros(_size(made, 0), bool)))
    made.train[1] = replace(made.train[1], subgraph=made.train[1].subgraph.text_subgraph())
    made.train[2] = replace(made.train[2], patches=np.ones((3, 4), np.float32), text=made.train[2].text * 2)
    return made


def _size(made, row):
    return made.train[row].subgraph.num_nodes


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_questions_are_learnt_from_and_answered_and_lengths_are_known_beforehand(made, kind):
    llm = make_tiny_llm(kind, width=16)
    settings = {"node_text": "words", "pass_text": True, "graph_as_modality": True}
    settings["loss"] = "whole" if kind == "causal" else "target"
    model = make_learning(llm, made, **settings)
    asking = AskingSettings(batch_size=4, max_text_tokens=32, max_answer_tokens=4)
    learner = QuestionLearner(model.eval(), made, asking, device=torch.device("cpu"))
    batches = learner.batches(np.random.default_rng(0))
    assert sorted(row for rows in batches for row in rows) == list(range(9))
    for rows in batches:
        asked = [learner._train[row] for row in rows]
        prompt = learner._read(asked).prompt
        assert prompt.mask_BP.sum(1).tolist() == learner.length_Q[rows].tolist()
        each = [model.answer_loss(learner._read([one]), [one.target]) for one in asked]
        total, count = (sum(part.item() for part in parts) for parts in zip(*each, strict=True))
        parts = learner.loss(rows, np.random.default_rng(0))
        assert parts.weight == count
        assert parts.loss.item() == pytest.approx(total / count, rel=1e-4)
        assert parts.numbers.keys() == {"answer_loss"}
        parts.loss.backward()
    assert model.output.weight.grad.any()
    choices = learner.answer(made.valid)
    assert all(answer.given in question.choices for answer, question in zip(choices, made.valid, strict=True))
    assert len(learner.write(made.valid)) == 4
    assert 0 <= learner.look().score <= 1
    learner.load_state(learner.state())


def make_learning(llm, made, **settings):
    config = Graph4mmConfig(width=WIDTH, num_heads=2, num_queries=QUERIES, **settings)
    return Graph4mm(config, llm, relation_RD=torch.from_numpy(made.relation_RD))


@pytest.mark.capability("G4-05")
def test_a_page_ties_its_pictures_itself_and_an_entity_lends_its_edges():
    """Of two entities that a fact joins, each with a picture: the pictures hear of each other only by lent edges."""
    moved = with_vector(PICTURED, 5, 2.0)  # the picture of France
    for lent, changes in ((True, True), (False, False)):
        model = make_graph4mm(lent_edges=lent, image_structure="diffused", residual=False)
        rows = [ask(model, [one]).image_NW[0] for one in (PICTURED, moved)]
        assert torch.allclose(*rows) is not changes


def test_words_are_hidden_when_training_alone():
    """With nearly all of them hidden, rows of the text are zeros; those of the graph stay."""
    model = make_graph4mm(word_dropout=0.999)
    words = [model.llm.tokens(TEXTS[0])]
    seen = model.eval().read_questions(words, [PICTURED], [None]).prompt
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = model.train().read_questions(words, [PICTURED], [None]).prompt
    first, last = seen.place_of["text"][0].tolist()
    assert (seen.row_BPd[0, first:last] != 0).any(dim=1).all()
    assert (hidden.row_BPd[0, first:last] == 0).all()
    assert torch.equal(seen.row_BPd[0, last:], hidden.row_BPd[0, last:])
