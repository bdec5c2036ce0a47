"""The study of related topics runs to its end, and its diffused features are those of the dense formula."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkg.evaluation.pair_scorers import adjacency

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "graph4mm"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import topics

    yield topics
    sys.modules.pop("topics", None)


def write_topics(folder):
    """Six rings of eight topics that share a word and a colour; every fourth topic has no logo."""
    (folder / "logos").mkdir(parents=True)
    nodes, edges = [], []
    for number in range(48):
        ring, place = divmod(number, 8)
        name = f"topic{number}"
        logo = f"{name}.png" if number % 4 else None
        if logo:
            Image.new("RGBA", (24, 24), (40 * ring, 255 - 40 * ring, 128, 255)).save(folder / "logos" / logo)
        nodes.append(
            {
                "id": name,
                "display_name": name.title(),
                "short_description": f"one of {'abcdef'[ring] * 6}",
                "body": "",
                "logo": logo,
            }
        )
        edges += [f"{name}\trelated\ttopic{8 * ring + (place + step) % 8}\t1" for step in (1, 2)]
    (folder / "nodes.jsonl").write_text("".join(json.dumps(node) + "\n" for node in nodes))
    (folder / "edges.tsv").write_text("".join(f"{edge}\n" for edge in edges))
    return folder


@pytest.mark.capability("G4-06")
def test_diffused_features_are_powers_of_uniform_attention(script):
    random = np.random.default_rng(0)
    graph = adjacency(random.integers(0, 12, size=(25, 2)), 14)  # 12 and 13 are alone
    vectors = random.normal(size=(14, 5)).astype(np.float32)
    looped = graph.toarray() + np.eye(14)
    attention = looped / looped.sum(axis=1, keepdims=True)
    dense = sum(0.3 * 0.7**step * np.linalg.matrix_power(attention, step) for step in range(4)) @ vectors
    assert script.diffused(graph, vectors, 0.3, 4) == pytest.approx(dense, abs=1e-5)


def test_the_study_runs_to_its_end(script, tmp_path, capsys):
    data = write_topics(tmp_path / "data")
    words = ["--data", str(data), "--json", str(tmp_path / "found.json"), "--draws", "20", "--negatives", "20"]
    script.main([*words, "--sentence", "hashing"])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert "36 logos" in printed
    assert "knows drawn flags and little else" in printed
    mrr = {name: one["mrr"]["value"] for name, one in found["test"].items()}
    assert mrr[script.TEXT] > 0.4  # by guessing 0.17
    assert mrr[f"diffused {script.NOISE}"] > 0.3  # noise itself knows nothing: this is the graph's
    assert f"{mrr[script.PICTURES]:.4f}" in printed
    assert set(found["differences"]) == {"all pairs", "both ends with a logo"}
    for one, other in script.differences():
        apart = found["differences"]["all pairs"][f"{one} − {other}"]["mrr"]["value"]
        assert apart == pytest.approx(mrr[one] - mrr[other])


def test_a_pair_of_test_is_no_edge_of_the_graph_its_features_come_from(script, tmp_path, monkeypatch):
    """Seen through the graphs that features are computed on."""
    seen = []
    monkeypatch.setattr(script, "read_part", lambda candidates, graph, vectors: seen.append((candidates, graph)))
    graph = script.read_topics(write_topics(tmp_path / "data"))
    split = script.split_edges(graph.edge_E2, num_nodes=48, random_seed=0)
    arguments = type("Arguments", (), {"seed": 0, "negatives": 5, "draw": "degree"})
    list(script.read_parts(split, None, arguments))
    assert len(seen) == 3
    for candidates, adjacent in seen:
        true = candidates[:, 0]
        assert not np.asarray(adjacent[true[:, 0], true[:, 1]]).any()
