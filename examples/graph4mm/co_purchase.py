"""What hop diffusion knows of products that are bought together, beside what their common neighbours know.

    python examples/graph4mm/co_purchase.py --data data/amazon_grocery --json runs/co_purchase.json

Graph4MM spreads attention over many hops, 𝒜 = Σ_{i<K} α(1−α)^i A^i. Here A is uniform attention over the train edges
of a graph of products and a self loop at each, so nothing is learned but how to combine 𝒜_uv with common neighbours,
Adamic-Adar and preferential attachment. A pair of test has no edge in the graph: its 𝒜_uv is 0 for K = 1 and 2. K = 3
sees walks of two steps, which are common neighbours again, counted by their degrees; only K = 4 and more see what lies
beyond, so K = 3 is what "more hops" is compared with. α and K are chosen on valid, for diffusion alone and for the
combination apart. The combination is learned from train pairs whose edges were taken out of the graph that their
features come from.

Prints MRR, Hits@k and the area under the curve with 95 % intervals (pairs are drawn together with their busier end),
then paired differences. `--draw degree` draws negatives by degree instead of evenly, which are harder.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cells import print_table, shown
from scipy.sparse import csr_array, diags_array, eye_array

from mmkg.evaluation.bootstrap import FloatArray, Int64Array
from mmkg.evaluation.pair_ranking import (
    PairRanks,
    compare_pairs,
    hub_clusters,
    rank_pairs,
    summarise_pairs,
    with_negatives,
)
from mmkg.evaluation.pair_scorers import (
    adamic_adar,
    adjacency,
    common_neighbours,
    degrees,
    fit_logistic,
    hold_out_pairs,
    preferential_attachment,
)
from mmkg.shards import write_json
from mmkg.tasks.co_purchase import RELATIONS, read_co_purchases
from mmkg.tasks.edge_split import EdgeSplit, split_edges

ALPHAS = (0.1, 0.2, 0.5)
TERMS = (1, 2, 3, 4, 8, 16)  # K
TWO_STEPS = 3
SOURCES_AT_ONCE = 512
METRICS = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10", "auc")
HEURISTICS = ("common neighbours", "Adamic-Adar", "preferential attachment")
TOGETHER, DIFFUSION, ALL = "heuristics together", "diffusion", "heuristics + diffusion"
DIFFUSION_3, ALL_3 = f"{DIFFUSION} K=3", f"{ALL} K=3"
DIFFERENCES = (
    (DIFFUSION, HEURISTICS[1]),
    (DIFFUSION_3, HEURISTICS[1]),
    (DIFFUSION, DIFFUSION_3),
    (TOGETHER, HEURISTICS[1]),
    (ALL, TOGETHER),
    (ALL, ALL_3),
    (ALL, DIFFUSION),
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Candidates of some true pairs (P, C, 2) and all that is known of each, one after another (M = P · C).

    `heuristic_MF` holds the heuristics in their order, `hop_MK` (A^i)_uv, `back_M` what turns 𝒜_uv into 𝒜_vu.
    """

    candidate_PC2: Int64Array
    heuristic_MF: FloatArray
    hop_MK: np.ndarray
    back_M: FloatArray

    def rank(self, score_M: FloatArray) -> PairRanks:
        return rank_pairs(self.candidate_PC2, score_M.reshape(self.candidate_PC2.shape[:2]))

    def both_sides(self, alpha: float, terms: int) -> tuple[FloatArray, FloatArray]:
        """𝒜_uv and 𝒜_vu of each pair."""
        weight_K = alpha * (1 - alpha) ** np.arange(terms)
        there_M = self.hop_MK[:, :terms] @ weight_K
        return there_M, there_M * self.back_M

    def features(self, alpha: float | None = None, terms: int = 0) -> FloatArray:
        """(M, 3) or (M, 5) logarithms; diffusion by its arithmetic and its geometric mean, the same from both sides."""
        columns = [np.log1p(self.heuristic_MF)]
        if alpha is not None:
            there_M, back_M = self.both_sides(alpha, terms)
            smallest = 1e-8  # no walk of so few steps
            columns += [
                np.log(there_M + back_M + smallest)[:, None],
                np.log(there_M * back_M + smallest**2)[:, None] / 2,
            ]
        return np.hstack(columns)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with item_meta.csv.gz of ReChorus' groceries")
    parser.add_argument("--relation", choices=RELATIONS, default="r_complement")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the negatives and the bootstrap")
    parser.add_argument("--negatives", type=int, default=100, help="beside each true pair")
    parser.add_argument("--draw", choices=("even", "degree"), default="even", help="how negatives are drawn")
    parser.add_argument("--test-pairs", type=int, default=10_000, help="so many of test, drawn")
    parser.add_argument("--other-pairs", type=int, default=5_000, help="so many of valid, and of train to learn from")
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    arguments = parser.parse_args(words)
    start = time.perf_counter()
    items = read_co_purchases(arguments.data)
    num_nodes = len(items.item_ids)
    split = split_edges(items.edges[arguments.relation], num_nodes=num_nodes, random_seed=arguments.seed)
    print(f"{num_nodes:,} products, pairs of {arguments.relation}: {dict(split.counts)}", flush=True)
    learn, valid, test = read_parts(split, arguments)
    print(f"features of {sum(len(p.back_M) for p in (learn, valid, test)):,} pairs", flush=True)

    alone, together = choose(learn, valid)
    scores = scores_of_test(learn, test, alone, together)
    ranks = {name: test.rank(score_M) for name, score_M in scores.items()}
    true_P2 = test.candidate_PC2[:, 0]
    cluster_P = hub_clusters(true_P2, degrees(adjacency(split.train, num_nodes)))
    bootstrap = {"cluster_P": cluster_P, "draws": arguments.draws, "random_seed": arguments.seed}
    found = {name: summarise_pairs(one, **bootstrap) for name, one in ranks.items()}
    apart = {f"{one} − {other}": compare_pairs(ranks[one], ranks[other], **bootstrap) for one, other in DIFFERENCES}

    print(f"\ntest: {len(true_P2):,} pairs, {arguments.negatives} negatives each, drawn by {arguments.draw}")
    print_table(["", *METRICS], [[name, *(f"{one[m].value:.3f}" for m in METRICS)] for name, one in found.items()])
    print("\n95 % intervals of mrr, and differences of mrr and hits_at_10 pair by pair")
    print_table(["", "mrr"], [[name, shown(one["mrr"])] for name, one in found.items()])
    rows = [[name, *(shown(one[m].difference, "+") for m in ("mrr", "hits_at_10"))] for name, one in apart.items()]
    print_table(["", "mrr", "hits_at_10"], rows)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if arguments.json:
        as_json = {
            "settings": {name: str(value) for name, value in vars(arguments).items()},
            "chosen": {DIFFUSION: alone, ALL: together},
            "test": {name: {m: one[m].as_json() for m in METRICS} for name, one in found.items()},
            "differences": {name: {m: one[m].as_json() for m in METRICS} for name, one in apart.items()},
        }
        write_json(arguments.json, as_json)


