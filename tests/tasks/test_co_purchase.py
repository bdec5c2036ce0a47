"""Products and what was bought or viewed beside them: what a line becomes, and what is refused."""

import gzip

import pytest

from mmkg.errors import DumpError, NotFound
from mmkg.tasks.co_purchase import read_co_purchases
from mmkg.tasks.edge_split import split_edges

HEADER = "item_id\ti_category\tr_complement\tr_substitute"
ROWS = ("7\t2\t[9, 8]\t[]", "9\t0\t[7, 5]\t[8]", "8\t2\t[]\t[6, 5]")


def write(folder, *rows, header=HEADER):
    with gzip.open(folder / "item_meta.csv.gz", "wt") as file:
        file.write("\n".join([header, *rows]) + "\n")
    return folder


def test_products_have_a_category_and_edges_of_two_relations(tmp_path):
    found = read_co_purchases(write(tmp_path, *ROWS))
    assert found.item_ids.tolist() == [7, 9, 8]
    assert found.category_N.tolist() == [2, 0, 2]
    assert found.edges["r_complement"].tolist() == [[0, 1], [0, 2], [1, 0]]  # by place in the file; 5 has no line
    assert found.edges["r_substitute"].tolist() == [[1, 2]]
    assert found.num_dangling == {"r_complement": 1, "r_substitute": 2}
    assert found.pairs("r_complement").tolist() == [[0, 1], [0, 2]]
    with pytest.raises(NotFound, match="Did you mean 'r_complement'"):
        found.pairs("complement")


def test_a_file_without_any_edge_has_empty_ones(tmp_path):
    found = read_co_purchases(write(tmp_path, "7\t2\t[]\t[]"))
    assert found.edges["r_complement"].shape == (0, 2) and found.pairs("r_substitute").shape == (0, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, "7\t1\t[]\t[]"], "line 5: expected every product once, found 7 again"),
        (["7\t2\t[9]"], "line 2: expected 4 columns with tabs between them, found 3"),
        (["7\t2\t[9, 8\t[]"], "line 2: expected numbers and lists of numbers"),
        (["7\t2\t9\t[]"], "line 2: expected two whole numbers and two lists of them"),
        (["7\ttrue\t[]\t[]"], "line 2: expected two whole numbers and two lists of them"),
        (['7\t2\t["9"]\t[]'], "line 2: expected two whole numbers and two lists of them"),
        ([], "expected a product a line, found none"),
    ],
)
def test_a_broken_line_is_named(tmp_path, rows, message):
    write(tmp_path, *rows)
    with pytest.raises(DumpError) as caught:
        read_co_purchases(tmp_path)
    assert message in str(caught.value)


def test_another_file_is_told_by_its_header(tmp_path):
    write(tmp_path, *ROWS, header="user_id\titem_id\ttime")
    with pytest.raises(DumpError, match=r"line 1: expected item_id TAB i_category .*, found 'user_id"):
        read_co_purchases(tmp_path)


@pytest.mark.shared
def test_groceries_of_amazon(shared_data):
    found = read_co_purchases(shared_data / "tasks" / "amazon_grocery")
    assert len(found.item_ids) == 8713 and len(set(found.category_N.tolist())) == 57
    assert {name: len(edges) for name, edges in found.edges.items()} == {
        "r_complement": 248_444,
        "r_substitute": 124_933,
    }
    assert found.num_dangling == {"r_complement": 0, "r_substitute": 0}
    split = split_edges(found.edges["r_complement"], num_nodes=len(found.item_ids))
    assert sum(split.counts.values()) == 199_576
