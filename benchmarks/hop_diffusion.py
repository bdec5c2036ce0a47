"""Hop-diffused attention: sparse ours against the released dense form, against the bare products, and in a batch.

    python benchmarks/hop_diffusion.py [--quick]

Whole encoders, queries and keys included, against the released form (``examples/graph4mm/released.py``) at one graph of
2,000 nodes: time, and peak memory above what was there, each in a process of its own. Time along the number of edges.
The diffusion alone, forward, against what no sparse form can be without: K − 1 sparse products with the same weights,
by torch's CSR and by DGL. A batch of small graphs against one call a graph. Ours and the peer take turns, medians are
compared.
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
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "graph4mm"))

import torch
from measure import Ratio, machine
from released import ReleasedHopDiffusion
from torch import Tensor

from mmkg.encoders import HopDiffusion, HopDiffusionConfig, ops
from mmkg.encoders.hop_diffusion import diffuse
from mmkg.subgraphs.batch import MessageGraph, batch_graphs, import_dgl
from mmkg.subgraphs.directions import undirected


@dataclass(frozen=True)
class Seconds:
    calls: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.calls)

    @property
    def fastest(self) -> float:
        return min(self.calls)


DEGREE, ALPHA, NUM_TERMS, NUM_HEADS = 16, 0.1, 4, 4
NO_RELATIONS = torch.empty(0)


def random_graph(nodes: int, *, degree: int = DEGREE) -> MessageGraph:
    """About nodes × degree edges, each way, with self loops; each node draws half of its neighbours."""
    src_E = torch.randint(nodes, (nodes * degree // 2,))
    dst_E = torch.randint(nodes, (nodes * degree // 2,))
    graph = MessageGraph(src_E=src_E, relation_E=torch.zeros_like(src_E), dst_E=dst_E, num_nodes=nodes, num_relations=1)
    return undirected(graph, self_loops=True)


def encoder_of(width: int) -> HopDiffusion:
    """As released, but per sample; the graph is undirected already."""
    return HopDiffusion(
        HopDiffusionConfig(
            node_width=width, num_heads=NUM_HEADS, alpha=ALPHA, num_terms=NUM_TERMS, residual=False, undirected=False
        )
    )


def encoder_step(who: str, nodes: int, width: int, *, backward: bool) -> Callable[[], None]:
    """One call of an encoder on one graph, ours or the released form."""
    torch.manual_seed(0)
    graph = random_graph(nodes)
    node_ND = torch.randn(nodes, width, requires_grad=True)
    if who == "ours":
        encoder: torch.nn.Module = encoder_of(width)

        def forward() -> Tensor:
            return encoder(graph, node_ND, NO_RELATIONS)
    else:
        encoder = ReleasedHopDiffusion(width, NUM_HEADS, alpha=ALPHA, num_terms=NUM_TERMS)
        mask_1NN = torch.zeros(1, nodes, nodes)
        mask_1NN[0, graph.dst_E, graph.src_E] = 1

        def forward() -> Tensor:
            return encoder(node_ND[None], mask_1NN)

    def step() -> None:
        with torch.set_grad_enabled(backward):
            out = forward()
        if backward:
            for leaf in (node_ND, *encoder.parameters()):
                leaf.grad = None
            out.square().sum().backward()

    return step


def diffusion(nodes: int, width: int, who: str) -> Callable[[], Tensor]:
    """The diffusion alone, or as many bare products with the same matrix."""
    torch.manual_seed(0)
    graph = random_graph(nodes)
    share_E1 = ops.edge_softmax(graph, torch.randn(graph.num_edges, 1))
    value_N1D = torch.randn(nodes, 1, width)
    if who == "ours":
        return lambda: diffuse(graph, share_E1, value_N1D, alpha=ALPHA, num_terms=NUM_TERMS, isolated="zero")
    if who == "torch CSR":
        csr = graph.csr()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that CSR is in beta
            matrix = torch.sparse_csr_tensor(
                torch.from_numpy(csr.indptr), torch.from_numpy(csr.other), share_E1[csr.edge, 0], size=(nodes, nodes)
            )
        value_ND = value_N1D[:, 0].contiguous()
        return lambda: repeated(lambda state_ND: matrix @ state_ND, value_ND)
    dgl_ops, edges, share_E11 = import_dgl().ops, graph.dgl(), share_E1[:, :, None]
    if who == "DGL weighted":
        return lambda: repeated(lambda state: dgl_ops.u_mul_e_sum(edges, state, share_E11), value_N1D)
    return lambda: repeated(lambda state: dgl_ops.copy_u_sum(edges, state), value_N1D)


def repeated(product: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    for _ in range(NUM_TERMS - 1):
        state = product(state)
    return state


def batch_steps(graphs: int, nodes: int, width: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """All graphs in one call, and each in its own; forward. Orders for kernels are made anew, as for a new batch."""
    torch.manual_seed(0)
    single = [random_graph(nodes, degree=4) for _ in range(graphs)]
    node_ND = torch.randn(graphs * nodes, width)
    encoder = encoder_of(width)

    @torch.no_grad()
    def together() -> Tensor:
        return encoder(batch_graphs(single), node_ND, NO_RELATIONS)

    @torch.no_grad()
    def apart() -> Tensor:
        parts = [(part_ND, NO_RELATIONS) for part_ND in node_ND.split(nodes)]
        return torch.cat([encoder(batch_graphs([graph]), *pair) for graph, pair in zip(single, parts, strict=True)])

    return together, apart


def timed(ours: Callable[[], object], theirs: Callable[[], object], *, repeats: int) -> tuple[Seconds, Seconds]:
    """Seconds of both, taking turns, so that a busy moment of the machine meets both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_ in range(repeats + 1):
        for work, into in zip((ours, theirs), seconds, strict=True):
            started = time.perf_counter()
            work()
            if round_ > 0:  # the first compiles, sorts edges and fills caches
                into.append(time.perf_counter() - started)
    return Seconds(seconds[0]), Seconds(seconds[1])


