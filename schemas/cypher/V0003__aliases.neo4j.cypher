// Looked up by an id that was merged into another: without it, `find_entity` reads the aliases of all entities. Split at
// white space, so that an IRI is one word of at most 255 characters or a row of such; range and text indexes take no list.
CREATE FULLTEXT INDEX entity_aliases IF NOT EXISTS FOR (e:Entity) ON EACH [e.aliases]
OPTIONS {indexConfig: {`fulltext.analyzer`: 'whitespace'}};
