r"""MM-Graph: graphs whose nodes have a text and a picture, for node classification and for link prediction.

A folder of node classification (``ele-fashion``: 97,766 products; ``books-nc``) holds, each written by ``torch.save``::

    nc_edges-nodeid.pt     [[0, 17], [0, 256], …]                                     a list of pairs
    split.pt               {"train_idx": […], "val_idx": […], "test_idx": […]}
    labels-w-missing.pt    [3, 0, -1, …]                                              a class for each node
    node_mapping.pt        {"B00003G1RG": 0, …}                                       id of the shop -> node
    clip_feat.pt           N × D; also imagebind_feat.pt, t5vit_feat.pt, t5dino_feat.pt

A folder of link prediction (``sports-copurchase``, ``cloth-copurchase``, ``books-lp``) holds ``lp-edge-split.pt``
instead of the first three (the benchmark's README calls it ``lp-edge-split-hard.pt`` or ``lp-edge-split-random.pt``)::

    {"train": {"source_node": …, "target_node": …},                                   two vectors of E nodes
     "valid": {"source_node": …, "target_node": …, "target_node_neg": E × K}, "test": {… as valid}}

Features are text first, then picture, one half each (the authors, in issue 2 of their repository). The names of the
classes are in no file; Ele-Fashion numbers eleven classes 0 to 11 and has no 5 (issue 10).

What we could not verify, having read the authors' loaders but none of the data: whether a missing label is -1, NaN or
the class that is not there (negative and NaN count as missing here); whether vectors are lists or tensors (both are
read); and in which direction ``node_mapping.pt`` goes (other people's loaders read it as id -> node; so do we).

Address: https://github.com/mm-graph-benchmark/mm-graph-benchmark, data at
https://huggingface.co/datasets/mm-graph-org/mm-graph . Citation: Zhu et al., Multimodal Graph Benchmark,
arXiv:2406.16321.
"""

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmkg.errors import ConfigError, DumpError, require
from mmkg.tasks.edge_split import Int64Array
from mmkg.tasks.torch_files import NEEDED_BY, array_of, load_saved, mapping_of, nodes_of, shape_text, vector_of

logger = logging.getLogger(__name__)

FEATURES = ("clip", "imagebind", "t5vit", "t5dino")
SPLITS = ("train", "valid", "test")

_NODE_SPLITS = {"train": "train_idx", "valid": "val_idx", "test": "test_idx"}
_LINK_FILES = ("lp-edge-split.pt", "lp-edge-split-hard.pt", "lp-edge-split-random.pt")
_MISSING = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeTask:
    """A graph whose nodes have classes.

    Attributes:
        node_ids: ids of the shop, None without ``node_mapping.pt``.
        edge_E2: (src, dst) as written, self loops and repeated ones too.
        label_N: class of each node, -1 where it is missing.
        split: train, valid, test -> nodes, as written.
        num_missing: train, valid, test and ``all`` -> how many nodes have no label.
    """

    node_ids: tuple[str, ...] | None
    edge_E2: Int64Array
    label_N: Int64Array
    split: Mapping[str, Int64Array]
    num_missing: Mapping[str, int]

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.label_N)

    def labelled(self, part: str) -> Int64Array:
        """The nodes of train, valid or test that have a label: no other can be learned from or scored."""
        nodes = self.split[part]
        return nodes[self.label_N[nodes] != _MISSING]

    @property
    def class_of(self) -> dict[int, str]:
        """Class of each labelled node, as :mod:`mmkg.tasks.class_split` takes it; a class is called by its number."""
        return {int(node): str(self.label_N[node]) for node in np.flatnonzero(self.label_N != _MISSING)}

    @property
    def official(self) -> dict[str, list[int]]:
        """Labelled nodes of the three splits, for :func:`mmkg.tasks.class_split.official_class_split`."""
        return {part: self.labelled(part).tolist() for part in SPLITS}


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkTask:
    """A graph whose held-out edges are to be put before made-up ones.

    Attributes:
        num_nodes: N.
        node_ids: ids of the shop, None without ``node_mapping.pt``.
        edge_E2: train, valid, test -> (E, 2) (source, target), as written.
        negative_EK: valid, test -> (E, K) targets that make no edge with the source of the same row; a part whose file
            holds none is not in it.
    """

    num_nodes: int
    node_ids: tuple[str, ...] | None
    edge_E2: Mapping[str, Int64Array]
    negative_EK: Mapping[str, Int64Array]

    def candidates(self, part: str) -> Int64Array:
        """(E, 1 + K, 2): the pairs to rank, the true one first, as :mod:`mmkg.evaluation.pair_ranking` takes them.

        Raises:
            ConfigError: the part has no negatives of its own.
        """
        if part not in self.negative_EK:
            found = ", ".join(self.negative_EK) or "none"
            raise ConfigError(f"{part} has no target_node_neg; parts that have: {found}. Draw negatives instead.")
        edge_E2 = self.edge_E2[part]
        target_EC = np.concatenate([edge_E2[:, 1:], self.negative_EK[part]], axis=1)
        return np.stack([np.broadcast_to(edge_E2[:, :1], target_EC.shape), target_EC], axis=2)