def compare(
    work: str, peer: str, ours: Callable[[], object], theirs: Callable[[], object], *, target: float, repeats: int
) -> None:
    """Print the ratio of medians, and that of the fastest calls: on a busy machine a call only ever takes longer."""
    mine, other = timed(ours, theirs, repeats=repeats)
    ratio = Ratio(work=work, peer=peer, ours=mine.median, theirs=other.median, unit="s", target=target)
    print(
        f"{ratio}, fastest {mine.fastest:.3g} and {other.fastest:.3g} s, {other.fastest / mine.fastest:.2f} x",
        flush=True,
    )


def peak_megabytes(who: str, nodes: int, width: int, *, backward: bool) -> float:
    """Peak memory of one step above what its process held before, in a process of its own."""
    asked = json.dumps({"who": who, "nodes": nodes, "width": width, "backward": backward})
    found = subprocess.run([sys.executable, __file__, "--peak-of", asked], capture_output=True, text=True, check=True)
    return float(found.stdout)


def print_peak(who: str, nodes: int, width: int, backward: bool) -> None:
    encoder_step(who, 20, width, backward=backward)()  # what is compiled and imported is no memory of the step
    step = encoder_step(who, nodes, width, backward=backward)
    before = _status_kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    print((_status_kilobytes("VmHWM") - before) / 1024)


def _status_kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("peak memory is read from /proc, which this system does not have")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small graphs, a few seconds; ratios are lower there")
    parser.add_argument("--peak-of", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print_peak(**arguments.peak_of)
        return
    print(f"{machine()}, torch {torch.__version__} on {torch.get_num_threads()} threads")
    nodes = 500 if arguments.quick else 2_000
    for width in (64, 768):
        for backward in (True, False):
            what = f"{nodes:,} nodes d {width}, {'step' if backward else 'forward'}"
            steps = [encoder_step(who, nodes, width, backward=backward) for who in ("ours", "released")]
            compare(what, "released", *steps, target=10, repeats=7)
            ours, theirs = (peak_megabytes(who, nodes, width, backward=backward) for who in ("ours", "released"))
            print(Ratio(work="  peak memory", peer="released", ours=ours, theirs=theirs, unit="MB", target=10))
    smallest = None
    for edges in (62_500, 250_000) if arguments.quick else (62_500, 250_000, 1_000_000):
        run = diffusion(edges // DEGREE, 64, "ours")
        alone, whole = timed(run, encoder_step("ours", edges // DEGREE, 64, backward=True), repeats=11)
        each = [seconds.fastest / edges * 1e9 for seconds in (alone, whole)]
        smallest = smallest or each
        print(f"{edges:>9,} edges d 64, ns an edge (beside the smallest), fastest calls:", end=" ")
        names = ("diffusion", "step of the encoder")
        rows = zip(names, each, smallest, strict=True)
        print(", ".join(f"{name} {ns:.3g} ({ns / first:.2f} x)" for name, ns, first in rows), flush=True)
        for peer in ("torch CSR", "DGL weighted", "DGL unweighted"):
            work = f"  diffusion, {NUM_TERMS - 1} products"
            compare(work, peer, run, diffusion(edges // DEGREE, 64, peer), target=1 / 1.2, repeats=15)
    for width in (64, 768):
        together, apart = batch_steps(64, 24, width)
        torch.testing.assert_close(together(), apart(), rtol=1e-5, atol=1e-5)
        compare(f"batch of 64 graphs of 24 nodes d {width}", "64 calls", together, apart, target=1, repeats=11)


if __name__ == "__main__":
    main()
