"""The atlas as YAGO 4.5: Turtle with one tab-separated statement a line, in three files.

A line of the facts, of the taxonomy, and of the meta facts, which are RDF-star::

    yago:France⇥yago:capital⇥yago:Paris⇥.
    yago:Landlocked_country⇥rdfs:subClassOf⇥schema:Country⇥.
    <<⇥yago:France⇥schema:memberOf⇥yago:European_Union⇥>>⇥schema:startDate⇥"1958"^^xsd:gYear⇥.

The properties are those of the YAGO 4.5 schema, which has no currency.
"""

from atlas_tables import Atlas, Row, members, quote, yago_name
from dump_lines import DumpLines

PREFIXES = {
    "yago": "http://yago-knowledge.org/resource/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "owl": "http://www.w3.org/2002/07/owl#",
    "schema": "http://schema.org/",
    "geo": "http://www.opengis.net/ont/geosparql#",
    "wd": "http://www.wikidata.org/entity/",
}
CLASSES = {
    "schema:Place": "schema:Thing",
    "schema:Intangible": "schema:Thing",
    "schema:Organization": "schema:Thing",
    "schema:AdministrativeArea": "schema:Place",
    "schema:Landform": "schema:Place",
    "schema:Country": "schema:AdministrativeArea",
    "schema:City": "schema:AdministrativeArea",
    "schema:Language": "schema:Intangible",
    "yago:Continent": "schema:Landform",
    "yago:Landlocked_country": "schema:Country",
    "yago:Island_country": "schema:Country",
    "yago:Capital_city": "schema:City",
}
KINDS = {
    "country": "schema:Country",
    "landlocked country": "yago:Landlocked_country",
    "island country": "yago:Island_country",
}


def open_dump(name: str) -> DumpLines:
    """A file that begins with the prefix lines."""
    dump = DumpLines(name, separator="\t")
    for prefix, iri in PREFIXES.items():
        dump.add_prefix(prefix, iri)
    return dump


def term(title: str) -> str:
    """The prefixed name of an entity."""
    return "yago:" + yago_name(title)


def family_class(family: str) -> str:
    """A language family as a class of languages: ``yago:Romance_language``."""
    return term(family.removesuffix("s") if family.endswith("languages") else family)


def add_entity(dump: DumpLines, row: Row, kind: str, labels: list[tuple[str, str]]) -> None:
    """Class, names, and the Wikidata item where it is known."""
    head = term(row["title"])
    dump.add(head, "rdf:type", kind)
    for language, label in [("en", row["name"]), *labels]:
        dump.add(head, "rdfs:label", f"{quote(label)}@{language}")
    if row["wikidata_id"]:
        dump.add(head, "owl:sameAs", f"wd:{row['wikidata_id']}")


def add_country(dump: DumpLines, atlas: Atlas, row: Row) -> None:
    """All lines about one country but its memberships."""
    head = term(row["title"])
    regions, languages = atlas.named(atlas.regions, "key"), atlas.named(atlas.languages, "code")
    labels = [pair for pair in atlas.labels.get(("country", row["iso2"]), []) if pair[0] in ("de", "fr")]
    add_entity(dump, row, KINDS[row["kind"]], labels)
    dump.add(head, "schema:alternateName", f"{quote(row['iso3'])}@en")
    dump.add(head, "rdfs:comment", f"{quote(row['description'])}@en")
    if row["capital"]:
        dump.add(head, "yago:capital", term(row["capital"]))
    dump.add(head, "schema:location", term(regions[row["subregion"] or row["continent"]]["title"]))
    for code in row["official_languages"].split():
        dump.add(head, "yago:officialLanguage", term(languages[code]["title"]))
    for iso2 in row["neighbours"].split():
        dump.add(head, "yago:neighbors", term(atlas.country(iso2)["title"]))
    dump.add(head, "yago:area", f"{quote(row['area_km2'])}^^xsd:decimal")
    dump.add(head, "yago:populationNumber", f"{quote(row['population'])}^^xsd:decimal")
    dump.add(head, "schema:geo", point(row))


def point(row: Row) -> str:
    """Well-known text: the longitude comes first."""
    return f'"Point({row["longitude"]} {row["latitude"]})"^^geo:wktLiteral'


def write_yago_facts(atlas: Atlas) -> DumpLines:
    """Countries, cities, languages, regions, organisations, memberships."""
    dump = open_dump("yago-facts.ttl")
    regions = atlas.named(atlas.regions, "key")
    for row in atlas.countries:
        add_country(dump, atlas, row)
    for row in atlas.cities:
        add_entity(dump, row, "yago:Capital_city" if row["is_capital"] == "yes" else "schema:City", [])
        dump.add(term(row["title"]), "schema:location", term(atlas.country(row["country"])["title"]))
        dump.add(term(row["title"]), "schema:geo", point(row))
        dump.add(term(row["title"]), "schema:timeZone", quote(row["time_zone"]))
    for row in atlas.languages:
        add_entity(dump, row, family_class(row["family"]) if row["family"] else "schema:Language", [])
    for row in atlas.regions:
        add_entity(dump, row, "schema:Place" if row["part_of"] else "yago:Continent", [])
        if row["part_of"]:
            dump.add(term(row["title"]), "schema:location", term(regions[row["part_of"]]["title"]))
    for row in atlas.organisations:
        add_entity(dump, row, "schema:Organization", [])
        if row["headquarters_title"]:
            dump.add(term(row["title"]), "schema:location", term(row["headquarters_title"]))
        for iso2, _, _ in members(row):
            dump.add(term(atlas.country(iso2)["title"]), "schema:memberOf", term(row["title"]))
    return dump


def write_yago_meta(atlas: Atlas) -> DumpLines:
    """When a membership began, and ended."""
    dump = open_dump("yago-meta.ttl")
    for row in atlas.organisations:
        for iso2, start, end in members(row):
            fact = f"<<\t{term(atlas.country(iso2)['title'])}\tschema:memberOf\t{term(row['title'])}\t>>"
            if start:
                dump.add(fact, "schema:startDate", f'"{start}"^^xsd:gYear')
            if end:
                dump.add(fact, "schema:endDate", f'"{end}"^^xsd:gYear')
    return dump


def write_yago_taxonomy(atlas: Atlas) -> DumpLines:
    """Classes, and language families as classes of languages."""
    dump = open_dump("yago-taxonomy.ttl")
    for name, parent in CLASSES.items():
        dump.add(name, "rdfs:subClassOf", parent)
    for family in sorted({row["family"] for row in atlas.languages if row["family"]}):
        dump.add(family_class(family), "rdfs:subClassOf", "schema:Language")
    return dump