def read_node_task(folder: Path) -> NodeTask:
    """Read a folder of node classification, without its features.

    Args:
        folder: see the module.

    Raises:
        DumpError: a file is missing, cut, needs more than plain tensors, or contradicts another one.
        NotInstalled: torch is missing.
    """
    label_N, missing_N = _labels(folder / "labels-w-missing.pt")
    num_nodes = len(label_N)
    path = folder / "nc_edges-nodeid.pt"
    edge_E2 = nodes_of(load_saved(path), f"{path}", num_nodes)
    if edge_E2.ndim != 2 or edge_E2.shape[1] != 2:
        raise DumpError(
            f"{path}: expected pairs of nodes, E × 2, found shape {shape_text(edge_E2)}. It is another file."
        )
    split = _node_split(folder / "split.pt", num_nodes)
    missing = {part: int(np.count_nonzero(missing_N[split[part]])) for part in SPLITS}
    missing["all"] = int(np.count_nonzero(missing_N))
    if missing["all"]:
        logger.warning("%s: labels are missing: %s", folder.name, missing)
    return NodeTask(
        node_ids=_node_ids(folder / "node_mapping.pt", num_nodes),
        edge_E2=edge_E2,
        label_N=label_N,
        split=split,
        num_missing=missing,
    )


def read_link_task(folder: Path, *, num_nodes: int | None = None) -> LinkTask:
    """Read a folder of link prediction, without its features.

    Args:
        folder: see the module; where two files of edges lie, the one without an ending in its name is read.
        num_nodes: N; by default the rows of the first feature file that is there, or else the entries of the mapping.

    Raises:
        DumpError: a file is missing, cut, needs more than plain tensors, or contradicts another one; or nothing in the
            folder says how many nodes there are.
        NotInstalled: torch is missing.
    """
    path = next((folder / name for name in _LINK_FILES if (folder / name).is_file()), None)
    if path is None:
        raise DumpError(f"{folder}: expected {' or '.join(_LINK_FILES)}, found none. Put it there.")
    found_nodes = num_nodes if num_nodes is not None else _count_nodes(folder)
    content = mapping_of(load_saved(path), path)
    edges, negatives = {}, {}
    for part in SPLITS:
        fields = mapping_of(content.get(part), f"{path}, {part}")
        ends = []
        for name in ("source_node", "target_node"):
            if name not in fields:
                raise DumpError(f"{path}, {part}: expected source_node and target_node, found {sorted(fields)}.")
            ends.append(vector_of(fields[name], f"{path}, {part}, {name}", found_nodes))
        if len(ends[0]) != len(ends[1]):
            raise DumpError(
                f"{path}, {part}: expected as many targets as sources, found {len(ends[1])}, {len(ends[0])}."
            )
        edges[part] = np.stack(ends, axis=1)
        if "target_node_neg" in fields:
            where = f"{path}, {part}, target_node_neg"
            negatives[part] = nodes_of(fields["target_node_neg"], where, found_nodes)
            if negatives[part].ndim != 2 or len(negatives[part]) != len(edges[part]):
                found = shape_text(negatives[part])
                raise DumpError(f"{where}: expected a row for each of {len(edges[part])} edges, found shape {found}.")
    # an edge in two parts is its own answer; its reverse counts as another edge, as in the benchmark's loader
    keys = {part: edge_E2[:, 0] * found_nodes + edge_E2[:, 1] for part, edge_E2 in edges.items()}
    _check_parts_apart(path, keys, lambda key: f"edge {divmod(key, found_nodes)}")
    return LinkTask(
        num_nodes=found_nodes,
        node_ids=_node_ids(folder / "node_mapping.pt", found_nodes),
        edge_E2=edges,
        negative_EK=negatives,
    )


