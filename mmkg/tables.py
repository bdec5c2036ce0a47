"""The tables of a build: one Arrow schema each, with the allowed values beside the column.

Parquet is the truth, so this file is the contract between stages. ``schemas/arrow/`` is printed from it.
Ids are strings and survive a rebuild; ``*_index`` are dense integers of one build. ``sources`` is a bit set: bit i is
the i-th ``[[sources]]`` name of the config.
"""

import pyarrow as pa

# A column that repeats one of few strings.
_NAME = pa.dictionary(pa.int32(), pa.string())

# --- written by read -------------------------------------------------------------------------------------------------

TRIPLES_RAW = pa.schema(
    [
        pa.field("head", pa.string(), nullable=False),  # IRI, or _:label of a blank node, scoped to its dump
        pa.field("relation", pa.string(), nullable=False),  # IRI
        pa.field("tail", pa.string()),  # IRI or _:label; null where the object is a literal
        pa.field("value", pa.string()),  # lexical form of a literal; null where the object is a node
        pa.field("datatype", pa.string()),  # IRI; null for xsd:string and language-tagged strings
        pa.field("language", pa.string()),  # BCP 47 tag in lower case (RDF 1.1: tags compare so)
        pa.field("source", _NAME, nullable=False),
        pa.field("dump", _NAME, nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # from 1; of the statement's end in document formats; 0 unknown
        pa.field("repaired", pa.bool_(), nullable=False),  # forbidden characters of an IRI were percent-encoded
    ]
)

# A statement about a statement (RDF-star, or the time columns of the older YAGO form).
QUALIFIERS_RAW = pa.schema(
    [
        *[TRIPLES_RAW.field(name) for name in ("head", "relation", "tail", "value", "datatype", "language")],
        pa.field("qualifier", pa.string(), nullable=False),  # IRI
        pa.field("qualifier_tail", pa.string()),
        pa.field("qualifier_value", pa.string()),
        pa.field("qualifier_datatype", pa.string()),
        pa.field("qualifier_language", pa.string()),
        *[TRIPLES_RAW.field(name) for name in ("source", "dump", "line", "repaired")],
    ]
)

REJECTS = pa.schema(
    [
        pa.field("source", _NAME, nullable=False),
        pa.field("dump", _NAME, nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # from 1
        pa.field("byte_offset", pa.int64(), nullable=False),  # of the line's first byte in the decompressed dump
        pa.field("reason", pa.string(), nullable=False),  # a key of sources.base.REJECT_REASONS
        pa.field("detail", pa.string(), nullable=False),  # the parser's words
        pa.field("raw", pa.binary(), nullable=False),  # the line as it stands, cut at 64 KiB
        pa.field("raw_bytes", pa.int64(), nullable=False),  # how long the line is
    ]
)

# One row a dump. lines = triples + qualifiers + rejects + comments + blank, checked when the dump ends.
DUMPS = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("dump", pa.string(), nullable=False),
        pa.field(
            "form", pa.string(), nullable=False
        ),  # lines | document (Turtle and RDF/XML: a statement may span lines)
        pa.field("sha256", pa.string(), nullable=False),  # of the bytes as they lie on disk
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("lines", pa.int64(), nullable=False),
        pa.field("triples", pa.int64(), nullable=False),  # lines that gave a triple (document: statements)
        pa.field("qualifiers", pa.int64(), nullable=False),  # lines that gave only a statement about a statement
        pa.field("rejects", pa.int64(), nullable=False),
        pa.field("comments", pa.int64(), nullable=False),  # comments and prefix lines
        pa.field("blank", pa.int64(), nullable=False),
        pa.field("repaired", pa.int64(), nullable=False),  # of the triples and qualifiers
    ]
)

# --- written by build ------------------------------------------------------------------------------------------------

ENTITIES = pa.schema(
    [
        pa.field("entity_index", pa.int64(), nullable=False),  # 0 … N-1 in order of entity_id
        pa.field("entity_id", pa.string(), nullable=False),  # canonical IRI
        pa.field("label", pa.string()),  # first of the config's languages that has one
        pa.field("description", pa.string()),
        pa.field("types", pa.list_(pa.string()), nullable=False),  # IRIs, sorted
        pa.field("aliases", pa.list_(pa.string()), nullable=False),  # all merged IRIs but entity_id, sorted
        pa.field("sources", pa.int64(), nullable=False),
    ]
)

