// The same model on Neo4j 5 or later, Community edition: it has no property-type and no existence constraints, so the
// loader checks types before it writes. Every constraint and index has a name, and may be there already.

// One node an entity; also the index by which relationships find their ends.
CREATE CONSTRAINT entity_id_unique IF NOT EXISTS FOR (e:Entity) REQUIRE e.entity_id IS UNIQUE;

// Looked up by name: `find_entity`, and the first line of most inspection queries.
CREATE RANGE INDEX entity_label IF NOT EXISTS FOR (e:Entity) ON (e.label);

// Words of labels and descriptions, for a search box.
CREATE FULLTEXT INDEX entity_words IF NOT EXISTS FOR (e:Entity) ON EACH [e.label, e.description];
