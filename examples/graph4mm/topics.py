"""Which topics of GitHub are related: what logos and hop diffusion know beside texts and common neighbours.

    python examples/graph4mm/topics.py --data data/topics_graph --json runs/topics.json

A topic's text vector is that of its name and sentence, by a sentence encoder; its picture vector is that of its logo,
by a CLIP. Unless another is named that CLIP is the small one that mmkg brings, which knows drawn flags and little else:
take a real one (`--clip ViT-B-32 --pretrained laion2b_s34b_b79k`) before you conclude anything of pictures. Graph4MM
diffuses features over many hops, 𝒜X with 𝒜 = Σ_{i<K} α(1−α)^i A^i; here A is uniform attention over the train edges
and a self loop at each node, for texts and for pictures apart, so nothing is learnt but how to put scores together. K
and α are chosen on valid. Edges of held-out pairs are never in the graph; a combination is learnt from train pairs
whose edges were taken out of the graph that their features come from. A topic without a logo has no picture of its own;
after diffusion it has what came from its neighbours.

Diffused features know the graph too, whatever they are of: noise in place of the logos, diffused alike, tells how much.

Prints MRR, Hits@k and the area under the curve with 95 % intervals (pairs are drawn together with their busier end),
then paired differences, of all pairs and of those whose two ends have logos.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cells import print_table, shown

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import Embedder, open_embedder
from mmkg.embeddings.pipeline import in_pieces
from mmkg.encoders.hop_diffusion import diffuse
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
    cosine,
    degrees,
    fit_logistic,
    hold_out_pairs,
    preferential_attachment,
)
from mmkg.images.picture import Limits, decode_picture
from mmkg.shards import write_json
from mmkg.subgraphs.batch import MessageGraph
from mmkg.tasks.edge_split import EdgeSplit, split_edges
from mmkg.tasks.topics import Topic, read_topics

DIFFUSIONS = ((0.1, 2), (0.1, 3), (0.1, 4), (0.1, 8), (0.5, 2), (0.5, 3), (0.5, 4), (0.5, 8))  # α, K
METRICS = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10", "auc")
GRAPH = ("common neighbours", "Adamic-Adar", "preferential attachment")
TEXT, PICTURES, NOISE = "text", "pictures", "noise"
KINDS = (TEXT, PICTURES, NOISE)
LOGO = Limits(max_pixels=50_000_000, max_frames=1_000, shorter_side_px=256)
HELD_OUT_SHARE = 0.2  # of train pairs, to learn a combination from


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """Vectors of topics, zeros where there is none; noise stands where pictures do."""

    text_ND: np.ndarray
    picture_ND: np.ndarray
    noise_ND: np.ndarray

    def of(self, kind: str) -> np.ndarray:
        return {TEXT: self.text_ND, PICTURES: self.picture_ND, NOISE: self.noise_ND}[kind]

    @property
    def has_logo(self) -> np.ndarray:
        """(N,) which topics have a picture that could be read."""
        return self.picture_ND.any(axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Candidates of some true pairs (P, C, 2), and scores of each, one after another (M = P · C), by name."""

    candidate_PC2: Int64Array
    score_of: Mapping[str, FloatArray]

    def rank(self, score_M: FloatArray) -> PairRanks:
        return rank_pairs(self.candidate_PC2, score_M.reshape(self.candidate_PC2.shape[:2]))

    def features(self, names: Sequence[str]) -> FloatArray:
        return np.stack([self.score_of[name] for name in names], axis=1)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with nodes.jsonl, edges.tsv and logos/")
    parser.add_argument("--sentence", default="minilm", help="sentence encoder, or `hashing` for a try without one")
    parser.add_argument("--clip", default="atlas", help="an open_clip model; the bundled one knows flags only")
    parser.add_argument("--pretrained", default="", help="weights of --clip")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the negatives and the bootstrap")
    parser.add_argument("--negatives", type=int, default=100, help="beside each true pair")
    parser.add_argument("--draw", choices=("even", "degree"), default="even", help="how negatives are drawn")
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    arguments = parser.parse_args(words)
    start = time.perf_counter()
    graph = read_topics(arguments.data)
    num_nodes = len(graph.topics)
    split = split_edges(graph.edge_E2, num_nodes=num_nodes, random_seed=arguments.seed)
    print(f"{num_nodes:,} topics, related pairs: {dict(split.counts)}", flush=True)
    vectors = embed_topics(graph.topics, arguments)
    print(f"{np.count_nonzero(vectors.has_logo):,} logos, {time.perf_counter() - start:.0f} s", flush=True)
    if arguments.clip == "atlas":
        print("pictures by the bundled CLIP, which knows drawn flags and little else", flush=True)

    learn, valid, test = read_parts(split, vectors, arguments)
    chosen = {kind: choose(valid, kind) for kind in KINDS}
    ranks = {name: test.rank(score_M) for name, score_M in scores_of_test(learn, test, chosen).items()}
    true_P2 = test.candidate_PC2[:, 0]
    cluster_P = hub_clusters(true_P2, degrees(adjacency(split.train, num_nodes)))
    both_P = vectors.has_logo[true_P2].all(axis=1)
    bootstrap = {"draws": arguments.draws, "random_seed": arguments.seed}
    found = {name: summarise_pairs(one, cluster_P=cluster_P, **bootstrap) for name, one in ranks.items()}
    apart = {
        subset: {
            f"{one} − {other}": compare_pairs(
                of_rows(ranks[one], rows), of_rows(ranks[other], rows), cluster_P=cluster_P[rows], **bootstrap
            )
            for one, other in differences()
        }
        for subset, rows in (("all pairs", np.full(len(true_P2), True)), ("both ends with a logo", both_P))
        if rows.any()
    }

    print(f"\ntest: {len(true_P2):,} pairs, {arguments.negatives} negatives each, drawn by {arguments.draw}")
    print_table(["", *METRICS], [[name, *(f"{one[m].value:.3f}" for m in METRICS)] for name, one in found.items()])
    print("\n95 % intervals of mrr")
    print_table(["", "mrr"], [[name, shown(one["mrr"])] for name, one in found.items()])
    for subset, pairs in apart.items():
        count = len(true_P2) if subset == "all pairs" else np.count_nonzero(both_P)
        print(f"\ndifferences of mrr and hits_at_10 pair by pair, {subset} ({count})")
        rows = [[name, *(shown(one[m].difference, "+") for m in ("mrr", "hits_at_10"))] for name, one in pairs.items()]
        print_table(["", "mrr", "hits_at_10"], rows)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if arguments.json:
        as_json = {
            "settings": {name: str(value) for name, value in vars(arguments).items()},
            "chosen": chosen,
            "test": {name: {m: one[m].as_json() for m in METRICS} for name, one in found.items()},
            "differences": {
                subset: {name: {m: one[m].as_json() for m in METRICS} for name, one in pairs.items()}
                for subset, pairs in apart.items()
            },
        }
        write_json(arguments.json, as_json)


