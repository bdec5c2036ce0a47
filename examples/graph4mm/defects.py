"""What the released code of Graph4MM gets wrong, in numbers, beside ours on the same graphs and weights.

    python examples/graph4mm/defects.py --graphs 100 --seed 0

Prints one table a defect: samples of a batch that mix, rows that do not add to 1, the two readings of the mask, nodes
without neighbours, edges of a page that are shifted by one, images that do not line up with their graph, terms left
out, the share of the loss that is the target's, and how often the claim about Dirichlet energy holds. Seconds on a CPU.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from released import NUM_TEXT_SLOTS, ReleasedHopDiffusion, Section, image_slots, text_edges
from torch import Tensor

from mmkg.encoders import HopDiffusion, HopDiffusionConfig, ops
from mmkg.encoders.dirichlet import dirichlet_energy
from mmkg.encoders.hop_diffusion import diffuse, row_sum, truncation_error
from mmkg.encoders.hop_diffusion_dense import attention_on_edges, diffusion_matrix
from mmkg.subgraphs.batch import MessageGraph, batch_graphs
from mmkg.subgraphs.directions import undirected

Table = list[list[str]]
WIDTH, NUM_HEADS = 48, 12
ALPHA, NUM_TERMS = 0.1, 4  # as released
INPUT_TOKENS, TARGET_TOKENS = 1_024, 128  # as released


def random_graph(generator: torch.Generator, num_nodes: int, *, more: float, self_loops: bool) -> MessageGraph:
    """Return a connected graph: a random tree, and each other pair with probability ``more``."""
    pairs = [(int(torch.randint(i, (1,), generator=generator)), i) for i in range(1, num_nodes)]
    pairs += (torch.rand(num_nodes, num_nodes, generator=generator) < more).triu(1).nonzero().tolist()
    src_E, dst_E = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    graph = MessageGraph(
        src_E=src_E, relation_E=torch.zeros_like(src_E), dst_E=dst_E, num_nodes=num_nodes, num_relations=1
    )
    return undirected(graph, self_loops=self_loops)


def mask_of(graph: MessageGraph) -> Tensor:
    """Return M (N, N), 1 where an edge is."""
    mask_NN = torch.zeros(graph.num_nodes, graph.num_nodes)
    mask_NN[graph.dst_E, graph.src_E] = 1
    return mask_NN


def both(seed: int) -> tuple[ReleasedHopDiffusion, HopDiffusion]:
    """Return the released form and ours with the same weights, ours told to differ in nothing but the batch."""
    torch.manual_seed(seed)
    released = ReleasedHopDiffusion(WIDTH, NUM_HEADS, alpha=ALPHA, num_terms=NUM_TERMS)
    config = HopDiffusionConfig(
        node_width=WIDTH, num_heads=NUM_HEADS, alpha=ALPHA, num_terms=NUM_TERMS, mask="renormalise", residual=False,
        rescale=False, isolated="zero", self_loops=False,
    )  # fmt: skip
    ours = HopDiffusion(config)
    query, key, _ = (2 * released.attention.in_proj_weight.detach()).chunk(3)  # attention that is not nearly even
    with torch.no_grad():
        released.attention.in_proj_weight.mul_(2)
        for side, weight in ((ours.query, query), (ours.key, key)):
            side.weight.copy_(weight)
            side.bias.zero_()
    return released, ours


@torch.no_grad()
def leak(batch_size: int, *, seed: int) -> dict[str, float]:
    """Return how far sample 0 moves, as a share of its length, and how far it is from what it gets alone.

    Args:
        batch_size: samples side by side, of 12 nodes each.
        seed: of weights, graphs and features.
    """
    released, ours = both(seed)
    generator = torch.Generator().manual_seed(seed)
    graphs = [random_graph(generator, 12, more=0.15, self_loops=False) for _ in range(batch_size)]
    node_BND = torch.randn(batch_size, 12, WIDTH, generator=generator)
    mask_BNN = torch.stack([mask_of(graph) for graph in graphs])
    changed_BND = node_BND.clone()
    if batch_size > 1:
        changed_BND[1] = torch.randn(12, WIDTH, generator=generator)

    def by_ours(features_BND: Tensor) -> Tensor:
        flat_ND = ours(batch_graphs(graphs), features_BND.flatten(0, 1), torch.empty(0))
        return flat_ND.view_as(features_BND)

    found = {}
    for who, run in (("released", lambda features_BND: released(features_BND, mask_BNN)), ("ours", by_ours)):
        first = run(node_BND)[0]
        found[f"{who} moved"] = ((first - run(changed_BND)[0]).norm() / first.norm()).item()
        alone = ours(graphs[0], node_BND[0], torch.empty(0))
        found[f"{who} from alone"] = ((first - alone).norm() / alone.norm()).item()
    return found


@torch.no_grad()
def rows(*, seed: int) -> dict[str, float]:
    """Return the mean row sum of 𝒜 and the length of the features that come out beside that of those that go in."""
    released, ours = both(seed)
    generator = torch.Generator().manual_seed(seed)
    graph = random_graph(generator, 12, more=0.15, self_loops=False)
    ones_1ND = torch.ones(1, 12, WIDTH)  # alike in every node, so attention is even and what comes out is the row sum
    config = HopDiffusionConfig(node_width=WIDTH, num_heads=NUM_HEADS, alpha=ALPHA, num_terms=NUM_TERMS, residual=False)
    whole = HopDiffusion(config)
    whole.load_state_dict(ours.state_dict())
    return {
        "released": released(ones_1ND, mask_of(graph)[None]).mean().item(),
        "ours": whole(graph, ones_1ND[0], torch.empty(0)).mean().item(),
        "1 − (1−α)^K": row_sum(ALPHA, NUM_TERMS),
    }


@torch.no_grad()
def literal(num_graphs: int, *, seed: int) -> dict[str, float]:
    """Return the weight of non-edges and the largest over the smallest entry of the printed double softmax."""
    generator = torch.Generator().manual_seed(seed)
    away, ratio = [], []
    for _ in range(num_graphs):
        graph = random_graph(generator, 12, more=0.2, self_loops=True)
        query_N1D, key_N1D = (torch.randn(12, 1, 16, generator=generator) for _ in range(2))
        pairs, share_E1 = attention_on_edges(graph, query_N1D / 4, key_N1D, None, mask="literal", mean=True)
        share_NN = torch.zeros(12, 12)
        share_NN[pairs.dst_E, pairs.src_E] = share_E1[:, 0]
        away.append((share_NN * (1 - mask_of(graph))).sum(1).mean())
        ratio.append(share_NN.max() / share_NN.min())
    return {"non-edges": torch.stack(away).mean().item(), "max / min": torch.stack(ratio).mean().item()}


@torch.no_grad()
def alone(*, seed: int) -> dict[str, float]:
    """Return the share of its features that a node without neighbours keeps."""
    released, ours = both(seed)
    none = torch.empty(0, dtype=torch.int64)
    graph = MessageGraph(src_E=none, relation_E=none, dst_E=none, num_nodes=1, num_relations=1)
    node_1D = torch.ones(1, WIDTH)
    defaults = HopDiffusion(HopDiffusionConfig(node_width=WIDTH, num_heads=NUM_HEADS, residual=False))
    defaults.load_state_dict(ours.state_dict())
    return {
        "released": released(node_1D[None], torch.zeros(1, 1, 1)).mean().item(),
        "ours": defaults(graph, node_1D, torch.empty(0)).mean().item(),
    }


def page(num_others: int) -> tuple[list[Section], Section]:
    """Return the sections of a page, every third below the one two before, and its target, 0, with an image."""
    parents = [number - 2 if number % 3 == 0 else None for number in range(1, num_others + 1)]
    others = [Section(number=number, parent=parent) for number, parent in enumerate(parents, start=1)]
    return others, Section(number=0, has_image=True)


def page_edges(num_others: int) -> dict[str, int]:
    """Return how many pairs of nodes are joined: as meant, in both forms, in the released one alone, and so on."""
    others, target = page(num_others)
    meant, below = text_edges(others, target=target, released=False)
    made, made_below = text_edges(others, target=target, released=True)
    return {
        "edges": len(meant),
        "pairs that stay": len(meant & made),
        "pairs that should not be": len(made - meant),
        "out of range": sum(max(pair) >= NUM_TEXT_SLOTS for pair in made),
        "parent-child": len(below),
        "parent-child as released": len(made_below),
    }


@torch.no_grad()
def wins(num_graphs: int, *, seed: int) -> Iterator[tuple[float, int, float, float]]:
    """Yield (α, k, share without the residual, share with it) of graphs where E(𝒜X) > E(A^k X), all terms."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(6, 25, (num_graphs,), generator=generator).tolist()
    graph = batch_graphs([random_graph(generator, size, more=0.15, self_loops=True) for size in sizes])
    share_E1 = ops.edge_softmax(graph, torch.randn(graph.num_edges, 1, generator=generator))
    node_N1D = torch.randn(graph.num_nodes, 1, 4, generator=generator)
    for alpha in (0.05, 0.1, 0.2, 0.5):
        after_N1D = diffuse(graph, share_E1, node_N1D, alpha=alpha, num_terms=None)
        energies = [dirichlet_energy(graph, state[:, 0]) for state in (after_N1D, node_N1D + after_N1D)]
        smoothed_N1D = node_N1D
        for k in range(1, 11):
            smoothed_N1D = ops.weighted_sum(graph, share_E1, smoothed_N1D)
            if k in (1, 2, 3, 4, 6, 10):
                against = dirichlet_energy(graph, smoothed_N1D[:, 0])
                plain, added = ((energy > against).float().mean().item() for energy in energies)
                yield alpha, k, plain, added


