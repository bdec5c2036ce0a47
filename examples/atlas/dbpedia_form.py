"""The atlas as DBpedia: countries and cities in N-Triples, everything they point to in Turtle.

A line of the N-Triples::

    <http://dbpedia.org/resource/France> <http://dbpedia.org/ontology/capital> <http://dbpedia.org/resource/Paris> .

The Turtle has prefixes, ``;`` and ``,`` lists, and IRIs in full where a title holds a character that a name may not.
"""

import re

from atlas_tables import Atlas, Row, dbpedia_iri, quote
from dump_lines import DumpLines

PREFIXES = {
    "dbr": "http://dbpedia.org/resource/",
    "dbo": "http://dbpedia.org/ontology/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
}
DBO = PREFIXES["dbo"]
RDF_TYPE = PREFIXES["rdf"] + "type"
LABEL = PREFIXES["rdfs"] + "label"
XSD = "http://www.w3.org/2001/XMLSchema#"
GEO = "http://www.w3.org/2003/01/geo/wgs84_pos#"
COMMONS = "http://commons.wikimedia.org/wiki/Special:FilePath/"

# How Wikimedia Commons calls a flag's file where it is not "Flag of" and the country's name.
FLAG_FILES = {
    "CD": "the Democratic Republic of the Congo",
    "CF": "the Central African Republic",
    "CG": "the Republic of the Congo",
    "CI": "Côte d'Ivoire",
    "CN": "the People's Republic of China",
    "CZ": "the Czech Republic",
    "DO": "the Dominican Republic",
    "AE": "the United Arab Emirates",
    "BS": "the Bahamas",
    "FM": "the Federated States of Micronesia",
    "GB": "the United Kingdom",
    "GM": "The Gambia",
    "KM": "the Comoros",
    "MH": "the Marshall Islands",
    "NL": "the Netherlands",
    "PH": "the Philippines",
    "SB": "the Solomon Islands",
    "TW": "the Republic of China",
    "US": "the United States",
    "VA": "the Vatican City",
}


def typed(value: str, datatype: str) -> str:
    """A literal with one of the XML Schema datatypes."""
    return f"{quote(value)}^^<{XSD}{datatype}>"


def flag_url(row: Row) -> str:
    """Where Wikimedia Commons keeps the flag, by its naming convention."""
    return COMMONS + f"Flag of {FLAG_FILES.get(row['iso2'], row['name'])}.svg".replace(" ", "_")


def add_labels(dump: DumpLines, head: str, name: str, labels: list[tuple[str, str]]) -> None:
    """English and the other names."""
    for language, label in [("en", name), *labels]:
        dump.add(head, f"<{LABEL}>", f"{quote(label)}@{language}")


def add_place(dump: DumpLines, head: str, row: Row) -> None:
    """Coordinates, and the population where it is known."""
    dump.add(head, f"<{GEO}lat>", typed(row["latitude"], "float"))
    dump.add(head, f"<{GEO}long>", typed(row["longitude"], "float"))
    if row["population"]:
        dump.add(head, f"<{DBO}populationTotal>", typed(row["population"], "nonNegativeInteger"))


def add_country(dump: DumpLines, atlas: Atlas, row: Row) -> None:
    """All lines about one country."""
    head = f"<{dbpedia_iri(row['title'])}>"
    regions, languages = atlas.named(atlas.regions, "key"), atlas.named(atlas.languages, "code")
    currencies = atlas.named(atlas.currencies, "code")

    def link(relation: str, title: str) -> None:
        dump.add(head, f"<{relation}>", f"<{dbpedia_iri(title)}>")

    for kind in ("Country", "PopulatedPlace", "Place"):
        dump.add(head, f"<{RDF_TYPE}>", f"<{DBO}{kind}>")
    add_labels(dump, head, row["name"], atlas.labels.get(("country", row["iso2"]), []))
    dump.add(head, f"<{DBO}abstract>", f"{quote(row['description'])}@en")
    if row["capital"]:
        link(DBO + "capital", row["capital"])
    link(DBO + "continent", regions[row["continent"]]["title"])
    if row["subregion"]:
        link(DBO + "isPartOf", regions[row["subregion"]]["title"])
    if row["government"]:
        link(DBO + "governmentType", row["government"])
    for code in row["official_languages"].split():
        link(DBO + "officialLanguage", languages[code]["title"])
    for code in row["languages"].split():
        link(DBO + "language", languages[code]["title"])
    for code in row["currencies"].split():
        link(DBO + "currency", currencies[code]["title"])
    for iso2 in row["neighbours"].split():
        link("http://dbpedia.org/property/borders", atlas.country(iso2)["title"])
    square_metres = f"{float(row['area_km2']) * 1e6:.1f}"  # dbo:areaTotal is in square metres
    dump.add(head, f"<{DBO}areaTotal>", typed(square_metres, "double"))
    dump.add(
        head,
        f"<{DBO}PopulatedPlace/areaTotal>",
        f"{quote(row['area_km2'])}^^<http://dbpedia.org/datatype/squareKilometre>",
    )
    add_place(dump, head, row)
    if row["iso2"] in atlas.flags:
        dump.add(head, f"<{DBO}thumbnail>", f"<{flag_url(row)}?width=300>")
        dump.add(head, "<http://xmlns.com/foaf/0.1/depiction>", f"<{flag_url(row)}>")


