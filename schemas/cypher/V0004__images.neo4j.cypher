// Pictures as nodes, tied to what they show: (:Entity)-[:HAS_IMAGE {rank, score}]->(:Image). One node a picture, whoever
// has it; also the index by which relationships find it.
CREATE CONSTRAINT image_sha256_unique IF NOT EXISTS FOR (i:Image) REQUIRE i.sha256 IS UNIQUE;
