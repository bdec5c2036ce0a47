"""What is wrong with a user's query on Neo4j: refused, stopped, or about names that nothing has."""

import difflib
import logging
import re

import neo4j
from neo4j.exceptions import ClientError

from mmkg.errors import QueryError
from mmkg.store import cypher as statements
from mmkg.store.columns import IMAGES
from mmkg.store.model import ENTITY_PROPERTIES
from mmkg.store.neo4j.served import Served
from mmkg.store.reading import explain_error

logger = logging.getLogger(__name__)

# What the server says of names that no node or relationship has: label, relationship type, property.
_UNKNOWN_NAMES = {"01N50": "label", "01N51": "relationship type", "01N52": "property"}


def explain_refusal(cypher: str, error: ClientError, timeout_seconds: float) -> QueryError:
    """The error for a query that the server does not answer."""
    name = (error.code or "").rpartition(".")[2]
    message = error.message or str(error)
    if name.startswith("TransactionTimedOut"):
        return QueryError(f"stopped after {timeout_seconds:g} seconds. Ask for less, or raise the timeout.")
    if name == "AccessMode":
        return QueryError("the store is read-only: a graph is changed by building it again, not by a query.")
    return explain_error(cypher, message, (), "neo4j")


def warn_of_unknown_names(summary: neo4j.ResultSummary, served: Served) -> None:
    """Neo4j takes a misspelt name for one that nothing has; say so, with the nearest that there is."""
    properties = (*ENTITY_PROPERTIES, *(prop.name for prop in served.model.properties), "relation_id", "sources")
    known = {
        "label": (statements.NODE_TABLE, statements.IMAGE_TABLE),
        "relationship type": (*served.relation_ids, statements.IMAGE_LINK),
        "property": (*properties, *IMAGES.names, "rank", "score"),
    }
    for status in summary.gql_status_objects:
        kind = _UNKNOWN_NAMES.get(status.gql_status)
        name = re.search(r"`(.*)`", status.status_description)
        if kind is None or name is None or name[1] in known[kind]:  # known: of the model, but nothing has it
            continue
        near = difflib.get_close_matches(name[1], known[kind], n=1)
        at = status.position
        where = f"line {at.line}, column {at.column}: " if at else ""
        hint = f" Did you mean '{near[0]}'?" if near else ""
        logger.warning("query: %sno %s is called '%s': it is taken as missing.%s", where, kind, name[1], hint)
