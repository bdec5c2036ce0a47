"""Folders of MM-Graph: node classification and link prediction, written here in the form of the released ones."""

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError, DumpError
from mmkg.tasks.class_split import official_class_split
from mmkg.tasks.mm_graph import halves, read_features, read_link_task, read_node_task

# 0-1-2-3 a path with a self loop at 3, 4 alone
NODE_FILES = {
    "nc_edges-nodeid.pt": [[0, 1], [2, 1], [2, 3], [3, 3]],
    "split.pt": {"train_idx": [0, 3], "val_idx": [1], "test_idx": [2, 4]},
    "labels-w-missing.pt": [7, 0, 7, -1, 2],
    "node_mapping.pt": {"B1": 1, "B0": 0, "B2": 2, "B4": 4, "B3": 3},
    "clip_feat.pt": torch.arange(20, dtype=torch.float32).reshape(5, 4),
}
LINK_FILES = {
    "lp-edge-split.pt": {
        "train": {"source_node": torch.tensor([0, 1]), "target_node": torch.tensor([1, 2])},
        "valid": {
            "source_node": torch.tensor([2]),
            "target_node": torch.tensor([3]),
            "target_node_neg": torch.tensor([[0, 4]]),
        },
        "test": {
            "source_node": torch.tensor([3, 4]),
            "target_node": torch.tensor([0, 1]),
            "target_node_neg": torch.tensor([[1, 2, 4], [0, 2, 3]]),
        },
    },
    "t5vit_feat.pt": torch.zeros(5, 2, dtype=torch.float16),
}


def write(folder, files, **changed):
    for name, content in (files | changed).items():
        if content is not None:
            torch.save(content, folder / name)
    return folder


def message_of(read, folder):
    with pytest.raises(DumpError) as caught:
        read(folder)
    return str(caught.value)


@pytest.mark.capability("G4-03")
def test_a_folder_of_node_classification(tmp_path):
    task = read_node_task(write(tmp_path, NODE_FILES))
    assert task.num_nodes == 5
    assert task.node_ids == ("B0", "B1", "B2", "B3", "B4")
    assert task.edge_E2.tolist() == [[0, 1], [2, 1], [2, 3], [3, 3]]
    assert task.label_N.tolist() == [7, 0, 7, -1, 2]
    assert {part: nodes.tolist() for part, nodes in task.split.items()} == {
        "train": [0, 3],
        "valid": [1],
        "test": [2, 4],
    }
    assert task.num_missing == {"train": 1, "valid": 0, "test": 0, "all": 1}
    assert task.labelled("train").tolist() == [0]
    assert task.class_of == {0: "7", 1: "0", 2: "7", 4: "2"}


@pytest.mark.capability("G4-03")
@pytest.mark.parametrize(
    "labels",
    [
        [7.0, 0.0, 7.0, float("nan"), 2.0],
        torch.tensor([7, 0, 7, -100, 2]),
        torch.tensor([[7.0], [0.0], [7.0], [torch.nan], [2.0]]),
    ],
)
def test_labels_are_read_in_every_form(tmp_path, labels):
    tensors = {"nc_edges-nodeid.pt": torch.tensor(NODE_FILES["nc_edges-nodeid.pt"], dtype=torch.int32)}
    split = {name: torch.tensor(nodes) for name, nodes in NODE_FILES["split.pt"].items()}
    changed = tensors | {"labels-w-missing.pt": labels, "split.pt": split, "node_mapping.pt": None}
    task = read_node_task(write(tmp_path, NODE_FILES, **changed))
    assert task.label_N.tolist() == [7, 0, 7, -1, 2] and task.label_N.dtype == np.int64
    assert task.edge_E2.tolist() == NODE_FILES["nc_edges-nodeid.pt"] and task.edge_E2.dtype == np.int64
    assert task.num_missing["all"] == 1
    assert task.node_ids is None


@pytest.mark.capability("G4-16")
def test_unseen_classes_of_a_folder_are_not_trained_on(tmp_path):
    task = read_node_task(write(tmp_path, NODE_FILES))
    split = official_class_split(task.official, task.class_of, unseen=["2", "0"])
    assert split.parts == {"train": (0,), "valid": (), "test_seen": (2,), "test_unseen": (4,)}


