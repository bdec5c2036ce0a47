"""Graphs made for tests, as data and as the tables of a build."""

import numpy as np
import pyarrow as pa

from mmkg.shards import write_table
from mmkg.training.data import LinkPredictionData


def ring_data(num_entities=40, *, seed=0, valid=20, test=30):
    """A ring with four relations whose tails follow from the head: next, next but one, opposite, mirrored.

    Anybody who learns the four rules answers each question; chance gives an MRR of about 0.1.
    """
    n = num_entities
    rules = [lambda h: (h + 1) % n, lambda h: (h + 2) % n, lambda h: (h + n // 2) % n, lambda h: (n - h) % n]
    rows = [(h, r, rule(h)) for r, rule in enumerate(rules) for h in range(n)]
    triples = np.array(rows, dtype=np.int64)
    np.random.default_rng(seed).shuffle(triples)
    return LinkPredictionData(
        num_entities=n,
        num_relations=len(rules),
        valid=triples[:valid],
        test=triples[valid : valid + test],
        train=np.unique(triples[valid + test :], axis=0),
    )


def write_tables(folder, data):
    """Write `splits`, `entities` and `relations` of a build that holds this data."""
    names = ["train"] * len(data.train) + ["valid"] * len(data.valid) + ["test"] * len(data.test)
    rows = data.known()
    splits = pa.table(
        {"head_index": rows[:, 0], "relation_index": rows[:, 1], "tail_index": rows[:, 2], "split": names}
    )
    n, r = data.num_entities, data.num_relations
    entities = pa.table(
        {
            "entity_index": np.arange(n),
            "entity_id": [f"http://example.org/{i}" for i in range(n)],
            "label": [None if i == 1 else f"place {i}" for i in range(n)],
            "description": pa.nulls(n, pa.string()),
            "types": [[] for _ in range(n)],
            "aliases": [[] for _ in range(n)],
            "sources": np.ones(n, dtype=np.int64),
        }
    )
    relations = pa.table(
        {
            "relation_index": np.arange(r),
            "relation_id": [f"http://example.org/r{i}" for i in range(r)],
            "name": [f"r{i}" for i in range(r)],
            "label": [f"relation {i}" for i in range(r)],
            "count": np.ones(r, dtype=np.int64),
            "functional": [False] * r,
            "inverse_index": pa.nulls(r, pa.int64()),
        }
    )
    for name, table in (("splits", splits), ("entities", entities), ("relations", relations)):
        write_table(folder, name, [table])
    return folder
