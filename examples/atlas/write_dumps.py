"""Write the atlas dumps and ``expected.json`` out of the tables. The same tables give the same bytes.

python examples/atlas/write_dumps.py                  # into examples/atlas
python examples/atlas/write_dumps.py --output DIR     # into DIR/dumps and DIR/expected.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

from atlas_tables import Atlas, dbpedia_iri, freebase_iri, read_atlas, yago_iri
from dbpedia_form import write_dbpedia_ntriples, write_dbpedia_turtle
from dump_lines import DumpLines
from freebase_form import write_freebase
from yago_form import write_yago_facts, write_yago_meta, write_yago_taxonomy

HERE = Path(__file__).parent
AS_OF = "2024-12-31"
# The planted wrong link: Niger is said to be the Freebase topic of Nigeria.
PLANTED_HEAD, PLANTED_TAIL = "NE", "NG"


def write_sameas(atlas: Atlas) -> DumpLines:
    """DBpedia to Freebase where there is a MID, DBpedia to YAGO for what YAGO has; and the planted wrong link."""
    dump = DumpLines("sameas.nt")
    same_as = "<http://www.w3.org/2002/07/owl#sameAs>"
    dump.add_comment("DBpedia to Freebase and to YAGO. One link is wrong on purpose: see README.md.")
    in_yago = [*atlas.countries, *atlas.cities, *atlas.languages, *atlas.regions, *atlas.organisations]
    for row in [*in_yago, *atlas.currencies]:
        head = f"<{dbpedia_iri(row['title'])}>"
        if row["mid"]:
            dump.add(head, same_as, f"<{freebase_iri(row['mid'])}>")
        if row.get("iso2") == PLANTED_HEAD:
            dump.add(head, same_as, f"<{freebase_iri(atlas.country(PLANTED_TAIL)['mid'])}>")
        if "name" in row:  # currencies have none and are not in YAGO
            dump.add(head, same_as, f"<{yago_iri(row['title'])}>")
    return dump


def answer_questions(atlas: Atlas) -> list[dict[str, object]]:
    """Three questions whose answers anyone can check; DBpedia's relations give them."""

    def title(rows: list[dict[str, str]]) -> list[str]:
        return sorted(row["name"] for row in rows)

    neighbours = set(atlas.country("CH")["neighbours"].split())
    france, germany = (set(atlas.country(iso2)["neighbours"].split()) for iso2 in ("FR", "DE"))
    return [
        {
            "question": "Which countries border Switzerland?",
            "relations": ["http://dbpedia.org/property/borders"],
            "answer": title([row for row in atlas.countries if row["iso2"] in neighbours]),
        },
        {
            "question": "In which countries is Portuguese an official language?",
            "relations": ["http://dbpedia.org/ontology/officialLanguage"],
            "answer": title([row for row in atlas.countries if "pt" in row["official_languages"].split()]),
        },
        {
            "question": "Which countries border both France and Germany?",
            "relations": ["http://dbpedia.org/property/borders"],
            "answer": title([row for row in atlas.countries if row["iso2"] in france & germany]),
        },
    ]


def write_atlas(output: Path, tables: Path = HERE) -> dict[str, Any]:
    """Write every dump and the counts; return what ``expected.json`` holds."""
    atlas = read_atlas(tables)
    (output / "dumps").mkdir(parents=True, exist_ok=True)
    dumps = [
        write_freebase(atlas),
        write_dbpedia_ntriples(atlas),
        write_dbpedia_turtle(atlas),
        write_yago_facts(atlas),
        write_yago_meta(atlas),
        write_yago_taxonomy(atlas),
        write_sameas(atlas),
    ]
    expected = {
        "as_of": AS_OF,
        "dumps": {dump.name: dump.write(output / "dumps") for dump in dumps},
        "planted_link": {
            "head": dbpedia_iri(atlas.country(PLANTED_HEAD)["title"]),
            "tail": freebase_iri(atlas.country(PLANTED_TAIL)["mid"]),
            "right_tail": freebase_iri(atlas.country(PLANTED_HEAD)["mid"]),
        },
        "questions": answer_questions(atlas),
    }
    text = json.dumps(expected, ensure_ascii=False, indent=2) + "\n"
    (output / "expected.json").write_text(text, encoding="utf-8")
    return expected


def main() -> None:
    """Read the arguments, write, print a line for each dump."""
    parser = argparse.ArgumentParser(description="write the atlas dumps")
    parser.add_argument("--output", type=Path, default=HERE, help="folder that gets dumps/ and expected.json")
    counts = write_atlas(parser.parse_args().output)["dumps"]
    for name, count in counts.items():
        print(f"{name}: {count['lines']:,} lines, {count['statements']:,} statements, {len(count['rejects'])} rejects")


if __name__ == "__main__":
    main()