def truncation(num_terms: int, *, seed: int) -> float:
    """Return the largest absolute row sum of what K terms leave out, measured with whole matrices."""
    graph = random_graph(torch.Generator().manual_seed(seed), 12, more=0.2, self_loops=True)
    share_NN = mask_of(graph).double() / mask_of(graph).double().sum(1, keepdim=True)
    exact_NN, cut_NN = (diffusion_matrix(share_NN, alpha=ALPHA, num_terms=terms) for terms in (None, num_terms))
    return torch.linalg.matrix_norm(exact_NN - cut_NN, torch.inf).item()


def tables(num_graphs: int, seed: int) -> Iterator[tuple[str, Table]]:
    """Yield each table: what it shows, and its lines."""
    lines = [["batch", "released: moved by sample 1", "from alone", "ours: moved", "from alone"]]
    for size in (1, 2, 4, 8, 16):
        found = leak(size, seed=seed)
        lines.append([str(size), *(f"{100 * value:.4f} %" for value in found.values())])
    yield "Sample 0 when only sample 1 changes, and beside what it gets alone (share of its length)", lines
    yield "Row sums of 𝒜 at α = .1, K = 4", _two_columns(rows(seed=seed))
    yield f"softmax(M · A') as printed, {num_graphs} graphs of 12 nodes", _two_columns(literal(num_graphs, seed=seed))
    yield "What a node without neighbours keeps of its features", _two_columns(alone(seed=seed))
    others, target = page(2)
    shown = [", ".join(f"{i}–{j}" for i, j in sorted(text_edges(others, target=target, released=r)[0])) for r in (0, 1)]
    yield "Edges of a page: 0 target, 1 page, 2 caption, 3 and 4 sections", [["meant", "released"], shown]
    counts = [page_edges(number) for number in (2, 5, 9)]
    lines = [["other sections", "2", "5", "9"]]
    yield "Edges of pages", lines + [[name, *(str(one[name]) for one in counts)] for name in counts[0]]
    sections = [Section(number=n, has_image=n in (0, 2, 3)) for n in range(5)]
    lines = [["node in graph", "slot of features"], *([str(i), str(j)] for i, j in image_slots(sections))]
    yield "Images of sections 0, 2 and 3 of five", lines
    lines = [["K", "left out", "(1−α)^K"]]
    for terms in (1, 2, 4, 8, 32, 128):
        lines.append([str(terms), f"{truncation(terms, seed=seed):.3g}", f"{truncation_error(ALPHA, terms):.3g}"])
    yield "Terms left out at α = .1, largest absolute row sum", lines
    share = TARGET_TOKENS / (INPUT_TOKENS + TARGET_TOKENS)
    yield "Loss over the whole sequence, padding too", [["at most the target's", f"{100 * share:.1f} %"]]
    found_of = {(alpha, k): pair for alpha, k, *pair in wins(num_graphs, seed=seed)}
    steps = sorted({k for _, k in found_of})
    for column, name in enumerate(("E(𝒜X) > E(A^k X)", "E(X + 𝒜X) > E(A^k X)")):
        lines = [["α \\ k", *map(str, steps)]]
        for alpha in sorted({alpha for alpha, _ in found_of}):
            lines.append([str(alpha), *(f"{found_of[alpha, k][column]:.2f}" for k in steps)])
        yield f"Share of {num_graphs} graphs with {name}", lines


def _two_columns(values: dict[str, float]) -> Table:
    return [[name, f"{value:.4f}"] for name, value in values.items()]


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=100, help="random graphs of a statistic (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, graphs and features (default 0)")
    arguments = parser.parse_args(words)
    for title, lines in tables(arguments.graphs, arguments.seed):
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        print(f"\n{title}")
        for line in lines:
            print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
