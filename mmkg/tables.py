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

# --- written by images -----------------------------------------------------------------------------------------------

# Where pictures of an entity may be had, in the order in which they are asked for: one row an entity and address.
IMAGE_CANDIDATES = pa.schema(
    [
        pa.field("entity_index", pa.int64(), nullable=False),
        pa.field("place", pa.int32(), nullable=False),  # 0, 1, … among the entity's own
        pa.field("url", pa.string(), nullable=False),  # http(s)://… as it is asked; folder:NAME/FILE of this machine
        pa.field("origin", _NAME, nullable=False),  # depiction | thumbnail | image | url_list | mapping | name
        pa.field(
            "detail", pa.string(), nullable=False
        ),  # IRI of the predicate, file and line of the list, name matched
        pa.field("file_name", pa.string()),  # on Wikimedia Commons or a wiki, with spaces: "Flag of Peru.svg"
        pa.field("source_page", pa.string()),  # where a person reads about the picture
        pa.field("licence", pa.string()),
        pa.field("author", pa.string()),
    ]
)

# What looked like a picture of an entity, and of which no candidate was made.
IMAGE_UNMATCHED = pa.schema(
    [
        pa.field("place", pa.string(), nullable=False),  # folder:NAME/FILE, file:line of a list, IRI of the entity
        pa.field("name", pa.string(), nullable=False),  # what was looked up; the URL where that is at fault
        pa.field("reason", pa.string(), nullable=False),  # a key of images.discover.UNMATCHED_REASONS
        pa.field("detail", pa.string(), nullable=False),  # in words; the candidates' ids where there are several
    ]
)

# The ledger: every attempt to get an address, also those that asked nobody because they were refused here.
IMAGE_ATTEMPTS = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("tried_at", pa.timestamp("us", tz="UTC"), nullable=False),  # when it ended
        pa.field("status", pa.string(), nullable=False),  # ok | unchanged | http_404 | timeout | private_address | …
        pa.field("kind", pa.string(), nullable=False),  # ok | transient | permanent
        pa.field("http_status", pa.int32()),
        pa.field("detail", pa.string(), nullable=False),  # in words
        pa.field("final_url", pa.string()),  # after redirects, without user and password
        pa.field("sha256", pa.string()),  # of the bytes as served; set where kind is ok
        pa.field("bytes", pa.int64(), nullable=False),  # that came
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("content_type", pa.string()),  # as the server says; what the bytes are is in image_bytes
        pa.field("licence", pa.string()),  # as the server's metadata say (Wikimedia extmetadata)
        pa.field("author", pa.string()),
        pa.field("source_page", pa.string()),
    ]
)

# Bytes as they were served, each once.
IMAGE_BYTES = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("format", _NAME, nullable=False),  # by content: jpeg | png | gif | webp | bmp | tiff | avif | …
        pa.field("bytes", pa.binary(), nullable=False),
    ]
)

# What was seen in those bytes when they were decoded, and the picture as models get it.
PICTURES = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok | a key of images.decode.REFUSALS
        pa.field("detail", pa.string(), nullable=False),  # in words
        pa.field("format", pa.string(), nullable=False),
        pa.field("mode", pa.string()),  # of Pillow, as stored: P, RGBA, I;16, CMYK, …
        pa.field("width_px", pa.int32()),  # upright: after EXIF orientation
        pa.field("height_px", pa.int32()),
        pa.field("num_frames", pa.int32()),
        pa.field("orientation", pa.int32()),  # EXIF, 1 … 8; 1 where it says nothing
        pa.field("has_alpha", pa.bool_()),
        pa.field("phash", pa.string()),  # 64 bits in hex (ImageHash phash of the normalised picture)
        pa.field("deviation", pa.float32()),  # of the luminance, 0 … 127.5: next to 0 for a blank picture
        pa.field("num_colours", pa.int32()),  # of the picture made small, at 4 bits a channel
        pa.field("colours", pa.binary()),  # mean RGB of 8 × 8 cells, row by row: 192 bytes
        pa.field("normalised_format", pa.string()),  # png | jpeg
        pa.field("normalised", pa.binary()),  # RGB, upright, alpha over white, shorter side at most the config's
    ]
)

# The pictures of each entity and what was decided on them, the rejected ones too: one row an entity and candidate.
IMAGES = pa.schema(
    [
        pa.field("entity_index", pa.int64(), nullable=False),
        pa.field("rank", pa.int32()),  # 0 is the best of the entity's; null unless status is ok
        pa.field("url", pa.string(), nullable=False),  # of the candidate
        pa.field("origin", _NAME, nullable=False),
        pa.field(
            "status", _NAME, nullable=False
        ),  # ok | status of the attempt or of the picture | a gate that it failed
        pa.field("reason", pa.string(), nullable=False),  # in words, with the number that decided
        pa.field("sha256", pa.string()),  # null where nothing came
        pa.field("format", pa.string()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("phash", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("author", pa.string()),
        pa.field("source_page", pa.string()),
        pa.field("score", pa.float32()),  # CLIP: cosine with "a picture of LABEL, a TYPE"; null without an embedder
        pa.field("margin", pa.float32()),  # CLIP: score less the best of the distractors'
        pa.field("num_entities", pa.int32()),  # that have this picture or a near-duplicate of it
        pa.field("duplicate_of", pa.string()),  # sha256 of the picture that is kept in its place
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
    "image_candidates": IMAGE_CANDIDATES,
    "image_unmatched": IMAGE_UNMATCHED,
    "image_attempts": IMAGE_ATTEMPTS,
    "image_bytes": IMAGE_BYTES,
    "pictures": PICTURES,
    "images": IMAGES,
}
