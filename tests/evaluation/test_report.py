"""The report: whose mistakes it names, and that it stands alone."""

import numpy as np
import pytest

from mmkg.evaluation.link_prediction import Ranks
from mmkg.evaluation.metrics import compare_ranks, summarise_ranks
from mmkg.evaluation.plots import plot_mrr
from mmkg.evaluation.report import RunResult, make_report, worst_examples

ENTITIES, RELATIONS = ["Paris", "France", "Lyon <small>"], ["capital of"]


@pytest.fixture
def ranks():
    rank = np.array([[1, 3], [7, 2]])
    return Ranks(
        triples=np.array([[0, 0, 1], [2, 0, 1]]),
        optimistic=rank,
        pessimistic=rank + 1,
        num_candidates=np.full((2, 2), 9),
    )


def result_of(name, ranks):
    return RunResult(
        name=name,
        metrics=summarise_ranks(ranks, draws=20),
        ranks=ranks,
        history=[{"loss": 2.0, "elapsed_seconds": 1.0}, {"loss": 1.0, "elapsed_seconds": 2.0, "valid_mrr": 0.5}],
        worst=worst_examples(ranks, ENTITIES, RELATIONS),
        config={"width": 8},
        environment={"threads": 1},
    )


def test_the_worst_come_first_and_say_what_was_asked(ranks):
    worst = worst_examples(ranks, ENTITIES, RELATIONS, count=2)
    assert [(w.head, w.tail, w.answer, w.rank, w.num_candidates) for w in worst] == [
        ("Lyon <small>", "France", "tail", 7.5, 9),
        ("Paris", "France", "head", 3.5, 9),
    ]


def test_a_page_shows_true_numbers_and_no_label_becomes_markup(ranks):
    page = make_report([result_of("run", ranks)], title="Runs & more", split="test")
    value = summarise_ranks(ranks, draws=0).both["mrr"].value
    assert f"{value:.4f} [" in page
    assert "Runs &amp; more" in page
    assert "Lyon &lt;small&gt;" in page
    assert "<small>" not in page
    assert page.count("data:image/png;base64,") == 3


def test_several_runs_stand_side_by_side(ranks):
    comparison = compare_ranks(ranks, ranks, draws=10)
    page = make_report(
        [result_of("first", ranks), result_of("second", ranks)],
        title="two",
        split="valid",
        comparisons={"first − second": comparison},
    )
    assert "<th>first</th><th>second</th>" in page
    assert "Over runs" in page
    assert "first − second" in page


def test_the_same_numbers_give_the_same_picture(ranks):
    interval = summarise_ranks(ranks, draws=20).both["mrr"]
    picture = plot_mrr({"run": interval})
    assert picture.startswith(b"\x89PNG")
    assert picture == plot_mrr({"run": interval})
    assert picture != plot_mrr({"run": interval, "again": interval})