def add_dirt(dump: DumpLines, step: int) -> None:
    """Lines as found in real DBpedia files; ``step`` says how many countries have been written."""
    label = f"<{LABEL}>"
    redirect = f"<{DBO}wikiPageRedirects>"
    if step == 15:
        line = f"<{dbpedia_iri('Sana`a')}> {redirect} <{dbpedia_iri('Sanaa')}> ."
        dump.add_dirty(line.encode(), "backtick in an IRI", repairable=True)
    elif step == 45:
        dump.add_dirty(f'<{dbpedia_iri("Switzerland")}> {label} "Suisse"@fr_CH .'.encode(), "bad language tag")
    elif step == 46:
        line = f'<{dbpedia_iri("Ivory Coast")}> {label} "C\xf4te d\'Ivoire"@fr .'.encode("latin-1")
        dump.add_dirty(line, "invalid UTF-8")
    elif step == 75:
        dump.add_dirty(f'<{dbpedia_iri("Greece")}> {label} "Hellas .'.encode(), "unterminated literal")
        dump.add_comment("half of the countries")
    elif step == 110:
        file = COMMONS + "Coat of arms of Malta.svg"
        line = f"<{dbpedia_iri('Malta')}> <http://xmlns.com/foaf/0.1/depiction> <{file}> ."
        dump.add_dirty(line.encode(), "space in an IRI", repairable=True)
    elif step == 130:
        dump.add_dirty(b"<!DOCTYPE html>", "stray HTML")
        dump.add_blank()
    elif step == 160:
        dump.add_dirty(f'"Somalia"@en {label} <{dbpedia_iri("Somalia")}> .'.encode(), "literal as subject")
    elif step == 185:
        dump.add_dirty(
            f"<{dbpedia_iri('Uruguay')}> <{DBO}capital> <{dbpedia_iri('Montevideo')}>".encode(), "missing dot"
        )


def write_dbpedia_ntriples(atlas: Atlas) -> DumpLines:
    """Countries and cities."""
    dump = DumpLines("dbpedia.nt.gz")
    dump.add_comment("Facts about countries in the form of DBpedia. See README.md.")
    for step, row in enumerate(atlas.countries):
        add_dirt(dump, step)
        add_country(dump, atlas, row)
    dump.add_blank()
    for row in atlas.cities:
        head = f"<{dbpedia_iri(row['title'])}>"
        for kind in ("City", "PopulatedPlace", "Place"):
            dump.add(head, f"<{RDF_TYPE}>", f"<{DBO}{kind}>")
        add_labels(dump, head, row["name"], atlas.labels.get(("city", row["title"]), []))
        dump.add(head, f"<{DBO}country>", f"<{dbpedia_iri(atlas.country(row['country'])['title'])}>")
        add_place(dump, head, row)
    return dump


def turtle_term(title: str) -> str:
    """``dbr:Romance_languages``, or the full IRI where the title is no plain name."""
    name = title.replace(" ", "_")
    return f"dbr:{name}" if re.fullmatch(r"[\w-]+", name) else f"<{dbpedia_iri(title)}>"


def add_block(dump: DumpLines, title: str, pairs: list[tuple[str, list[str]]]) -> None:
    """One subject with its properties over several lines; the counts are of triples."""
    parts = [f"{relation} {', '.join(tails)}" for relation, tails in pairs if tails]
    text = f"{turtle_term(title)} " + " ;\n    ".join(parts) + " ."
    dump.lines += text.encode().split(b"\n")
    dump.statements += sum(len(tails) for _, tails in pairs)


def write_dbpedia_turtle(atlas: Atlas) -> DumpLines:
    """Regions, languages and their families, currencies, forms of government, organisations."""
    dump = DumpLines("dbpedia.ttl")
    for prefix, iri in PREFIXES.items():
        dump.add_prefix(prefix, iri)
    dump.add_blank()
    regions = atlas.named(atlas.regions, "key")

    def names(kind: str, key: str, english: str) -> list[str]:
        return [f"{quote(label)}@{code}" for code, label in [("en", english), *atlas.labels.get((kind, key), [])]]

    for row in atlas.regions:
        parent = [turtle_term(regions[row["part_of"]]["title"])] if row["part_of"] else []
        kind = "dbo:Region" if row["part_of"] else "dbo:Continent"
        add_block(
            dump,
            row["title"],
            [("a", [kind, "dbo:Place"]), ("rdfs:label", names("", "", row["name"])), ("dbo:isPartOf", parent)],
        )
    for row in atlas.languages:
        family = [turtle_term(row["family"])] if row["family"] else []
        code = [quote(row["code"])] if len(row["code"]) == 2 else []
        label = names("language", row["code"], row["title"])
        pairs = [
            ("a", ["dbo:Language"]),
            ("rdfs:label", label),
            ("dbo:languageFamily", family),
            ("dbo:iso6391Code", code),
        ]
        add_block(dump, row["title"], pairs)
    for title in sorted({row["family"] for row in atlas.languages if row["family"]}):
        add_block(dump, title, [("rdfs:label", [f"{quote(title)}@en"])])
    for row in atlas.currencies:
        label = names("currency", row["code"], row["title"])
        add_block(
            dump,
            row["title"],
            [("a", ["dbo:Currency"]), ("rdfs:label", label), ("dbo:currencyCode", [quote(row["code"])])],
        )
    for title in sorted({row["government"] for row in atlas.countries if row["government"]}):
        add_block(dump, title, [("a", ["dbo:GovernmentType"]), ("rdfs:label", [f"{quote(title)}@en"])])
    for row in atlas.organisations:
        seat = [turtle_term(row["headquarters_title"])] if row["headquarters_title"] else []
        add_block(
            dump,
            row["title"],
            [("a", ["dbo:Organisation"]), ("rdfs:label", [f"{quote(row['name'])}@en"]), ("dbo:headquarter", seat)],
        )
    return dump
