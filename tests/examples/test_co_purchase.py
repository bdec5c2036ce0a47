"""The study of products that are bought together runs to its end, and its walks are powers of the attention."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mmkg.evaluation.pair_scorers import adjacency

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "graph4mm"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import co_purchase

    yield co_purchase
    sys.modules.pop("co_purchase", None)


@pytest.mark.parametrize("at_once", [3, 512])
def test_walks_are_powers_of_uniform_attention_from_both_sides(script, monkeypatch, at_once):
    monkeypatch.setattr(script, "SOURCES_AT_ONCE", at_once)
    random = np.random.default_rng(0)
    graph = adjacency(random.integers(0, 12, size=(25, 2)), 14)  # 12 and 13 are alone
    looped = graph.toarray() + np.eye(14)
    attention = looped / looped.sum(axis=1, keepdims=True)
    pairs = np.array([(u, v) for u in range(14) for v in range(14) if u != v])
    part = script.read_part(random.permutation(pairs).reshape(7, 26, 2), graph)
    pairs = part.candidate_PC2.reshape(-1, 2)
    for step in range(16):
        power = np.linalg.matrix_power(attention, step)
        assert part.hop_MK[:, step] == pytest.approx(power[pairs[:, 0], pairs[:, 1]], abs=1e-6)
    diffused = sum(0.2 * 0.8**step * np.linalg.matrix_power(attention, step) for step in range(4))
    there, back = part.both_sides(0.2, 4)
    assert there == pytest.approx(diffused[pairs[:, 0], pairs[:, 1]], abs=1e-6)
    assert back == pytest.approx(diffused[pairs[:, 1], pairs[:, 0]], abs=1e-6)


@pytest.mark.parametrize("draw", ["even", "degree"])
def test_the_study_runs_to_its_end(script, tmp_path, capsys, draw):
    """Products in rings of ten, bought with those next to and next but one to them: neighbours tell nearly all."""
    lines = ["item_id\ti_category\tr_complement\tr_substitute"]
    for item in range(100):
        ring, place = divmod(item, 10)
        beside = [10 * ring + (place + step) % 10 for step in (1, 2)]
        lines.append(f"{item}\t0\t{beside}\t[]")
    (tmp_path / "item_meta.csv").write_text("\n".join(lines))
    words = ["--data", str(tmp_path), "--json", str(tmp_path / "found.json"), "--draws", "20", "--draw", draw]
    script.main([*words, "--negatives", "20"])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert f"test: 40 pairs, 20 negatives each, drawn by {draw}" in printed
    assert (
        found["test"]["common neighbours"]["mrr"]["value"]
        > 0.4
        > found["test"]["preferential attachment"]["mrr"]["value"]
    )
    assert f"{found['test'][script.ALL]['mrr']['value']:.4f}" in printed
    for one, other in script.DIFFERENCES:
        apart = found["test"][one]["mrr"]["value"] - found["test"][other]["mrr"]["value"]
        assert found["differences"][f"{one} − {other}"]["mrr"]["value"] == pytest.approx(apart)