def read_features(folder: Path, name: str, *, num_nodes: int) -> np.ndarray[Any, Any]:
    """Map the features of all nodes into memory; rows are only read when they are used.

    Args:
        folder: of a task.
        name: one of `FEATURES`, or of a file ``NAME_feat.pt`` of your own.
        num_nodes: N of the task.

    Returns:
        (N, D), float16 or float32 as in the file (bfloat16 becomes float32). Text and picture: :func:`halves`.

    Raises:
        DumpError: the file is missing, is no matrix of numbers, or has not a row for each node.
    """
    path = folder / f"{name}_feat.pt"
    if not path.is_file():
        there = sorted(other.name.removesuffix("_feat.pt") for other in folder.glob("*_feat.pt"))
        raise DumpError(f"{path}: no such file. Features that are there: {', '.join(there) or 'none'}.")
    torch = require("torch", extra="graph", needed_by=NEEDED_BY)
    feature_ND = torch.as_tensor(load_saved(path))
    if feature_ND.ndim != 2 or not feature_ND.is_floating_point():
        raise DumpError(f"{path}: expected a matrix of numbers, found {feature_ND.dtype} {tuple(feature_ND.shape)}.")
    if len(feature_ND) != num_nodes:
        raise DumpError(
            f"{path}: expected a row for each of {num_nodes:,} nodes, found {len(feature_ND):,} rows. "
            "Are the features of another graph?"
        )
    return (feature_ND.float() if feature_ND.dtype == torch.bfloat16 else feature_ND).numpy()


def halves(feature_ND: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the features of the texts and of the pictures: (N, D / 2) each, the first and the second half.

    Raises:
        ConfigError: D is odd.
    """
    width = feature_ND.shape[1]
    if width % 2:
        raise ConfigError(f"expected features of text and picture, of one width, side by side; found {width} columns")
    return feature_ND[:, : width // 2], feature_ND[:, width // 2 :]


def _labels(path: Path) -> tuple[Int64Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    """(N,) classes with -1 for none, and which nodes have none."""
    value_N = array_of(load_saved(path), f"{path}")
    if value_N.ndim == 2 and value_N.shape[1] == 1:
        value_N = value_N[:, 0]
    if value_N.ndim != 1 or not len(value_N) or value_N.dtype.kind not in "iuf":
        raise DumpError(f"{path}: expected a class number for each node, found {value_N.dtype} {shape_text(value_N)}.")
    missing_N = ~(value_N >= 0)  # NaN is not
    label_N = np.where(missing_N, _MISSING, np.where(missing_N, 0, value_N)).astype(np.int64)
    if (broken := ~missing_N & (label_N != value_N)).any():
        node = int(np.flatnonzero(broken)[0])
        raise DumpError(f"{path}, node {node}: expected a whole number, found {value_N[node]}.")
    return label_N, missing_N


def _node_split(path: Path, num_nodes: int) -> dict[str, Int64Array]:
    content = mapping_of(load_saved(path), path)
    split: dict[str, Int64Array] = {}
    for part, name in _NODE_SPLITS.items():
        if name not in content:
            raise DumpError(f"{path}: expected {', '.join(_NODE_SPLITS.values())}, found {sorted(content)}.")
        split[part] = vector_of(content[name], f"{path}, {name}", num_nodes)
    by_name = {_NODE_SPLITS[part]: nodes for part, nodes in split.items()}
    _check_parts_apart(path, by_name, lambda node: f"node {node}")
    return split


def _check_parts_apart(path: Path, parts: Mapping[str, Int64Array], show: Callable[[int], str]) -> None:
    for first, second in itertools.combinations(parts, 2):
        both = np.intersect1d(parts[first], parts[second])
        if len(both):
            raise DumpError(
                f"{path}: expected nothing in two parts, found {len(both):,} in {first} and in {second} too, such as "
                f"{show(int(both[0]))}. Remove them from one."
            )


def _node_ids(path: Path, num_nodes: int) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    content = mapping_of(load_saved(path), path)
    ids: list[str | None] = [None] * num_nodes
    for name, node in content.items():
        if isinstance(node, bool) or not isinstance(node, int) or not 0 <= node < num_nodes:
            raise DumpError(f"{path}, {name!r}: expected a node, 0 to {num_nodes - 1}, found {node!r}.")
        if ids[node] is not None:
            raise DumpError(f"{path}: expected an id for each node, found {ids[node]!r} and {name!r} for node {node}.")
        ids[node] = str(name)
    if None in ids:
        raise DumpError(f"{path}: expected an id for each of {num_nodes} nodes, found none for node {ids.index(None)}.")
    return tuple(name for name in ids if name is not None)


def _count_nodes(folder: Path) -> int:
    for name in FEATURES:
        path = folder / f"{name}_feat.pt"
        if path.is_file():
            return len(load_saved(path))
    path = folder / "node_mapping.pt"
    if path.is_file():
        return len(mapping_of(load_saved(path), path))
    names = ", ".join(f"{name}_feat.pt" for name in FEATURES)
    raise DumpError(
        f"{folder}: expected {names} or node_mapping.pt to say how many nodes there are, found none of them. "
        "Put one there, or pass num_nodes."
    )
