// The part of an embedded store that is the same for every graph. The loader adds one property for each chosen
// attribute and one relationship table for each relation:
//   (:Entity)-[:birthPlace {relation_id STRING, sources STRING[]}]->(:Entity)
CREATE NODE TABLE Entity (
    entity_id STRING PRIMARY KEY, // canonical IRI
    label STRING,
    description STRING,
    types STRING[],               // IRIs
    aliases STRING[]              // IRIs that were merged into this entity
);

// Neo4j's name for it, so that an inspection query reads the same.
CREATE MACRO type(r) AS label(r);