def read_parts(split: EdgeSplit, arguments: argparse.Namespace) -> Iterator[Part]:
    """Of pairs to learn from, on a graph without them; then of valid and test, on all train edges."""
    share = min(0.1, arguments.other_pairs / len(split.train))
    rest, held = hold_out_pairs(split.train, share, random_seed=arguments.seed)
    for place, (true_P2, edges, most) in enumerate(
        (
            (held, rest, arguments.other_pairs),
            (split.valid, split.train, arguments.other_pairs),
            (split.test, split.train, arguments.test_pairs),
        )
    ):
        drawn = np.random.default_rng([arguments.seed, place]).permutation(len(true_P2))[:most]
        candidate_PC2 = with_negatives(
            true_P2[np.sort(drawn)],
            split.all_pairs,
            num_nodes=split.num_nodes,
            num_negatives=arguments.negatives,
            pool=split.train.ravel() if arguments.draw == "degree" else None,
            random_seed=arguments.seed + place,
        )
        yield read_part(candidate_PC2, adjacency(edges, split.num_nodes))


def read_part(candidate_PC2: Int64Array, graph_NN: csr_array) -> Part:
    pair_M2 = candidate_PC2.reshape(-1, 2)
    heuristics = [
        heuristic(graph_NN, pair_M2) for heuristic in (common_neighbours, adamic_adar, preferential_attachment)
    ]
    # A = D⁻¹(W + I) with W symmetric, so D A^i is symmetric: one side gives the other
    size_N = degrees(graph_NN) + 1
    return Part(
        candidate_PC2=candidate_PC2,
        heuristic_MF=np.stack(heuristics, axis=1),
        hop_MK=walks(graph_NN, pair_M2, max(TERMS)),
        back_M=size_N[pair_M2[:, 0]] / size_N[pair_M2[:, 1]],
    )


