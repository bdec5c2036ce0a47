"""Nearest vectors among 200,000 × 512: ours against a plain NumPy sort, usearch's index, and usearch's own scan.

    python benchmarks/search_vectors.py [--quick] [--index-rows N]

The rows lie around 2,000 centres, as embeddings of pictures lie around what they show; queries are other rows of the
same kind. The exact scan must give the ranks of brute force in float64. The index is told with its recall: what it
gains in time it pays in what it does not find. It takes minutes to build over all rows.
"""

import argparse
import resource
import time

import numpy as np
import numpy.typing as npt
from measure import Ratio, machine, median_seconds
from usearch.index import MetricKind
from usearch.index import search as usearch_scan

from mmkg.embeddings import build_index, measure_recall
from mmkg.embeddings.hnsw import HnswIndex
from mmkg.embeddings.nearest import ExactIndex

MAX_MS = 50.0  # of an exact search of 200,000 × 512
K = 10
NUM_CENTRES = 2_000


def make_rows(count: int, dimension: int, seed: int) -> npt.NDArray[np.float32]:
    """Rows of length 1 around centres that are the same for all seeds; cosine of two of a centre is 0.5."""
    rng, of_centres = np.random.default_rng(seed), np.random.default_rng(0)
    centres = of_centres.standard_normal((NUM_CENTRES, dimension), np.float32)
    rows = centres[rng.integers(0, NUM_CENTRES, count)] + rng.standard_normal((count, dimension), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def naive(matrix: npt.NDArray[np.float32], query: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """What one writes first: all scores, sorted."""
    return np.argsort(-(matrix @ query))[:K]


def check_ranks(index: ExactIndex, queries: npt.NDArray[np.float32]) -> None:
    """Stop when the scan's ranks are not those of brute force in float64."""
    exact = index.matrix.astype(np.float64) @ queries.astype(np.float64).T
    found, _ = index.search(queries, K)
    for place in range(len(queries)):
        order = np.lexsort((np.arange(len(exact)), -exact[:, place].astype(np.float32)))[:K]
        if not np.array_equal(found[place], order):
            raise SystemExit(f"query {place}: found {found[place]}, brute force finds {order}")
    print(f"ranks: {len(queries)} queries, the {K} nearest as brute force in float64 finds them")


def per_query_ms(work, queries: npt.NDArray[np.float32]) -> float:
    """Median milliseconds of one call a query."""
    times = []
    for query in queries:
        started = time.perf_counter()
        work(query)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; no verdict on milliseconds")
    parser.add_argument("--index-rows", type=int, help="rows that the index is built over; all unless set")
    args = parser.parse_args()
    quick = args.quick
    count, dimension = (20_000 if quick else 200_000), 512
    print(machine())
    matrix, queries = make_rows(count, dimension, 1), make_rows(40, dimension, 2)
    stored = matrix.astype(np.float16)  # as vectors lie on disk
    started = time.perf_counter()
    exact = ExactIndex(stored)
    print(f"{count:,} × {dimension}: opened from float16 in {time.perf_counter() - started:.2f} s")
    check_ranks(exact, queries[:5])
    exact.search(queries[:1], K)
    ours = per_query_ms(lambda query: exact.search(query[None], K), queries)
    plain = per_query_ms(lambda query: naive(exact.matrix, query), queries)
    scan = per_query_ms(lambda query: usearch_scan(exact.matrix, query, K, MetricKind.IP, exact=True), queries[:10])
    many = median_seconds(lambda: exact.search(queries, K)) / len(queries) * 1e3
    allowed = np.random.default_rng(3).random(count) < 0.01
    filtered = per_query_ms(lambda query: exact.search(query[None], K, allowed), queries)
    print(
        f"exact: one query {ours:.1f} ms, {len(queries)} at once {many:.1f} ms each, "
        f"among 1 % of the rows {filtered:.1f} ms"
    )
    started = time.perf_counter()
    indexed_rows = stored[: args.index_rows]
    index = HnswIndex.build(indexed_rows)
    print(f"index over {len(indexed_rows):,} rows: built in {time.perf_counter() - started:.0f} s")
    indexed = per_query_ms(lambda query: index.search(query[None], K), queries)
    recall = measure_recall(index, indexed_rows, queries, K)
    print(f"index: one query {indexed:.2f} ms, recall@{K} {recall:.3f}")
    for ratio in (
        Ratio(work=f"exact top {K}, one query", peer="NumPy argsort", unit="ms", target=1, ours=ours, theirs=plain),
        Ratio(work=f"exact top {K}, one query", peer="usearch exact", unit="ms", target=1, ours=ours, theirs=scan),
        Ratio(work=f"index, recall {recall:.3f}", peer="our scan", unit="ms", target=1, ours=indexed, theirs=ours),
    ):
        print(ratio)
    if not quick:
        print(f"exact search {ours:.1f} ms, target {MAX_MS:g} ms {'reached' if ours <= MAX_MS else 'MISSED'}")
    assert type(build_index(stored)) is ExactIndex
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