# --- vectors ---------------------------------------------------------------------------------------------------------


def embed_topics(topics: Sequence[Topic], arguments: argparse.Namespace) -> Vectors:
    """Texts by one embedder, logos by another; a logo that cannot be read is none."""
    of_texts = {"kind": "hashing"} if arguments.sentence == "hashing" else {"model": arguments.sentence}
    texts = open_embedder(EmbeddingsConfig(**{"kind": "sentence", "precision": "fp32", **of_texts}))
    said = [f"{topic.display_name}: {topic.short_description}" for topic in topics]
    order = sorted(range(len(said)), key=lambda place: len(said[place]))  # texts of like length together
    text_ND = np.zeros((len(said), texts.identity.dimension), np.float32)
    for places in in_pieces(order, 64):
        text_ND[places] = texts.embed_texts([said[place] for place in places])
    clip = open_embedder(
        EmbeddingsConfig(kind="clip", model=arguments.clip, pretrained=arguments.pretrained, precision="fp32")
    )
    picture_ND = embed_logos(topics, clip)
    noise_ND = np.random.default_rng(arguments.seed).normal(size=picture_ND.shape).astype(np.float32)
    noise_ND[~picture_ND.any(axis=1)] = 0
    return Vectors(text_ND=text_ND, picture_ND=picture_ND, noise_ND=noise_ND)


def embed_logos(topics: Sequence[Topic], clip: Embedder) -> np.ndarray:
    """(N, D) less their mean: most logos are a shape on nothing, and look alike to it."""
    picture_ND = np.zeros((len(topics), clip.identity.dimension), np.float32)
    prepared = []
    for place, topic in enumerate(topics):
        if topic.logo is None:
            continue
        picture = decode_picture(topic.logo.read_bytes(), LOGO)  # over white, as a build has it
        if picture.normalised is None:
            print(f"{topic.logo}: {picture.status}: {picture.detail}", flush=True)
        else:
            prepared.append((place, clip.prepare_image(picture.normalised)))
    for part in in_pieces(prepared, 64):
        picture_ND[[place for place, _ in part]] = clip.embed_images([pixels for _, pixels in part])
    there = picture_ND.any(axis=1)
    if there.any():
        picture_ND[there] -= picture_ND[there].mean(axis=0)
    return picture_ND


def diffused(graph_NN, vector_ND: np.ndarray, alpha: float, terms: int) -> np.ndarray:
    """𝒜X over the edges of a graph and a self loop at each node, by uniform attention."""
    num_nodes = graph_NN.shape[0]
    dst, src = graph_NN.nonzero()
    loop = np.arange(num_nodes)
    src_E, dst_E = np.concatenate([src, loop]).astype(np.int64), np.concatenate([dst, loop]).astype(np.int64)
    graph = MessageGraph(
        src_E=torch.from_numpy(src_E),
        relation_E=torch.zeros(len(src_E), dtype=torch.int64),
        dst_E=torch.from_numpy(dst_E),
        num_nodes=num_nodes,
        num_relations=1,
    )
    share_E = 1 / np.bincount(dst_E, minlength=num_nodes)[dst_E]
    out_NHD = diffuse(
        graph,
        torch.from_numpy(share_E.astype(np.float32))[:, None],
        torch.from_numpy(vector_ND)[:, None],
        alpha=alpha,
        num_terms=terms,
    )
    return out_NHD[:, 0].numpy()


