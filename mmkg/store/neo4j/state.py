"""The state node of a Neo4j store: what is served, and by what a reader knows that its answer is of one graph.

::

    (:MmkgStore {key: "store", graph, build, version, state, model, entities, relationships, flips, load_id, holder,
                 loaded_at, format, images, image_links, vectors, image_vectors})

There is one. `build` is the digest of the content that is served, `model` the JSON of the `StoreModel`, `vectors` and
`image_vectors` the properties of entities and of pictures that `load_vectors` made. `state` is ``loading`` or
``imported`` (nothing is served yet) or ``ready``.

Neo4j reads what is committed, row by row: a query that runs while a transaction commits sees some of its changes and
not others. So `flips` is a *sequence lock*, one integer in one property, which is read and written whole:

- The transaction that holds a whole difference (*the flip*) is made ready first, open and seen by nobody. Just before
  its commit, a transaction of its own makes `flips` odd. Then the flip is committed. Then `flips` is made even again.
- A reader reads `flips`, asks, and reads `flips` again. Even and equal: no commit of a flip was on its way between, so
  the answer is of one graph. Unequal: it asks again.
- Odd: a commit is on its way, and the reader waits; or the loader was killed in these milliseconds. The server's own
  list of transactions tells: it shows a flip, by its metadata, until its commit or its rollback is over. None is
  there: `flips` is as good as even, until it changes. The next loader makes it even before anything else.
- Enterprise and Aura show a user only their own transactions, unless they have the privilege to see all. There a reader
  does not go by the list, and waits until `flips` is even: after a loader was killed, until the next one. Loaders find
  each other by the same list, so give all the same user.

On the way of a fact: what loaders write last and readers read first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mmkg.errors import StoreError
from mmkg.store.cypher import IMAGE_TABLE, NODE_TABLE
from mmkg.store.manifest import model_from_json
from mmkg.store.model import StoreModel
from mmkg.store.neo4j import statements

FORMAT = 1  # of the state node and of what stands around it
READY = "ready"
LOADING = "loading"
IMPORTED = "imported"
# Metadata of our transactions, by which the server's list shows them: {"mmkg": one of these, "load_id": …}.
METADATA_KEY = "mmkg"
FLIP = "flip"
LOCK = "lock"


class Runner(Protocol):
    """What runs a statement: a session or an open transaction of the driver."""

    def run(self, query: Any, parameters: Any = None) -> Any:
        """Start a statement; returns its result."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoreState:
    """The state node as it was read."""

    graph: str
    build: str | None  # ContentDigest.total of what is served; None until the first load is finished
    version: str | None
    state: str  # loading | imported | ready
    model: StoreModel | None
    entities: int  # as served
    relationships: int
    flips: int
    load_id: str | None  # of the loader that wrote last
    holder: str | None  # host, process and time of that loader
    loaded_at: str | None
    images: int  # as served, the links to them too
    image_links: int
    vectors: tuple[str, ...]  # properties of entities that are no part of the content
    image_vectors: tuple[str, ...]  # the same, of pictures

    @property
    def vectors_of(self) -> dict[str, tuple[str, ...]]:
        """Properties that are no part of the content, by the label of the nodes that have them."""
        return {NODE_TABLE: self.vectors, IMAGE_TABLE: self.image_vectors}

    @property
    def is_served(self) -> bool:
        """Whether there is a finished graph to be asked."""
        return self.state == READY

    @property
    def flipping(self) -> bool:
        """Whether a commit is on its way, or a loader was killed during one; `flip_is_running` tells which."""
        return self.flips % 2 == 1


@dataclass(frozen=True, kw_only=True)
class RunningTransaction:
    """One of our transactions in the server's list."""

    transaction_id: str
    kind: str  # flip | lock
    load_id: str
    holder: str
    status: str
    heap_bytes: int

    @property
    def number(self) -> int:
        """Its place in the order in which transactions began."""
        return int(self.transaction_id.rpartition("-")[2])

    @property
    def is_closing(self) -> bool:
        """Whether it is being committed or rolled back, so that it can be waited for but no longer ended."""
        return self.status.startswith("Closing")

    @property
    def is_alive(self) -> bool:
        """Whether nobody has ended it yet; one that was ended stays in the list until its client hears of it."""
        return not self.status.startswith("Terminated")


def read_state(runner: Runner) -> StoreState | None:
    """The state node; None where no mmkg store is.

    Raises:
        StoreError: it was written by another version of mmkg, or by hand.
    """
    records = list(runner.run(statements.READ_STATE))
    if not records:
        return None
    return _state(records[0]["state"])


def read_flips(runner: Runner) -> int:
    """The sequence lock alone, to be read before and after a question; -1 where no mmkg store is."""
    records = list(runner.run(statements.READ_FLIPS))
    return int(records[0]["flips"]) if records else -1


def running_transactions(runner: Runner, kind: str) -> list[RunningTransaction]:
    """Our transactions of a kind (flip | lock) that the server holds open, in the order in which they began."""
    found = [
        RunningTransaction(
            transaction_id=record["transaction_id"],
            kind=kind,
            load_id=str(record["metadata"].get("load_id", "")),
            holder=str(record["metadata"].get("holder", "somebody")),
            status=record["status"],
            heap_bytes=record["heap_bytes"] or 0,
        )
        for record in runner.run(statements.SHOW_TRANSACTIONS, {"key": METADATA_KEY, "kind": kind})
    ]
    return sorted(found, key=lambda transaction: transaction.number)


def flip_is_running(runner: Runner) -> bool:
    """Whether a flip is open or being committed: with an odd `flips`, wait; without one, it is as good as even.

    That no flip is listed tells something in Community edition only.
    """
    return bool(running_transactions(runner, FLIP))


def _state(properties: Mapping[str, Any]) -> StoreState:
    written = properties.get("format")
    if written != FORMAT:
        raise StoreError(
            f"the store's state node has format {written!r}, this mmkg writes {FORMAT}. Use the mmkg that loaded it, "
            "or load it again with --force."
        )
    try:
        model = properties.get("model")
        return StoreState(
            graph=properties["graph"],
            build=properties.get("build"),
            version=properties.get("version"),
            state=properties["state"],
            model=model_from_json(json.loads(model)) if model else None,
            entities=properties.get("entities", 0),
            relationships=properties.get("relationships", 0),
            flips=int(properties["flips"]),
            load_id=properties.get("load_id"),
            holder=properties.get("holder"),
            loaded_at=properties.get("loaded_at"),
            # what was loaded before there were pictures says nothing of them
            images=properties.get("images", 0),
            image_links=properties.get("image_links", 0),
            vectors=tuple(properties.get("vectors", ())),
            image_vectors=tuple(properties.get("image_vectors", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the store's state node (:MmkgStore) cannot be read: {error!r}. Somebody else changed it; "
            "load the graph again with --force."
        ) from error
