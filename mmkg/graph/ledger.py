"""The ledger ``dropped``: every statement that the build left out on purpose, with its dump, its line and the reason.

==============  ====================================================================================================
reason          left out because
==============  ====================================================================================================
redundant       another line of the same source says the same: ``type.type.instance`` and ``rdf:type`` beside
                ``type.object.type``, ``rdfs:label`` beside ``type.object.name``
reverse         another line of the same source states it backwards
folded          it touches a compound value node that was replaced by direct statements (:mod:`mmkg.graph.folding`)
not_a_link      it stands in a link dump and is no owl:sameAs between nodes
==============  ====================================================================================================
"""

from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow.compute as pc

from mmkg.graph.workspace import Workspace
from mmkg.shards import TableWriter

DROP_REASONS = ("redundant", "reverse", "folded", "not_a_link")
_COLUMNS = ("head", "relation", "tail", "value", "datatype", "language", "source", "dump", "line")


def ledger_rows(raw: Any, reason: str) -> Any:
    """Raw rows as rows of the ledger."""
    return raw.select(*_COLUMNS, reason=ibis.literal(reason))


def write_dropped(workspace: Workspace, folder: Path, parts: list[Any]) -> dict[str, int]:
    """Write the table `dropped` out of :func:`ledger_rows`; returns how many rows have each reason."""
    counts = dict.fromkeys(DROP_REASONS, 0)
    with TableWriter(folder, "dropped") as writer:
        if parts:
            rows = ibis.union(*parts) if len(parts) > 1 else parts[0]
            order = [ibis.asc(column, nulls_first=True) for column in ("source", "dump", "line", *_COLUMNS[:6])]
            for batch in workspace.stream(rows.order_by(*order, "reason")):
                writer.write(batch)
                for reason in DROP_REASONS:
                    counts[reason] += int(np.sum(pc.equal(batch["reason"], reason).to_numpy()))
    return {f"dropped_{reason}": count for reason, count in counts.items()}
