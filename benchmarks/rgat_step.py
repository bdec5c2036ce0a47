"""One RGAT step, forward and backward: the fused CPU kernel against PyTorch Geometric, DGL and plain torch.

    python benchmarks/rgat_step.py [--quick]

Whole layers against ``RGATConv`` (time, and peak memory above what was there, each in a process of its own): with a
vector per relation against its matrix per relation, and bases against bases. The attention operator alone, without the
matrix products that all share, against DGL: written as DGL's own layers are (a message per edge, ``edge_softmax``,
``update_all``), and as our DGL backend does it. Ours and the peer take turns, medians are compared.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from measure import Ratio, machine
from torch import Tensor
from torch.nn import functional

from mmkg.encoders import Rgat, RgatConfig, ops
from mmkg.encoders.terms import AttentionTerms
from mmkg.subgraphs.batch import MessageGraph, import_dgl


@dataclass(frozen=True, kw_only=True)
class Size:
    edges: int
    nodes: int
    relations: int
    width: int
    heads: int

    def __str__(self) -> str:
        return f"{self.edges:,} edges d {self.width} H {self.heads}"


FULL = Size(edges=100_000, nodes=20_000, relations=200, width=64, heads=4)
FB15K237 = Size(edges=544_230, nodes=14_541, relations=475, width=100, heads=4)
QUICK = Size(edges=20_000, nodes=4_000, relations=50, width=64, heads=4)
WARM_UP = Size(edges=100, nodes=20, relations=5, width=64, heads=4)


def random_graph(size: Size) -> MessageGraph:
    torch.manual_seed(0)
    return MessageGraph(
        src_E=torch.randint(size.nodes, (size.edges,)),
        relation_E=torch.randint(size.relations, (size.edges,)),
        dst_E=torch.randint(size.nodes, (size.edges,)),
        num_nodes=size.nodes,
        num_relations=size.relations,
    )


def layer_step(size: Size, who: str) -> Callable[[], None]:
    """A whole layer of ours with a vector per relation, with bases, or PyG's RGATConv with a matrix per relation."""
    graph = random_graph(size)
    node_ND = torch.randn(size.nodes, size.width, requires_grad=True)
    relation_RD = torch.randn(size.relations, size.width, requires_grad=True)
    if who.startswith("pyg"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_geometric.nn import RGATConv
        conv = RGATConv(
            size.width,
            size.width // size.heads,
            size.relations,
            heads=size.heads,
            edge_dim=size.width,
            num_bases=8 if who == "pyg-bases" else None,
        )
        ends = torch.stack([graph.src_E, graph.dst_E])

        def forward() -> Tensor:
            return conv(node_ND, ends, graph.relation_E, edge_attr=relation_RD.index_select(0, graph.relation_E))

        parameters = list(conv.parameters())
    else:
        bases = {"num_bases": 8, "num_relations": size.relations} if who == "bases" else {}
        encoder = Rgat(
            RgatConfig(node_width=size.width, relation_width=size.width, num_heads=size.heads, residual=False, **bases)
        )

        def forward() -> Tensor:
            return encoder(graph, node_ND, relation_RD)

        parameters = list(encoder.parameters())

    def step() -> None:
        for leaf in (node_ND, relation_RD, *parameters):
            leaf.grad = None
        forward().square().sum().backward()

    return step


def operator_step(size: Size, who: str, message: str) -> Callable[[], None]:
    """The attention operator alone, by one of our backends or by DGL as one would write it."""
    graph = random_graph(size)
    per_head = size.width // size.heads
    value_NHD = torch.randn(size.nodes, size.heads, per_head, requires_grad=True)
    vector_RHD = torch.randn(size.relations, size.heads, per_head, requires_grad=True)
    dst_NH, src_NH = (torch.randn(size.nodes, size.heads, requires_grad=True) for _ in range(2))
    relation_RH = torch.randn(size.relations, size.heads, requires_grad=True)
    grad_NHD = torch.randn(size.nodes, size.heads, per_head)
    leaves = (value_NHD, vector_RHD, dst_NH, src_NH, relation_RH)
    terms = AttentionTerms(dst_NH=dst_NH, src_NH=src_NH, relation_RH=relation_RH)

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        if who == "dgl as usual":
            out_NHD = dgl_as_usual(graph, terms, value_NHD, vector_RHD, message)
        else:
            out_NHD = ops.attend(graph, terms, value_NHD, vector_RHD, message=message, backend=who)
        out_NHD.backward(grad_NHD)

    return step


def dgl_as_usual(
    graph: MessageGraph, terms: AttentionTerms, value_NHD: Tensor, vector_RHD: Tensor, message: str
) -> Tensor:
    """Node and edge frames, apply_edges, edge_softmax, update_all: the way of dgl.nn.GATConv and EdgeGATConv."""
    dgl = import_dgl()
    edges = graph.dgl()
    with edges.local_scope():
        edges.srcdata["value"], edges.srcdata["src"] = value_NHD, terms.src_NH[:, :, None]
        edges.dstdata["dst"] = terms.dst_NH[:, :, None]
        edges.edata["vector"] = vector_RHD.index_select(0, graph.relation_E)
        edges.apply_edges(dgl.function.u_add_v("src", "dst", "logit"))
        logit_EH1 = edges.edata["logit"] + terms.relation_RH.index_select(0, graph.relation_E)[:, :, None]
        share_EH1 = dgl.ops.edge_softmax(edges, functional.leaky_relu(logit_EH1, 0.2))
        combine = dgl.function.u_add_e if message == "sum" else dgl.function.u_mul_e
        edges.apply_edges(combine("value", "vector", "message"))
        edges.edata["message"] = edges.edata["message"] * share_EH1
        edges.update_all(dgl.function.copy_e("message", "message"), dgl.function.sum("message", "out"))
        return edges.dstdata["out"]


def medians(ours: Callable[[], None], theirs: Callable[[], None], *, repeats: int) -> tuple[float, float]:
    """Median seconds of both, taking turns, so that a busy moment of the machine meets both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_ in range(repeats + 1):
        for work, into in zip((ours, theirs), seconds, strict=True):
            started = time.perf_counter()
            work()
            if round_ > 0:  # the first compiles, sorts edges and fills caches
                into.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def peak_megabytes(size: Size, who: str) -> float:
    """Peak memory of one step of a layer above what its process held before, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", who, "--size", json.dumps(vars(size))]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout)


def print_peak(size: Size, who: str) -> None:
    layer_step(WARM_UP, who)()  # loads and compiles
    step = layer_step(size, who)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again at what is held now
    before = _status_kilobytes("VmRSS")
    step()
    print((_status_kilobytes("VmHWM") - before) / 1024)


def _status_kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("peak memory is read from /proc, which this system does not have")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small graph, a few seconds; ratios are lower there")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print_peak(Size(**arguments.size), arguments.peak_of)
        return
    print(f"{machine()}, torch {torch.__version__} on {torch.get_num_threads()} threads")
    size = QUICK if arguments.quick else FULL
    for who, peer, kind, target in (("ours", "pyg", "vectors", 10), ("bases", "pyg-bases", "8 bases", 2)):
        ours, theirs = medians(layer_step(size, who), layer_step(size, peer), repeats=3)
        print(Ratio(work=f"layer, {kind}: {size}", peer="PyG", ours=ours, theirs=theirs, unit="s", target=target))
        ours, theirs = peak_megabytes(size, who), peak_megabytes(size, peer)
        print(Ratio(work=f"  peak memory, {kind}", peer="PyG", ours=ours, theirs=theirs, unit="MB", target=8))
    for size_ in (size,) if arguments.quick else (FULL, FB15K237):
        for message in ("sum", "product"):
            for us, peer, target in (("fused", "dgl as usual", 5), ("fused", "dgl", 1), ("dgl", "torch", 1)):
                ours, theirs = medians(
                    operator_step(size_, us, message), operator_step(size_, peer, message), repeats=5
                )
                name = f"{us}, {message}: {size_}"
                label = "our dgl" if peer == "dgl" else peer
                print(Ratio(work=name, peer=label, ours=ours, theirs=theirs, unit="s", target=target))


if __name__ == "__main__":
    main()
