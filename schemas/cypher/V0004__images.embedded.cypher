// Pictures as nodes, tied to what they show. Both tables are there in a graph without pictures too, so that a query
// about them runs and has no answer.
CREATE NODE TABLE Image (
    sha256 STRING PRIMARY KEY,    // of the bytes as they were served, in hex
    url STRING,                   // where they were; the smallest where there are several, and
    source_page STRING,           // … that one's page for people,
    licence STRING,               // … its licence
    author STRING,                // … and its author
    format STRING,                // by content: jpeg, png, …
    width_px INT64,               // upright
    height_px INT64
);

CREATE REL TABLE HAS_IMAGE (
    FROM Entity TO Image,
    rank INT64,                   // 0 is the best of the entity's
    score DOUBLE                  // how well it shows the entity; null without an embedder
);