@pytest.mark.capability("G4-03")
def test_features_are_text_then_picture(tmp_path):
    feature_ND = read_features(write(tmp_path, NODE_FILES), "clip", num_nodes=5)
    text_ND, picture_ND = halves(feature_ND)
    assert text_ND[1].tolist() == [4, 5] and picture_ND[1].tolist() == [6, 7]
    assert read_features(write(tmp_path, LINK_FILES), "t5vit", num_nodes=5).dtype == np.float16
    torch.save(torch.ones(5, 2, dtype=torch.bfloat16), tmp_path / "own_feat.pt")
    assert read_features(tmp_path, "own", num_nodes=5).dtype == np.float32
    with pytest.raises(ConfigError, match="found 3 columns"):
        halves(feature_ND[:, :3])


@pytest.mark.capability("G4-03")
def test_a_folder_of_link_prediction(tmp_path):
    task = read_link_task(write(tmp_path, LINK_FILES))
    assert task.num_nodes == 5 and task.node_ids is None
    edges = {part: edge_E2.tolist() for part, edge_E2 in task.edge_E2.items()}
    assert edges == {"train": [[0, 1], [1, 2]], "valid": [[2, 3]], "test": [[3, 0], [4, 1]]}
    assert task.candidates("test").tolist() == [
        [[3, 0], [3, 1], [3, 2], [3, 4]],
        [[4, 1], [4, 0], [4, 2], [4, 3]],
    ]
    assert task.candidates("valid").shape == (1, 3, 2)
    with pytest.raises(ConfigError, match="train has no target_node_neg; parts that have: valid, test"):
        task.candidates("train")


@pytest.mark.capability("G4-03")
def test_the_number_of_nodes_comes_from_features_mapping_or_caller(tmp_path):
    content = LINK_FILES["lp-edge-split.pt"]
    folder = write(tmp_path, {"lp-edge-split-hard.pt": content})
    assert "expected clip_feat.pt" in message_of(read_link_task, folder)
    assert read_link_task(folder, num_nodes=6).num_nodes == 6
    torch.save(NODE_FILES["node_mapping.pt"], folder / "node_mapping.pt")
    assert read_link_task(folder).node_ids == ("B0", "B1", "B2", "B3", "B4")


@pytest.mark.capability("G4-03")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nc_edges-nodeid.pt", [[0, 1], [2, 5]], "nc_edges-nodeid.pt, row 1: expected a node, 0 to 4, found 5. 1 of 4"),
        ("nc_edges-nodeid.pt", [[0, -1]], "nc_edges-nodeid.pt, row 0: expected a node, 0 to 4, found -1"),
        ("nc_edges-nodeid.pt", [[0, 1, 2]], "expected pairs of nodes, E × 2, found shape 1 × 3"),
        ("nc_edges-nodeid.pt", [[0, 1], [2]], "nc_edges-nodeid.pt: expected numbers, found a list"),
        ("nc_edges-nodeid.pt", [[0.5, 1.0]], "expected nodes, whole numbers, found float32"),
        ("split.pt", {"train_idx": [0], "val_idx": [1]}, "expected train_idx, val_idx, test_idx, found"),
        (
            "split.pt",
            {"train_idx": [0, 1], "val_idx": [1], "test_idx": []},
            "split.pt: expected nothing in two parts, found 1 in train_idx and in val_idx too, such as node 1",
        ),
        ("split.pt", {"train_idx": [9], "val_idx": [], "test_idx": []}, "split.pt, train_idx, row 0: expected a node"),
        ("split.pt", [0, 1], "split.pt: expected a dictionary, found a list"),
        ("labels-w-missing.pt", [7, 0, 0.5, 1, 2], "labels-w-missing.pt, node 2: expected a whole number, found 0.5"),
        ("labels-w-missing.pt", ["shoe"] * 5, "labels-w-missing.pt: expected numbers, found a list"),
        ("labels-w-missing.pt", torch.zeros(5, 2), "expected a class number for each node, found float32 5 × 2"),
        ("node_mapping.pt", {"B0": 0}, "node_mapping.pt: expected an id for each of 5 nodes, found none for node 1"),
        ("node_mapping.pt", {"B0": 0, "B1": 0}, "found 'B0' and 'B1' for node 0"),
        ("node_mapping.pt", {0: "B0"}, "node_mapping.pt, 0: expected a node, 0 to 4, found 'B0'"),
    ],
)
def test_what_is_wrong_in_a_folder_of_node_classification_is_named(tmp_path, name, content, message):
    assert message in message_of(read_node_task, write(tmp_path, NODE_FILES, **{name: content}))


