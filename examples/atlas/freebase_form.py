"""The atlas as a Freebase RDF dump: tabs, MIDs, compound value nodes, and the redundant lines of the real one.

A line of it::

    <http://rdf.freebase.com/ns/m.0f8l9c>⇥<http://rdf.freebase.com/ns/type.object.name>⇥"France"@en⇥.

Only entities with a real MID are here. Compound values (population, coordinates, borders, memberships) need nodes of
their own, which the table cannot know: they are called ``m.atlas_...``. A real MID has no vowels, so none can be meant.
"""

from atlas_tables import Atlas, Row, freebase_iri, members, quote
from dump_lines import DumpLines


class FreebaseWriter:
    """Adds statements in Freebase terms."""

    def __init__(self, atlas: Atlas, dump: DumpLines) -> None:
        self.atlas = atlas
        self.dump = dump
        self.mids = {row["iso2"]: row["mid"] for row in atlas.countries if row["mid"]}

    def link(self, head: str, relation: str, tail: str) -> None:
        """A statement between two Freebase ids."""
        self.dump.add(*(f"<{freebase_iri(term)}>" for term in (head, relation, tail)))

    def value(self, head: str, relation: str, literal: str) -> None:
        """A statement with a literal, already quoted."""
        self.dump.add(f"<{freebase_iri(head)}>", f"<{freebase_iri(relation)}>", literal)

    def both(self, head: str, relation: str, tail: str, reverse: str) -> None:
        """A statement and its reverse property, as the dump repeats them."""
        self.link(head, relation, tail)
        self.link(tail, reverse, head)

    def topic(self, mid: str, name: str, types: tuple[str, ...], labels: list[tuple[str, str]]) -> None:
        """Types (with their reverse lines) and names; the dump also repeats them in RDF's own words."""
        for kind in (*types, "common.topic"):
            self.link(mid, "type.object.type", kind)
            self.link(kind, "type.type.instance", mid)
        for language, label in [("en", name), *labels]:
            self.value(mid, "type.object.name", f"{quote(label)}@{language}")
        self.dump.add(f"<{freebase_iri(mid)}>", "<http://www.w3.org/2000/01/rdf-schema#label>", f"{quote(name)}@en")

    def country(self, row: Row) -> None:
        """All lines about one country."""
        mid, iso2 = row["mid"], row["iso2"]
        labels = self.atlas.labels.get(("country", iso2), [])
        self.topic(mid, row["name"], ("location.country", "location.location"), labels)
        self.value(mid, "common.topic.description", f"{quote(row['description'])}@en")
        self.value(mid, "location.country.iso3166_1_alpha2", quote(iso2))
        self.value(mid, "location.country.iso_alpha_3", quote(row["iso3"]))
        self.value(mid, "location.country.internet_tld", quote(row["tld"]))
        self.value(mid, "location.location.area", quote(row["area_km2"]))
        node = f"m.atlas_{iso2.lower()}_geocode"
        self.link(mid, "location.location.geolocation", node)
        self.value(node, "location.geocode.latitude", quote(row["latitude"]))
        self.value(node, "location.geocode.longitude", quote(row["longitude"]))
        node = f"m.atlas_{iso2.lower()}_population"
        self.link(mid, "location.statistical_region.population", node)
        self.value(node, "measurement_unit.dated_integer.number", quote(row["population"]))
        if row["population_year"]:
            self.value(node, "measurement_unit.dated_integer.year", quote(row["population_year"]))
        regions = self.atlas.named(self.atlas.regions, "key")
        for key in (row["subregion"], row["continent"]):
            if key and regions[key]["mid"]:
                self.both(mid, "location.location.containedby", regions[key]["mid"], "location.location.contains")
        self.speech_and_money(row)
        for other in row["neighbours"].split():
            if other in self.mids:
                node = f"m.atlas_{iso2.lower()}_{other.lower()}_border"
                self.link(mid, "location.location.adjoin_s", node)
                self.link(node, "location.adjoining_relationship.adjoins", self.mids[other])

    def speech_and_money(self, row: Row) -> None:
        """Languages and currencies that have a MID."""
        languages = self.atlas.named(self.atlas.languages, "code")
        currencies = self.atlas.named(self.atlas.currencies, "code")
        for code in row["official_languages"].split():
            if languages[code]["mid"]:
                self.link(row["mid"], "location.country.official_language", languages[code]["mid"])
        for code in row["languages"].split():
            if languages[code]["mid"]:
                reverse = "language.human_language.countries_spoken_in"
                self.both(row["mid"], "location.country.languages_spoken", languages[code]["mid"], reverse)
        for code in row["currencies"].split():
            if currencies[code]["mid"]:
                reverse = "finance.currency.countries_used"
                self.both(row["mid"], "location.country.currency_used", currencies[code]["mid"], reverse)

    def city(self, row: Row) -> None:
        """A city; its capital line stands with it."""
        self.topic(
            row["mid"],
            row["name"],
            ("location.citytown", "location.location"),
            self.atlas.labels.get(("city", row["title"]), []),
        )
        if country := self.mids.get(row["country"]):
            self.both(row["mid"], "location.location.containedby", country, "location.location.contains")
            if row["is_capital"] == "yes":
                self.link(country, "location.country.capital", row["mid"])
        node = f"m.atlas_{row['mid'][2:]}_geocode"
        self.link(row["mid"], "location.location.geolocation", node)
        self.value(node, "location.geocode.latitude", quote(row["latitude"]))
        self.value(node, "location.geocode.longitude", quote(row["longitude"]))

    def organisation(self, row: Row) -> None:
        """An organisation and its memberships, each a compound value with its years."""
        self.topic(row["mid"], row["name"], ("organization.organization",), [])
        for iso2, start, end in members(row):
            if iso2 not in self.mids:
                continue
            node = f"m.atlas_{iso2.lower()}_{row['key']}"
            self.link(self.mids[iso2], "organization.organization_member.member_of", node)
            self.link(node, "organization.organization_membership.organization", row["mid"])
            if start:
                self.value(node, "organization.organization_membership.from", quote(start))
            if end:
                self.value(node, "organization.organization_membership.to", quote(end))