# --- scores ----------------------------------------------------------------------------------------------------------


def read_parts(split: EdgeSplit, vectors: Vectors, arguments: argparse.Namespace) -> Iterator[Part]:
    """Of pairs to learn from, on a graph without them; then of valid and test, on all train edges."""
    rest, held = hold_out_pairs(split.train, HELD_OUT_SHARE, random_seed=arguments.seed)
    parts = ((held, rest), (split.valid, split.train), (split.test, split.train))
    for place, (true_P2, edges) in enumerate(parts):
        candidate_PC2 = with_negatives(
            true_P2,
            split.all_pairs,
            num_nodes=split.num_nodes,
            num_negatives=arguments.negatives,
            pool=split.train.ravel() if arguments.draw == "degree" else None,
            random_seed=arguments.seed + place,
        )
        yield read_part(candidate_PC2, adjacency(edges, split.num_nodes), vectors)


def read_part(candidate_PC2: Int64Array, graph_NN, vectors: Vectors) -> Part:
    """All that is known of some candidates, on one graph."""
    pair_M2 = candidate_PC2.reshape(-1, 2)
    of_graph = (common_neighbours, adamic_adar, preferential_attachment)
    score_of = {name: np.log1p(heuristic(graph_NN, pair_M2)) for name, heuristic in zip(GRAPH, of_graph, strict=True)}
    for kind in KINDS:
        vector_ND = vectors.of(kind)
        score_of[kind] = cosine(vector_ND, pair_M2)
        for alpha, terms in DIFFUSIONS:
            score_of[name_of(kind, (alpha, terms))] = cosine(diffused(graph_NN, vector_ND, alpha, terms), pair_M2)
    return Part(candidate_PC2=candidate_PC2, score_of=score_of)


def name_of(kind: str, diffusion: tuple[float, int]) -> str:
    return f"{kind} diffused, α={diffusion[0]}, K={diffusion[1]}"


def choose(valid: Part, kind: str) -> tuple[float, int]:
    """(α, K) with the best MRR on valid of the diffused features of a kind alone."""
    mrr = {one: float((1 / valid.rank(valid.score_of[name_of(kind, one)]).realistic).mean()) for one in DIFFUSIONS}
    print_table([f"mrr on valid, {kind}", ""], [[f"α={a}, K={k}", f"{value:.4f}"] for (a, k), value in mrr.items()])
    return max(mrr, key=mrr.__getitem__)


def combinations(chosen: Mapping[str, tuple[float, int]]) -> dict[str, list[str]]:
    """What is put together, by name of the combination."""
    text, pictures = (name_of(kind, chosen[kind]) for kind in (TEXT, PICTURES))
    return {
        "text + pictures": [TEXT, PICTURES],
        "diffused text + diffused pictures": [text, pictures],
        "graph": [*GRAPH],
        "graph + text": [*GRAPH, TEXT],
        "graph + text + pictures": [*GRAPH, TEXT, PICTURES],
        "graph + text + diffused text": [*GRAPH, TEXT, text],
        "all": [*GRAPH, TEXT, text, PICTURES, pictures],
    }


def scores_of_test(learn: Part, test: Part, chosen: Mapping[str, tuple[float, int]]) -> dict[str, FloatArray]:
    """Scores of test, by name: of single features, then of combinations that were learnt."""
    single = {name: test.score_of[name] for name in (*GRAPH[:2], TEXT, PICTURES)}
    single |= {f"diffused {kind}": test.score_of[name_of(kind, chosen[kind])] for kind in KINDS}
    is_edge_PC = np.zeros(learn.candidate_PC2.shape[:2], dtype=np.bool_)
    is_edge_PC[:, 0] = True
    return single | {
        together: fit_logistic(learn.features(names), is_edge_PC.ravel(), names=names).score(test.features(names))
        for together, names in combinations(chosen).items()
    }


def differences() -> tuple[tuple[str, str], ...]:
    return (
        ("text + pictures", TEXT),
        (f"diffused {TEXT}", TEXT),
        (f"diffused {PICTURES}", PICTURES),
        (f"diffused {PICTURES}", f"diffused {NOISE}"),
        ("diffused text + diffused pictures", f"diffused {TEXT}"),
        ("graph + text", "graph"),
        ("graph + text", TEXT),
        ("graph + text + pictures", "graph + text"),
        ("graph + text + diffused text", "graph + text"),
        ("all", "graph + text + diffused text"),
    )


def of_rows(ranks: PairRanks, rows: np.ndarray) -> PairRanks:
    """Ranks of some of the pairs."""
    return PairRanks(
        candidate_PC2=ranks.candidate_PC2[rows],
        optimistic=ranks.optimistic[rows],
        pessimistic=ranks.pessimistic[rows],
        placement=ranks.placement[rows],
    )


if __name__ == "__main__":
    main()