@pytest.mark.capability("G4-03")
@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("train", {"target_node": torch.tensor([1, 5])}, "train, target_node, row 1: expected a node, 0 to 4, found 5"),
        ("train", {"target_node": torch.tensor([1])}, "train: expected as many targets as sources, found 1, 2"),
        ("train", {"target_node": torch.ones(2, 2).long()}, "target_node: expected one node a row, found shape 2 × 2"),
        ("valid", {"target_node_neg": torch.tensor([[9]])}, "valid, target_node_neg, row 0: expected a node"),
        (
            "valid",
            {"target_node_neg": torch.tensor([[0], [1]])},
            "expected a row for each of 1 edges, found shape 2 × 1",
        ),
        (
            "valid",
            {"source_node": torch.tensor([1]), "target_node": torch.tensor([2])},
            "expected nothing in two parts, found 1 in train and in valid too, such as edge (1, 2)",
        ),
    ],
)
def test_what_is_wrong_in_a_folder_of_link_prediction_is_named(tmp_path, part, changed, message):
    content = LINK_FILES["lp-edge-split.pt"]
    content = content | {part: content[part] | changed}
    assert message in message_of(read_link_task, write(tmp_path, LINK_FILES, **{"lp-edge-split.pt": content}))


def test_a_part_without_sources_is_named(tmp_path):
    content = LINK_FILES["lp-edge-split.pt"] | {"test": {"target_node": torch.tensor([1])}}
    folder = write(tmp_path, LINK_FILES, **{"lp-edge-split.pt": content})
    assert "test: expected source_node and target_node, found ['target_node']" in message_of(read_link_task, folder)


@pytest.mark.capability("G4-03")
def test_features_of_another_graph_are_refused(tmp_path):
    folder = write(tmp_path, NODE_FILES)
    for name, content, message in (
        ("clip", torch.zeros(4, 2), "clip_feat.pt: expected a row for each of 5 nodes, found 4 rows"),
        ("clip", torch.zeros(5), "expected a matrix of numbers, found torch.float32 (5,)"),
    ):
        torch.save(content, folder / f"{name}_feat.pt")
        with pytest.raises(DumpError) as caught:
            read_features(folder, name, num_nodes=5)
        assert message in str(caught.value)
    with pytest.raises(DumpError, match=r"dino_feat.pt: no such file. Features that are there: clip"):
        read_features(folder, "dino", num_nodes=5)


class Trap:
    """Its pickle runs code when it is loaded as pickles are."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file ran')",))


@pytest.mark.capability("G4-03")
def test_no_code_of_a_file_runs_and_the_message_says_what_to_do(tmp_path):
    folder = write(tmp_path, NODE_FILES, **{"split.pt": {"train_idx": Trap()}})
    message = message_of(read_node_task, folder)
    assert "split.pt: expected tensors, numbers, texts, lists and dictionaries, found exec. Loading" in message
    assert "weights_only=False" in message and "torch.save it anew" in message
    torch.save({"train_idx": np.arange(2)}, folder / "split.pt")
    assert "found numpy" in message_of(read_node_task, folder)


@pytest.mark.capability("G4-03")
def test_a_missing_cut_or_other_file_is_named(tmp_path):
    folder = write(tmp_path, NODE_FILES)
    whole = (folder / "labels-w-missing.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"hello world", b""):
        (folder / "labels-w-missing.pt").write_bytes(content)
        assert "expected a file of torch.save, found it cut, damaged or another one" in message_of(
            read_node_task, folder
        )
    (folder / "labels-w-missing.pt").unlink()
    assert "labels-w-missing.pt: no such file" in message_of(read_node_task, folder)
    assert "expected lp-edge-split.pt or lp-edge-split-hard.pt" in message_of(read_link_task, folder)


def test_files_of_an_old_torch_are_read(tmp_path):
    folder = write(tmp_path, NODE_FILES)
    torch.save(torch.ones(5, 2), folder / "clip_feat.pt", _use_new_zipfile_serialization=False)
    assert read_features(folder, "clip", num_nodes=5).sum() == 10
