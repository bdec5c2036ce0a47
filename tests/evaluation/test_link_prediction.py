"""Ranks: by hand, by brute force, within bounded memory, and equal to PyKEEN's."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import ConfigError, TrainingError
from mmkg.evaluation.link_prediction import KnownTails, rank_triples, with_inverse_triples
from mmkg.evaluation.metrics import summarise_ranks


class TableScorer:
    """Scores from a table (2R, N, N): relation, head, tail."""

    def __init__(self, table) -> None:
        self.table = torch.as_tensor(table)
        self.num_relations = self.table.shape[0] // 2
        self.num_entities = self.table.shape[1]

    def score(self, query_B2, start, stop):
        return self.table[query_B2[:, 1], query_B2[:, 0], start:stop].clone()


def triples_of(*rows):
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def rank(scorer, triples, known=None, **options):
    known = triples if known is None else known
    return rank_triples(scorer, triples, KnownTails(known, num_relations=scorer.num_relations), **options)


def one_relation(tail_scores, head_scores):
    """One triple (0, 0, 1) among four entities: the scores of all tails, and of all heads."""
    table = np.zeros((2, 4, 4), dtype=np.float32)
    table[0, 0], table[1, 1] = tail_scores, head_scores
    return TableScorer(table)


def test_ranks_by_hand():
    #                          tails: entity 2 beats the true 1    heads: the true 0 is best
    ranks = rank(one_relation([0.1, 0.5, 0.9, 0.3], [5.0, 1.0, 2.0, 3.0]), triples_of([0, 0, 1]))
    assert ranks.realistic.tolist() == [[2.0, 1.0]]
    assert ranks.num_candidates.tolist() == [[4, 4]]


def test_a_known_better_answer_is_put_aside():
    scorer = one_relation([0.1, 0.5, 0.9, 0.3], [5.0, 1.0, 2.0, 3.0])
    ranks = rank(scorer, triples_of([0, 0, 1]), triples_of([0, 0, 1], [0, 0, 2]))
    assert ranks.realistic[0, 0] == 1
    assert ranks.num_candidates.tolist() == [[3, 4]]


def test_ties_stand_in_the_middle():
    ranks = rank(one_relation([7.0, 7.0, 7.0, 8.0], [1.0, 1.0, 1.0, 1.0]), triples_of([0, 0, 1]))
    assert ranks.optimistic.tolist() == [[2, 1]]
    assert ranks.pessimistic.tolist() == [[4, 4]]
    assert ranks.realistic.tolist() == [[3.0, 2.5]]


def test_a_model_that_scores_all_alike_ranks_like_chance():
    triples = triples_of([0, 0, 1], [2, 0, 3], [1, 0, 3])
    metrics = summarise_ranks(rank(TableScorer(np.zeros((2, 4, 4))), triples), draws=10)
    assert metrics.both["adjusted_mean_rank"].value == pytest.approx(1.0)
    assert metrics.both["adjusted_mean_rank_index"].value == pytest.approx(0.0)


def test_heads_are_ranked_with_the_inverse_relation():
    table = np.zeros((4, 3, 3), dtype=np.float32)
    table[1, 0] = [0, 9, 0]  # (0, 1, ?): the true tail 1 wins
    table[3, 1] = [0, 5, 5]  # (?, 1, 1) is (1, 1 + R, ?): the true head 0 loses to both
    ranks = rank(TableScorer(table), triples_of([0, 1, 1]))
    assert ranks.realistic.tolist() == [[1.0, 3.0]]


def _brute_force(table, triples, known):
    """Optimistic and pessimistic ranks in plain Python, entity by entity."""
    num_relations, num_entities = len(table) // 2, table.shape[1]
    true = {tuple(row) for row in with_inverse_triples(known, num_relations).tolist()}
    out = np.empty((len(triples), 2, 2), dtype=np.int64)
    for number, (head, relation, tail) in enumerate(triples.tolist()):
        for side, (h, r, t) in enumerate([(head, relation, tail), (tail, relation + num_relations, head)]):
            row = table[r, h]
            rivals = [row[e] for e in range(num_entities) if e != t and (h, r, e) not in true]
            better = sum(score > row[t] for score in rivals)
            out[number, side] = 1 + better, 1 + better + sum(score == row[t] for score in rivals)
    return out


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scores_at_once=st.integers(1, 200), candidates_at_once=st.integers(1, 12))
def test_ranks_are_those_of_brute_force_for_any_chunks(seed, scores_at_once, candidates_at_once):
    random = np.random.default_rng(seed)
    num_entities, num_relations = int(random.integers(2, 10)), int(random.integers(1, 4))
    table = random.integers(0, 4, size=(2 * num_relations, num_entities, num_entities)).astype(np.float32)  # many ties
    known = random.integers(0, [num_entities, num_relations, num_entities], size=(20, 3)).astype(np.int64)
    triples = known[:8] if seed % 2 else random.integers(0, [num_entities, num_relations, num_entities], size=(8, 3))
    ranks = rank(
        TableScorer(table), triples, known, scores_at_once=scores_at_once, candidates_at_once=candidates_at_once
    )
    expected = _brute_force(table, triples, known)
    np.testing.assert_array_equal(ranks.optimistic, expected[:, :, 0])
    np.testing.assert_array_equal(ranks.pessimistic, expected[:, :, 1])


@pytest.mark.parametrize("candidates_at_once", [7, 4096])
def test_metrics_equal_those_of_pykeen(candidates_at_once):
    """Realistic ranks of both directions, filtered; 1e-6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyKEEN's own, at import and while it evaluates
        from pykeen.evaluation import RankBasedEvaluator

    random = np.random.default_rng(0)
    num_entities, num_relations = 30, 3
    known = np.unique(random.integers(0, [num_entities, num_relations, num_entities], size=(300, 3)), axis=0)
    random.shuffle(known)
    test = known[:40]
    table = np.round(random.normal(size=(2 * num_relations, num_entities, num_entities)), 1).astype(np.float32)
    ours = summarise_ranks(rank(TableScorer(table), test, known, candidates_at_once=candidates_at_once), draws=0)

    evaluator = RankBasedEvaluator(filtered=True)
    scores = torch.from_numpy(table)
    true = {tuple(row) for row in with_inverse_triples(known, num_relations).tolist()}
    for side, target in enumerate(("tail", "head")):
        rows = with_inverse_triples(test, num_relations)[len(test) * side : len(test) * (side + 1)]
        score = scores[rows[:, 1], rows[:, 0]].clone()
        true_score = score.gather(1, torch.from_numpy(rows[:, 2:].copy()))
        for number, (h, r, t) in enumerate(rows.tolist()):
            for entity in range(num_entities):
                if entity != t and (h, r, entity) in true:
                    score[number, entity] = torch.nan
        evaluator.process_scores_(
            hrt_batch=torch.from_numpy(test.copy()), target=target, scores=score, true_scores=true_score
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = evaluator.finalize()
    names = {
        "mrr": "both.realistic.inverse_harmonic_mean_rank",
        "hits_at_1": "both.realistic.hits_at_1",
        "hits_at_3": "both.realistic.hits_at_3",
        "hits_at_10": "both.realistic.hits_at_10",
        "mean_rank": "both.realistic.arithmetic_mean_rank",
        "adjusted_mean_rank": "both.realistic.adjusted_arithmetic_mean_rank",
        "adjusted_mean_rank_index": "both.realistic.adjusted_arithmetic_mean_rank_index",
    }
    for name, their_name in names.items():
        assert ours.both[name].value == pytest.approx(theirs.get_metric(their_name), abs=1e-6), name
    for direction in ("tail", "head"):
        assert ours.by_direction[direction]["mrr"] == pytest.approx(
            theirs.get_metric(f"{direction}.realistic.inverse_harmonic_mean_rank"), abs=1e-6
        )


def test_a_score_that_is_not_a_number_stops_the_evaluation():
    table = np.zeros((2, 4, 4), dtype=np.float32)
    table[0, 0, 3] = np.nan
    with pytest.raises(TrainingError, match="diverged"):
        rank(TableScorer(table), triples_of([0, 0, 1]))
    table[0, 0] = [0, np.inf, 0, 0]
    with pytest.raises(TrainingError, match="diverged"):
        rank(TableScorer(table), triples_of([0, 0, 1]))


@pytest.mark.parametrize(
    ("row", "words"), [([0, 0, 4], "entity 4"), ([-1, 0, 0], "entity -1"), ([0, 1, 0], "relation 1")]
)
def test_triples_the_model_does_not_know_are_refused(row, words):
    with pytest.raises(ConfigError, match=words):
        rank(TableScorer(np.zeros((2, 4, 4))), triples_of(row))


def test_no_triples_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        rank(TableScorer(np.zeros((2, 4, 4))), triples_of(), triples_of([0, 0, 0]))


_MEMORY = """
import sys
from pathlib import Path
import numpy as np, torch
from mmkg.evaluation.link_prediction import KnownTails, rank_triples

class Products:
    num_entities, num_relations = int(sys.argv[1]), 3
    def __init__(self):
        torch.manual_seed(0)
        self.entity = torch.randn(self.num_entities, 32)
        self.relation = torch.randn(6, 32)
    def score(self, query, start, stop):
        return (self.entity[query[:, 0]] * self.relation[query[:, 1]]) @ self.entity[start:stop].t()

def peak_mb():  # of this program: getrusage would give the parent's peak if that is higher
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

torch.set_num_threads(1)
random = np.random.default_rng(0)
triples = random.integers(0, [Products.num_entities, 3, Products.num_entities], size=(int(sys.argv[2]), 3))
scorer, known = Products(), KnownTails(triples, num_relations=3)
rank_triples(scorer, triples[:2], known)
before = peak_mb()
rank_triples(scorer, triples, known)
print(peak_mb(), peak_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(("num_entities", "num_triples"), [(100_000, 1_000), (1_000_000, 100)])
def test_ranking_needs_no_more_memory_with_more_entities(num_entities, num_triples):
    """100 k entities × 1 k triples (2 k queries): all scores at once would be 800 MB, and as much for comparisons."""
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(num_entities), str(num_triples)], capture_output=True, text=True, check=True
    )
    peak_mb, growth_mb = map(float, done.stdout.split())
    assert peak_mb < 1000
    assert growth_mb < 250
