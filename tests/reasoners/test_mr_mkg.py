"""MR-MKG: its prompt, its losses, what of it learns, and what each switch takes away."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError
from mmkg.reasoners.mr_mkg import MrMkgInput
from mmkg.reasoners.ranking import RankingHead
from mmkg.reasoners.trainable import trainable_report
from mmkg.subgraphs.assemble import assemble
from mmkg.subgraphs.batch_multimodal import batch_multimodal

from .made_questions import RELATIONS, SUBGRAPHS, TEXTS, VECTOR, make_input, make_model

TARGETS = [[5, 6, 7], [8], [9, 10]]


def lengths(model):
    return [len(model.llm.tokens(text)) for text in TEXTS]


@pytest.mark.capability("MR-12")
def test_the_prompt_is_knowledge_then_picture_then_text_and_empty_parts_are_left_out():
    model = make_model()
    prompt = model.read(make_input(model)).prompt
    first = 1  # the token that this LLM expects first
    one, two, three = lengths(model)
    # the second question has no picture, the third no knowledge
    assert prompt.mask_BP.sum(dim=1).tolist() == [first + 3 * one, first + 2 * two, first + 2 * three]
    for item, (length, parts) in enumerate([(one, 3), (two, 2), (three, 2)]):
        ends = [prompt.place_of[name][item].tolist() for name in ("knowledge", "image", "text")]
        assert ends[0][1] == ends[1][0]
        assert ends[1][1] == ends[2][0]
        assert ends[2][1] == prompt.row_BPd.shape[1]
        assert ends[2][1] - ends[0][0] == parts * length
    text = model.llm.embed(torch.tensor([model.llm.tokens(TEXTS[0])]))
    assert torch.equal(prompt.row_BPd[0, -one:], text[0])


@pytest.mark.capability("MR-10", "MR-P4")
@pytest.mark.parametrize("query", ["text", "image"])
def test_each_row_of_knowledge_is_a_mean_of_adapted_nodes_and_there_are_as_many_as_the_query_has(query):
    model = make_model(query=query)
    read = model.read(make_input(model))
    start, end = read.prompt.place_of["knowledge"][0].tolist()
    assert end - start == (lengths(model)[0] if query == "text" else 4)
    rows = read.prompt.row_BPd[0, start:end]
    nodes = read.row_Nd[:8]  # 5 entities and 3 pictures
    assert (rows <= nodes.max(dim=0).values + 1e-5).all()
    assert (rows >= nodes.min(dim=0).values - 1e-5).all()
    weights = torch.linalg.lstsq(
        torch.cat([nodes, torch.ones(8, 1)], 1).T, torch.cat([rows, torch.ones(end - start, 1)], 1).T
    )
    assert torch.allclose(
        torch.cat([nodes, torch.ones(8, 1)], 1).T @ weights.solution,
        torch.cat([rows, torch.ones(end - start, 1)], 1).T,
        atol=1e-3,
    )


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_one_question_alone_is_the_same_as_in_a_batch(family):
    model = make_model(family)
    whole = model.read(make_input(model))
    nll, count = model.answer_loss(whole, TARGETS)
    states = model.states(whole)
    for item in range(3):
        alone = model.read(make_input(model, items=[item]))
        one_nll, one_count = model.answer_loss(alone, [TARGETS[item]])
        assert torch.allclose(one_nll, nll[item : item + 1], atol=1e-4)
        assert one_count.tolist() == [count[item].item()]
        assert torch.allclose(model.states(alone), states[item : item + 1], atol=1e-4)


@pytest.mark.capability("MR-14", "MR-P6")
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_adapters_and_encoder_learn_and_the_llm_stays_bit_for_bit(family):
    model = make_model(family).train()
    before = {name: value.clone() for name, value in model.llm.state_dict().items()}
    batch = make_input(model)
    read = model.read(batch)
    nll, count = model.answer_loss(read, TARGETS)
    loss = (nll / count).mean() + model.alignment_loss(read, batch.graph, torch.Generator().manual_seed(0))
    loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name in trained if name.startswith("llm.")]
    lacking = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    # no node of the batch lacks its vector, and it holds no attribute
    assert lacking == ["knowledge.missing.weight"]
    assert all(p.grad is None for p in model.llm.parameters())
    torch.optim.SGD(trained.values(), lr=0.1).step()
    assert all(torch.equal(value, before[name]) for name, value in model.llm.state_dict().items())
    report = trainable_report(model)
    assert report.total.trainable == sum(p.numel() for p in trained.values())


def test_beside_a_language_model_in_bfloat16_it_learns_in_float32_and_under_autocast_too():
    for family in ("llama", "t5"):
        exact = make_model(family)
        for autocast in (False, True):
            model = make_model(family)
            model.llm.model.to(torch.bfloat16)
            batch = make_input(model)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                read = model.read(batch)
                nll, count = model.answer_loss(read, TARGETS)
                model.states(read).sum().backward(retain_graph=True)
                (nll / count).mean().backward()
            assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
            assert model.knowledge.node.weight.grad.isfinite().all()
            right = exact.answer_loss(exact.read(batch), TARGETS)[0]
            assert torch.allclose(nll, right, rtol=0.05, atol=0.3)


@pytest.mark.capability("MR-20")
def test_each_switch_takes_away_its_part_alone():
    whole = make_model()
    parts = {name for name, _ in whole.named_children()}
    assert parts == {"llm", "knowledge", "knowledge_adapter", "visual_adapter"}
    assert {name for name, _ in make_model(knowledge="none").named_children()} == parts - {
        "knowledge",
        "knowledge_adapter",
    }
    assert {name for name, _ in make_model(pictures=False).named_children()} == parts - {"visual_adapter"}
    batch = make_input(whole)
    bare = make_model(knowledge="none", pictures=False)
    assert bare.read(batch).prompt.mask_BP.sum(dim=1).tolist() == [1 + length for length in lengths(bare)]
    # without alignment: nothing but the weight of its loss, so the same parameters and the same prompt
    without = make_model(alignment_weight=0.0)
    assert torch.equal(without.read(batch).prompt.row_BPd, whole.read(batch).prompt.row_BPd)


@pytest.mark.capability("MR-20")
@pytest.mark.parametrize("encoder", ["rgat", "gat", "gcn", "none"])
@pytest.mark.parametrize("query", ["text", "image"])
def test_text_only_knowledge_is_the_subgraph_without_its_pictures(encoder, query):
    texts = [subgraph.text_subgraph() for subgraph in SUBGRAPHS]
    first = SUBGRAPHS[0]
    no_entity = first.keep_nodes(first.is_image)  # of this one nothing is left
    for whole, bare in ((SUBGRAPHS, texts), ([no_entity, *SUBGRAPHS[1:]], [no_entity.text_subgraph(), *texts[1:]])):
        model, other = (make_model(knowledge=one, encoder=encoder, query=query) for one in ("text", "multimodal"))
        read = model.read(make_input(model, subgraphs=whole))
        right = other.read(make_input(other, subgraphs=bare))
        assert read.prompt.mask_BP.tolist() == right.prompt.mask_BP.tolist()
        assert torch.allclose(read.prompt.row_BPd, right.prompt.row_BPd, atol=1e-5)
        read_whole = other.read(make_input(other, subgraphs=whole)).prompt
        assert read_whole.row_BPd.shape != right.prompt.row_BPd.shape or not torch.allclose(
            read_whole.row_BPd, right.prompt.row_BPd, atol=1e-3
        )
        graph = make_input(model, subgraphs=whole).graph
        assert model.alignment_loss(read, graph, torch.Generator()).item() == 0


@pytest.mark.capability("MR-20")
def test_an_edge_that_is_hidden_stays_hidden_of_text_only_knowledge():
    model = make_model(knowledge="text")
    batch = make_input(model)
    keep = torch.ones(batch.graph.graph.num_edges, dtype=torch.bool)
    shown = model.states(model.read(batch))
    assert torch.equal(model.states(model.read(replace(batch, keep_E=keep))), shown)
    keep[[0, 3]] = False  # of the first subgraph's triples between entities
    assert not torch.allclose(model.states(model.read(replace(batch, keep_E=keep))), shown, atol=1e-5)


@pytest.mark.capability("MR-09")
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a_node_hears_of_those_that_are_as_many_steps_away_as_there_are_layers(num_layers):
    model = make_model(num_layers=num_layers)
    chain = assemble(  # a - b - c - d - e
        entity_ids=list("abcde"),
        labels=[None] * 5,
        vectors=list(np.eye(5, VECTOR, dtype=np.float32)),
        src=np.arange(4),
        relation=np.zeros(4, np.int64),
        dst=np.arange(1, 5),
        num_relations=RELATIONS,
        num_seeds=1,
        dimension=VECTOR,
    )
    tokens = [model.llm.tokens("Bern")]
    heard = []
    for node in range(1, 5):
        other = replace(chain, vector_ND=np.where(np.arange(5)[:, None] == node, 2.0, chain.vector_ND).astype("f4"))
        states = [
            model.read(MrMkgInput(tokens=tokens, graph=batch_multimodal([one]))).node_NW[0] for one in (chain, other)
        ]
        heard.append(not torch.equal(*states))
    assert heard == [distance <= num_layers for distance in range(1, 5)]


@pytest.mark.capability("MR-P3")
def test_the_relation_of_an_edge_reaches_the_llm_with_rgat_and_not_with_gat():
    for encoder, felt in (("rgat", True), ("gat", False)):
        model = make_model(encoder=encoder)
        other = [
            replace(s, relation_E=np.where(s.relation_E < 3, (s.relation_E + 1) % 3, s.relation_E)) for s in SUBGRAPHS
        ]
        states = [model.states(model.read(make_input(model, subgraphs=s))) for s in (SUBGRAPHS, other)]
        assert torch.allclose(*states, atol=1e-6) != felt


@pytest.mark.capability("MR-11")
@pytest.mark.parametrize("negatives", ["all", "nearest"])
def test_alignment_draws_pictures_of_each_graph_and_is_a_mean_over_graphs(negatives):
    model = make_model(margin=100.0, pictures_per_graph=8, negatives=negatives)
    batch = make_input(model)
    read = model.read(batch)
    loss = model.alignment_loss(read, batch.graph, torch.Generator().manual_seed(0))
    rows, total = read.row_Nd, 0.0
    for picture in batch.graph.picture_K.tolist():
        hinges = [0.0]
        for other in batch.graph.entity_of_picture_K.tolist():
            own = dict(zip(batch.graph.picture_K.tolist(), batch.graph.entity_of_picture_K.tolist(), strict=True))[
                picture
            ]
            index = batch.graph.graph.graph_index()
            if other != own and index[other] == index[picture]:
                near, far = ((rows[picture] - rows[one]).norm().item() for one in (own, other))
                hinges.append(max(0.0, near - far + 100))
        total += sum(hinges) if negatives == "all" else max(hinges)
    assert loss.item() == pytest.approx(total / 3, rel=1e-4)
    bare = make_input(model, subgraphs=[s.text_subgraph() for s in SUBGRAPHS])
    assert model.alignment_loss(model.read(bare), bare.graph, torch.Generator()).item() == 0


def test_an_edge_that_is_hidden_is_as_if_it_were_not_there():
    model = make_model()
    batch = make_input(model)
    keep = torch.ones(batch.graph.graph.num_edges, dtype=torch.bool)
    keep[[0, 3]] = False
    hidden = model.states(model.read(replace(batch, keep_E=keep)))
    first = SUBGRAPHS[0]
    stays = np.array([number not in (0, 3) for number in range(first.num_edges)])
    less = replace(first, src_E=first.src_E[stays], relation_E=first.relation_E[stays], dst_E=first.dst_E[stays])
    gone = model.states(model.read(make_input(model, subgraphs=[less, *SUBGRAPHS[1:]])))
    assert torch.allclose(hidden, gone, atol=1e-5)
    assert not torch.allclose(hidden, model.states(model.read(batch)), atol=1e-5)


def test_a_batch_of_empty_subgraphs_is_read_by_its_text():
    model = make_model()
    read = model.read(make_input(model, items=[2], pictures=(False, False, False)))
    assert read.prompt.mask_BP.sum().item() == 1 + lengths(model)[2]
    assert torch.isfinite(model.states(read)).all()


def test_what_cannot_be_read_is_told():
    model = make_model()
    batch = make_input(model)
    with pytest.raises(ConfigError, match="question 1 of the batch has no text"):
        model.read(replace(batch, tokens=[[3], [], [4]]))
    with pytest.raises(ConfigError, match="a subgraph for each of 3 questions, found none"):
        model.read(replace(batch, graph=None))
    with pytest.raises(ConfigError, match="a subgraph for each of 3 questions, found 1"):
        model.read(replace(batch, graph=batch_multimodal(SUBGRAPHS[:1])))
    with pytest.raises(ConfigError, match="has no <text>"):
        make_model(template="<knowledge>")
    with pytest.raises(ConfigError, match="expected exactly where"):
        model.read(replace(batch, feature_NF=torch.ones(batch.graph.graph.num_nodes, 2)))


# --- the ranking head


def make_head(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RankingHead(**{"num_known": 3, "state_width": 4, "node_width": 2, **settings}).eval()


@pytest.mark.capability("MR-16")
def test_scores_are_over_exactly_the_candidates_and_a_node_that_is_none_has_no_say():
    head = make_head()
    state, known = torch.randn(2, 4), torch.randn(2, 5, 3)
    item, candidate = torch.tensor([0, 0, 1, 1]), torch.tensor([3, -1, -1, -1])
    nodes = torch.randn(4, 2)
    score = head(state, known, nodes, item, candidate)
    assert score.shape == (2, 5)
    without = head(state, known)
    assert (score != without).nonzero().tolist() == [[0, 3]]
    twice = head(state, known, nodes[[0, 0]], item[[0, 0]], candidate[[0, 0]])
    assert (twice - without)[0, 3].item() == pytest.approx(2 * (score - without)[0, 3].item(), rel=1e-4)


@pytest.mark.capability("MR-16")
def test_a_score_is_the_sum_of_the_three_terms_of_the_formula():
    head = make_head(hidden_width=6)
    with torch.no_grad():
        head.known_F.copy_(torch.tensor([2.0, 0.0, -1.0]))
    state, known, nodes = torch.randn(2, 4), torch.randn(2, 5, 3), torch.randn(1, 2)
    score = head(state, known, nodes, torch.tensor([1]), torch.tensor([4]))
    for item in range(2):
        read = head.read.weight @ state[item] + head.read.bias
        for candidate in range(5):
            numbers = known[item, candidate]
            hidden = torch.nn.functional.gelu(head.known.weight @ numbers + head.known.bias + read)
            expected = head.known_F @ numbers + head.candidate[-1].weight[0] @ hidden + head.candidate[-1].bias[0]
            if (item, candidate) == (1, 4):
                expected = expected + head.node(torch.cat([nodes[0], numbers, read]))[0]
            assert score[item, candidate].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.capability("MR-16")
def test_candidates_in_another_order_have_their_scores_in_that_order():
    head, order = make_head(), torch.tensor([4, 2, 0, 1, 3])
    state, known = torch.randn(2, 4), torch.randn(2, 5, 3)
    assert torch.allclose(head(state, known[:, order]), head(state, known)[:, order], atol=1e-6)


def test_a_question_needs_no_picture_and_no_graph_where_the_model_reads_none():
    model = make_model(knowledge="none", pictures=False)
    read = model.read(MrMkgInput(tokens=[[3, 4]]))
    assert read.node_NW is None
    assert read.prompt.mask_BP.sum().item() == 3
