"""Topics with a text and a logo, and which are related: what a line becomes, and what is refused."""

import gzip
import json

import pytest

from mmkg.errors import DumpError
from mmkg.tasks.edge_split import split_edges
from mmkg.tasks.topics import read_topics

LOGO = {
    "id": "ada",
    "display_name": "Ada",
    "short_description": "Ada is a language.",
    "body": "It is strict.",
    "wikipedia_url": "https://en.wikipedia.org/wiki/Ada",
    "aliases": "ada-lang, ada95,",
    "created_by": "Jean Ichbiah",
    "released": 1980,
    "logo": "ada.png",
}
BARE = {"id": "zork", "display_name": "Zork", "short_description": "A game.", "body": "", "logo": None, "aliases": ""}
EDGES = ("ada\trelated\tzork\t1", "zork\trelated\tada\t1", "ada\trelated\tpascal\t0")


def write(folder, *, nodes=(LOGO, BARE), edges=EDGES, logos=("ada.png",)):
    lines = [node if isinstance(node, str) else json.dumps(node) for node in nodes]
    (folder / "nodes.jsonl").write_text("\n".join(lines) + "\n")
    with gzip.open(folder / "edges.tsv.gz", "wt") as file:
        file.write("\n".join(edges))
    (folder / "logos").mkdir(exist_ok=True)
    for name in logos:
        (folder / "logos" / name).write_bytes(b"\x89PNG")
    return folder


def test_a_topic_has_its_text_its_logo_and_its_edges(tmp_path):
    graph = read_topics(write(tmp_path))
    ada, zork = graph.topics
    assert ada.text == "Ada\nAda is a language.\nIt is strict."
    assert (ada.aliases, ada.released, ada.created_by) == (("ada-lang", "ada95"), "1980", "Jean Ichbiah")
    assert ada.logo == tmp_path / "logos" / "ada.png"
    assert zork.text == "Zork\nA game."
    assert (zork.logo, zork.wikipedia_url, zork.aliases, zork.released) == (None, None, (), None)
    assert graph.index_of == {"ada": 0, "zork": 1}
    assert graph.edge_E2.tolist() == [[0, 1], [1, 0]]
    assert graph.pairs.tolist() == [[0, 1]]
    assert (graph.num_outside, graph.num_logos_missing) == (1, 0)


def test_a_logo_that_is_not_there_is_counted(tmp_path):
    graph = read_topics(write(tmp_path, logos=()))
    assert graph.topics[0].logo is None and graph.num_logos_missing == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nodes": [LOGO, LOGO]}, "nodes.jsonl, line 2: expected every topic once, found 'ada' again"),
        ({"nodes": [LOGO, "{"]}, "nodes.jsonl, line 2: expected JSON, found '{'"),
        ({"nodes": ["[]"]}, "line 1: expected an object with id, display_name"),
        ({"nodes": [LOGO | {"body": None}]}, "line 1, body: expected a text, found None"),
        ({"nodes": [LOGO | {"id": ""}]}, "line 1, id: expected a name"),
        ({"nodes": [LOGO | {"logo": "../ada.png"}]}, "line 1, logo: expected a file name or null"),
        ({"nodes": [LOGO | {"released": [1980]}]}, "line 1, released: expected a text, a number or null, found [1980]"),
        ({"nodes": []}, "expected a topic a line, found none"),
        ({"edges": ["ada\trelated\tzork"]}, "line 1: expected topic TAB related TAB topic TAB 0 or 1"),
        ({"edges": [*EDGES, "basic\trelated\tada\t1"]}, "line 4: expected a topic of the file of nodes, found 'basic'"),
        ({"edges": ["ada\trelated\tzork\t0"]}, "the last column is 0, but 'zork' is a topic"),
        ({"edges": ["ada\trelated\tbasic\t1"]}, "the last column is 1, but 'basic' is not a topic"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, changed, message):
    write(tmp_path, **changed)
    with pytest.raises(DumpError) as caught:
        read_topics(tmp_path)
    assert message in str(caught.value)


def test_a_missing_or_cut_file_is_named(tmp_path):
    with pytest.raises(DumpError, match=r"expected nodes.jsonl or nodes.jsonl.gz, found neither"):
        read_topics(tmp_path)
    packed = (write(tmp_path) / "edges.tsv.gz").read_bytes()
    (tmp_path / "edges.tsv.gz").write_bytes(packed[:-9])
    with pytest.raises(DumpError, match=r"edges.tsv.gz: cannot be read whole"):
        read_topics(tmp_path)
    (tmp_path / "nodes.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(DumpError, match=r"nodes.jsonl: expected UTF-8, found byte 0xff at 0"):
        read_topics(tmp_path)


@pytest.mark.shared
def test_the_topics_of_github(shared_data):
    graph = read_topics(shared_data / "tasks" / "topics_graph")
    assert len(graph.topics) == 1255
    assert sum(topic.logo is not None for topic in graph.topics) == 750 and graph.num_logos_missing == 0
    assert sum(topic.wikipedia_url is not None for topic in graph.topics) == 914
    assert len(graph.edge_E2) == 1485 and len(graph.edge_E2) + graph.num_outside == 3293
    assert sum(not topic.body for topic in graph.topics) == 2
    split = split_edges(graph.edge_E2, num_nodes=len(graph.topics))
    assert sum(split.counts.values()) == len(graph.pairs) == 1301
