"""Analogies without a model: what frequency, look-up, the graph's own edges and vector offsets reach.

A result on MARS says something only beside these rows: the published .405 Hits@1 is what a look-up reaches that never
reads the example. Every function gives scores, float32 (Q, C), one row an item and one column a candidate. Those with
keys are whole numbers that say the order only: the first key decides, ties go to the next, and last to the frequency
of the candidate as an answer in train. Question and example stay among the candidates: in 66 dev items the answer is
one of them.

Hits@1 on the 1,020 dev items, by how a pair is used (from its head to its tail, or both ways) and by what the frequency
counts (train items, or their distinct facts); realistic ranks:

| scores | head to tail, items | head to tail, facts | both ways, items | both ways, facts |
| --- | --- | --- | --- | --- |
| partners | .340 | .330 | .332 | .319 |
| partners and neighbours | .412 | .402 | .387 | .377 |

Defaults are the strongest, since a control should be. Partners head to tail without the frequency reach .311.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from mmkg.errors import ConfigError
from mmkg.evaluation.analogy import BoolArray, Float32Array, answer_columns
from mmkg.tasks.mars import Int64Array, MarsItem, as_columns

Counting: TypeAlias = Literal["items", "facts"]
"""What a frequency counts: train items, or their distinct (question, relation, answer)."""


def answer_frequency_scores(
    train: Sequence[MarsItem], items: Sequence[MarsItem], candidate_C: Int64Array, *, counting: Counting = "items"
) -> Float32Array:
    """Return how often each candidate is an answer in train: the same row for every item."""
    frequency_C = _answer_frequency(train, candidate_C, counting)
    return np.tile(frequency_C.astype(np.float32), (len(items), 1))


def partner_scores(
    train: Sequence[MarsItem],
    items: Sequence[MarsItem],
    candidate_C: Int64Array,
    *,
    both_ways: bool = False,
    counting: Counting = "items",
) -> Float32Array:
    """Look the question up in the pairs of train, examples included, whatever their relation. The example is not read.

    Keys: the number of relations under which the question stands with the candidate in a pair; frequency.

    Args:
        train: where to look.
        items: whose questions are looked up.
        candidate_C: entities to score.
        both_ways: use a pair from its tail to its head too.
        counting: of the frequency.
    """
    partner_QC = _partner_counts(train, items, candidate_C, both_ways)
    return _lexicographic(partner_QC, _answer_frequency(train, candidate_C, counting)[None, :])


def partner_and_neighbour_scores(
    train: Sequence[MarsItem],
    triple_T3: Int64Array,
    items: Sequence[MarsItem],
    candidate_C: Int64Array,
    *,
    both_ways: bool = False,
    counting: Counting = "items",
) -> Float32Array:
    """Look the question up in train and in the graph, under any relation. The example is not read.

    Keys: is a partner; is a neighbour; the number of relations as a partner; frequency. So first come partners that
    are neighbours too, then other partners, then other neighbours.

    Args:
        train: where partners come from.
        triple_T3: head, relation, tail of the graph; the strict ones, or all.
        items: whose questions are looked up.
        candidate_C: entities to score.
        both_ways: use pairs and edges from tail to head too.
        counting: of the frequency.
    """
    partner_QC = _partner_counts(train, items, candidate_C, both_ways)
    edge_E2 = triple_T3[:, [0, 2]]
    if both_ways:
        edge_E2 = np.concatenate([edge_E2, edge_E2[:, ::-1]])
    neighbour_QC = _count_edges(edge_E2, as_columns(items)[:, 2], candidate_C)
    frequency_C = _answer_frequency(train, candidate_C, counting)
    return _lexicographic(partner_QC > 0, neighbour_QC > 0, partner_QC, frequency_C[None, :])


def inferred_relation_scores(
    train: Sequence[MarsItem],
    triple_T3: Int64Array,
    items: Sequence[MarsItem],
    candidate_C: Int64Array,
    *,
    counting: Counting = "items",
) -> Float32Array:
    """Infer the relation from the graph's edges between the two entities of the example; follow it from the question.

    Keys: the number of edges from the question to the candidate whose relation and direction is that of an edge from
    example head to example tail; frequency. Where the graph has no such edge, the frequency alone decides.

    Args:
        train: where frequencies come from.
        triple_T3: head, relation, tail of the graph.
        items: analogies.
        candidate_C: entities to score.
        counting: of the frequency.
    """
    between: dict[tuple[int, int], list[tuple[int, bool]]] = {}  # (from, to) -> (relation, is the edge reversed)
    reached: dict[tuple[int, int, bool], list[int]] = {}  # (from, relation, reversed) -> to
    for head, relation, tail in triple_T3.tolist():
        for first, second, is_reversed in ((head, tail, False), (tail, head, True)):
            between.setdefault((first, second), []).append((relation, is_reversed))
            reached.setdefault((first, relation, is_reversed), []).append(second)
    column_of = {entity: column for column, entity in enumerate(candidate_C.tolist())}
    count_QC = np.zeros((len(items), len(candidate_C)), dtype=np.int64)
    for row, item in enumerate(items):
        for relation, is_reversed in between.get((item.example_head, item.example_tail), ()):
            for entity in reached.get((item.question, relation, is_reversed), ()):
                if (column := column_of.get(entity)) is not None:
                    count_QC[row, column] += 1
    return _lexicographic(count_QC, _answer_frequency(train, candidate_C, counting)[None, :])


def offset_scores(
    vector_ND: Float32Array, items: Sequence[MarsItem], candidate_C: Int64Array, *, exclude_inputs: bool = False
) -> Float32Array:
    r"""Return the cosine of each candidate with t - h + q, the analogy as a parallelogram.

    .. math:: s(c) = \cos(v_c,\; v_t - v_h + v_q)

    with h, t the example and q the question (Mikolov et al., NAACL 2013). Vectors are used as given; normalise them
    first for 3CosAdd. A cosine with a vector of zeros is 0.

    Args:
        vector_ND: of all entities of the graph.
        items: analogies.
        candidate_C: entities to score.
        exclude_inputs: put h, t and q last, as word analogies do. Not by default: they may be the answer.

    Raises:
        ConfigError: an entity has no vector.
    """
    columns_Q4 = as_columns(items)
    highest = max(columns_Q4[:, :3].max(initial=-1), candidate_C.max(initial=-1))
    if vector_ND.ndim != 2 or highest >= len(vector_ND):
        raise ConfigError(f"expected a vector for each entity up to index {highest}, found shape {vector_ND.shape}")
    head_Q, tail_Q, question_Q = columns_Q4[:, 0], columns_Q4[:, 1], columns_Q4[:, 2]
    target_QD = vector_ND[tail_Q] - vector_ND[head_Q] + vector_ND[question_Q]
    score_QC = (_unit_rows(target_QD) @ _unit_rows(vector_ND[candidate_C]).T).astype(np.float32)
    if exclude_inputs:
        for input_Q in (head_Q, tail_Q, question_Q):
            column_Q = answer_columns(input_Q, candidate_C)
            row_Q = np.flatnonzero(column_Q >= 0)
            score_QC[row_Q, column_Q[row_Q]] = -np.inf
    return score_QC


def _answer_frequency(train: Sequence[MarsItem], candidate_C: Int64Array, counting: Counting) -> Int64Array:
    answers = [item.answer for item in train]
    if counting == "facts":
        answers = [answer for _, _, answer in {(item.question, item.relation, item.answer) for item in train}]
    column = answer_columns(np.array(answers, dtype=np.int64), candidate_C)
    return np.bincount(column[column >= 0], minlength=len(candidate_C))


def _partner_counts(
    train: Sequence[MarsItem], items: Sequence[MarsItem], candidate_C: Int64Array, both_ways: bool
) -> Int64Array:
    """(Q, C): under how many relations the question stands with the candidate in a pair of train."""
    facts: set[tuple[int, int, str]] = set()
    for item in train:
        for first, second in ((item.example_head, item.example_tail), (item.question, item.answer)):
            facts.add((first, second, item.relation))
            if both_ways:
                facts.add((second, first, item.relation))
    edge_E2 = np.array([fact[:2] for fact in facts], dtype=np.int64).reshape(-1, 2)
    return _count_edges(edge_E2, as_columns(items)[:, 2], candidate_C)


def _count_edges(edge_E2: Int64Array, question_Q: Int64Array, candidate_C: Int64Array) -> Int64Array:
    """(Q, C): how many edges lead from the question to the candidate."""
    asked_U, row_Q = np.unique(question_Q, return_inverse=True)
    count_UC = np.zeros((len(asked_U), len(candidate_C)), dtype=np.int64)
    if len(asked_U):
        row_E, column_E = answer_columns(edge_E2[:, 0], asked_U), answer_columns(edge_E2[:, 1], candidate_C)
        both_E = (row_E >= 0) & (column_E >= 0)
        np.add.at(count_UC, (row_E[both_E], column_E[both_E]), 1)
    return count_UC[row_Q]


def _lexicographic(*keys: Int64Array | BoolArray) -> Float32Array:
    """(Q, C): numbers in the order of the keys, the first decides; float32 holds them exactly."""
    combined = np.zeros((1, 1), dtype=np.int64)
    for key in keys:
        combined = combined * (int(key.max(initial=0)) + 1) + key
    levels, place = np.unique(combined, return_inverse=True)  # few, where the products may be large
    return np.arange(len(levels), dtype=np.float32)[place.reshape(combined.shape)]


def _unit_rows(vector_ND: Float32Array) -> Float32Array:
    length_N1 = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    return np.divide(vector_ND, length_N1, out=np.zeros_like(vector_ND), where=length_N1 > 0)