RELATIONS = pa.schema(
    [
        pa.field("relation_index", pa.int64(), nullable=False),
        pa.field("relation_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # relationship type in Cypher: unique, [A-Za-z0-9_]
        pa.field("label", pa.string()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("functional", pa.bool_(), nullable=False),  # no head has two tails
        pa.field("inverse_index", pa.int64()),  # the relation that states the same facts backwards
    ]
)

ATTRIBUTES = pa.schema(
    [
        pa.field("attribute_index", pa.int64(), nullable=False),
        pa.field("attribute_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),  # property in Cypher: unique, [A-Za-z0-9_]
        pa.field("label", pa.string()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("num_entities", pa.int64(), nullable=False),
        pa.field("value_type", pa.string(), nullable=False),  # number | date | text: the column of literals to read
    ]
)

TRIPLES = pa.schema(
    [
        pa.field("head_index", pa.int64(), nullable=False),
        pa.field("relation_index", pa.int64(), nullable=False),
        pa.field("tail_index", pa.int64(), nullable=False),
        pa.field("sources", pa.int64(), nullable=False),
    ]
)

LITERALS = pa.schema(
    [
        pa.field("entity_index", pa.int64(), nullable=False),
        pa.field("attribute_index", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # lexical form, unchanged
        pa.field("number", pa.float64()),  # where the form is a number
        pa.field("date", pa.date32()),  # where the form is a date; first day of what the precision leaves open
        pa.field("date_precision", pa.string()),  # year | month | day
        pa.field("datatype", pa.string()),
        pa.field("language", pa.string()),
        pa.field("sources", pa.int64(), nullable=False),
    ]
)

# Statements about statements; the columns up to `language` name the statement that is qualified.
QUALIFIERS = pa.schema(
    [
        pa.field("head_index", pa.int64(), nullable=False),
        pa.field("relation_id", pa.string(), nullable=False),
        pa.field("tail_index", pa.int64()),
        pa.field("text", pa.string()),
        pa.field("datatype", pa.string()),
        pa.field("language", pa.string()),
        pa.field("qualifier_id", pa.string(), nullable=False),
        pa.field("qualifier_tail", pa.string()),
        pa.field("qualifier_text", pa.string()),
        pa.field("qualifier_datatype", pa.string()),
        pa.field("qualifier_language", pa.string()),
        pa.field("date", pa.date32()),
        pa.field("date_precision", pa.string()),  # year | month | day
        pa.field("sources", pa.int64(), nullable=False),
    ]
)

# One row a sameAs link that was seen.
MERGES = pa.schema(
    [
        pa.field("alias", pa.string(), nullable=False),  # the link's one end
        pa.field("other", pa.string(), nullable=False),  # the link's other end
        pa.field("entity_id", pa.string(), nullable=False),  # canonical IRI of what the alias ended in
        pa.field("verdict", pa.string(), nullable=False),  # merged | flagged
        pa.field("reason", pa.string(), nullable=False),  # link | two_of_one_source | disjoint_types | too_large
        pa.field("score", pa.float64(), nullable=False),  # 0 (nothing speaks for it) … 1
        pa.field("source", pa.string(), nullable=False),
        pa.field("dump", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
    ]
)

# Statements that the build left out of `triples` and `literals` on purpose.
DROPPED = pa.schema(
    [
        *[TRIPLES_RAW.field(name) for name in ("head", "relation", "tail", "value", "datatype", "language")],
        pa.field("source", pa.string(), nullable=False),
        pa.field("dump", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # redundant | reverse | folded | not_a_link
    ]
)

SPLITS = pa.schema(
    [
        pa.field("head_index", pa.int64(), nullable=False),
        pa.field("relation_index", pa.int64(), nullable=False),
        pa.field("tail_index", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train | valid | test | left_out (it would leak)
    ]
)

# What validation found; a report, not a filter.
FINDINGS = pa.schema(
    [
        # dangling | no_label | used_once | type_clash | domain_clash | range_clash | shacl | shacl_not_run
        pa.field("check", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),  # IRI of the entity or relation; file of shapes
        pa.field("detail", pa.string(), nullable=False),
    ]
)

# What was held against the `[checks]` of the config before a version was served: one row for each thing looked at.
CHECKS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),  # the key of `[checks]` whose limit it is
        pa.field("subject", pa.string(), nullable=False),  # dump, relation, source or column; graph
        pa.field("before", pa.int64()),  # in the version being served; null without one
        pa.field("now", pa.int64()),
        pa.field("share", pa.float64()),  # what is held against the limit; null where it was not tried
        pa.field("limit", pa.float64(), nullable=False),
        pa.field("passed", pa.bool_()),  # null: not tried, and the detail says why
        pa.field("detail", pa.string(), nullable=False),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "triples_raw": TRIPLES_RAW,
    "qualifiers_raw": QUALIFIERS_RAW,
    "rejects": REJECTS,
    "dumps": DUMPS,
    "entities": ENTITIES,
    "relations": RELATIONS,
    "attributes": ATTRIBUTES,
    "triples": TRIPLES,
    "literals": LITERALS,
    "qualifiers": QUALIFIERS,
    "merges": MERGES,
    "dropped": DROPPED,
    "splits": SPLITS,
    "findings": FINDINGS,
    "checks": CHECKS,
}