def walks(graph_NN: csr_array, pair_M2: Int64Array, terms: int) -> np.ndarray:
    """(M, K) (A^i)_uv for i < K, uniform attention with self loops; every α and every smaller K are sums of these."""
    num_nodes = graph_NN.shape[0]
    looped_NN = (graph_NN + eye_array(num_nodes)).tocsr()
    turned_NN = csr_array((diags_array(1 / looped_NN.sum(axis=1)) @ looped_NN).T, dtype=np.float32)
    source_S, place_M = np.unique(pair_M2[:, 0], return_inverse=True)
    value_MK = np.empty((len(pair_M2), terms), dtype=np.float32)
    order = np.argsort(place_M, kind="stable")
    for first in range(0, len(source_S), SOURCES_AT_ONCE):
        block = source_S[first : first + SOURCES_AT_ONCE]
        here = order[slice(*np.searchsorted(place_M[order], [first, first + len(block)]))]
        reached_NS = np.zeros((num_nodes, len(block)), dtype=np.float32)
        reached_NS[block, np.arange(len(block))] = 1
        for step in range(terms):
            value_MK[here, step] = reached_NS[pair_M2[here, 1], place_M[here] - first]
            if step + 1 < terms:
                reached_NS = turned_NN @ reached_NS
    return value_MK


def choose(learn: Part, valid: Part) -> tuple[tuple[float, int], tuple[float, int]]:
    """(α, K) with the best MRR on valid: of diffusion alone, and of the combination; prints all of them."""
    alone: dict[tuple[float, int], float] = {}
    together: dict[tuple[float, int], float] = {}
    for alpha in ALPHAS:
        for terms in TERMS:
            score_M = sum(valid.both_sides(alpha, terms))
            alone[alpha, terms] = float((1 / valid.rank(score_M).realistic).mean())
            score_M = combined(learn, valid, alpha, terms)
            together[alpha, terms] = float((1 / valid.rank(score_M).realistic).mean())
    header = ["mrr on valid", *(f"K={terms}" for terms in TERMS)]
    for name, values in ((DIFFUSION, alone), (ALL, together)):
        rows = [[f"{name}, α={alpha}", *(f"{values[alpha, terms]:.4f}" for terms in TERMS)] for alpha in ALPHAS]
        print_table(header, rows)
    return max(alone, key=alone.__getitem__), max(together, key=together.__getitem__)


def combined(learn: Part, part: Part, alpha: float | None = None, terms: int = 0) -> FloatArray:
    """(M,) scores of a part by a combination that was learned from another."""
    is_edge_PC = np.zeros(learn.candidate_PC2.shape[:2], dtype=np.bool_)
    is_edge_PC[:, 0] = True
    names = [*HEURISTICS, "log mean of 𝒜", "mean log of 𝒜"]
    features = learn.features(alpha, terms)
    return fit_logistic(features, is_edge_PC.ravel(), names=names[: features.shape[1]]).score(
        part.features(alpha, terms)
    )


def scores_of_test(
    learn: Part, test: Part, alone: tuple[float, int], together: tuple[float, int]
) -> Mapping[str, FloatArray]:
    print(f"chosen on valid: {DIFFUSION} α={alone[0]}, K={alone[1]}; {ALL} α={together[0]}, K={together[1]}")
    return {
        **dict(zip(HEURISTICS, test.heuristic_MF.T, strict=True)),
        DIFFUSION_3: sum(test.both_sides(alone[0], TWO_STEPS)),
        DIFFUSION: sum(test.both_sides(*alone)),
        TOGETHER: combined(learn, test),
        ALL_3: combined(learn, test, together[0], TWO_STEPS),
        ALL: combined(learn, test, *together),
    }


if __name__ == "__main__":
    main()