def add_dirt(dump: DumpLines, step: int) -> None:
    """Lines as a broken download leaves them; ``step`` says how many countries have been written."""
    name = "<http://rdf.freebase.com/ns/type.object.name>"
    if step == 20:
        dump.add_dirty(f'<{freebase_iri("m.0f8l9c")}>\t{name}\t"La France@fr\t.'.encode(), "unterminated literal")
    elif step == 60:
        dump.add_dirty(b"<html><body><h1>502 Bad Gateway</h1></body></html>", "stray HTML")
    elif step == 100:
        dump.add_dirty(f'<{freebase_iri("m.03_3d")}>\t{name}\t"Nippon"@ja-Latn\t'.encode(), "missing dot")
        dump.add_blank()
    elif step == 140:
        page = "<http://www.vatican.va/content/vatican/en special.html>"
        line = f"<{freebase_iri('m.07ytt')}>\t<{freebase_iri('common.topic.official_website')}>\t{page}\t."
        dump.add_dirty(line.encode(), "space in an IRI", repairable=True)


def write_freebase(atlas: Atlas) -> DumpLines:
    """The whole Freebase dump."""
    dump = DumpLines("freebase.nt.gz", separator="\t")
    writer = FreebaseWriter(atlas, dump)
    dump.add_comment("Facts about countries in the form of the Freebase RDF dump. See README.md.")
    for row in atlas.regions:
        if row["mid"]:
            kind = ("location.location",) if row["part_of"] else ("location.continent", "location.location")
            writer.topic(row["mid"], row["name"], kind, [])
    for row in atlas.languages:
        if row["mid"]:
            labels = atlas.labels.get(("language", row["code"]), [])
            writer.topic(row["mid"], row["name"] + " Language", ("language.human_language",), labels)
    for row in atlas.currencies:
        if row["mid"]:
            writer.topic(
                row["mid"], row["title"], ("finance.currency",), atlas.labels.get(("currency", row["code"]), [])
            )
            writer.value(row["mid"], "finance.currency.currency_code", quote(row["code"]))
    for step, row in enumerate(row for row in atlas.countries if row["mid"]):
        add_dirt(dump, step)
        writer.country(row)
    dump.add_blank()
    dump.add_comment("cities")
    for row in atlas.cities:
        if row["mid"]:
            writer.city(row)
    for row in atlas.organisations:
        if row["mid"]:
            writer.organisation(row)
    return dump
