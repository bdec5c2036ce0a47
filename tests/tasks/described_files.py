"""A small described graph as files: people, the towns where they live and the countries of these."""

import gzip
import json
from pathlib import Path

TOWNS = {"Lyon": "France", "Nice": "France", "Kiel": "Germany", "Bonn": "Germany", "Bath": "England", "York": "England"}
TRADES = ("painter", "singer", "baker")
FACTS = ("/person/town", "/town/country", "/person/friend")


def made_entities(people: int = 30) -> tuple[dict[str, dict[str, object]], list[tuple[str, str, str]]]:
    """What is said of each entity, and all facts."""
    towns = list(TOWNS)
    said = {f"/c/{name}": {"label": name, "description": "country in Europe"} for name in sorted(set(TOWNS.values()))}
    said |= {f"/t/{town}": {"label": town, "description": f"town in {TOWNS[town]}"} for town in towns}
    facts = [(f"/t/{town}", FACTS[1], f"/c/{TOWNS[town]}") for town in towns]
    for number in range(people):
        town = towns[number % len(towns)]
        trade = TRADES[number % len(TRADES)]
        said[f"/p/{number:02}"] = {"label": f"Person {number}", "description": f"{trade} from {TOWNS[town]}"}
        facts += [
            (f"/p/{number:02}", FACTS[0], f"/t/{town}"),
            (f"/p/{number:02}", FACTS[2], f"/p/{(number + 6) % people:02}"),
        ]
    return said, facts


def write_described(folder: Path, people: int = 30) -> Path:
    """Write the three files, one of them gzipped."""
    said, facts = made_entities(people)
    (folder / "fb15k-237").mkdir(parents=True)
    with gzip.open(folder / "entity2wikidata.json.gz", "wt", encoding="utf-8") as file:
        json.dump(said, file)
    lines = "".join("\t".join(fact) + "\n" for fact in facts)
    (folder / "fb15k-237" / "train.txt").write_text(lines, encoding="utf-8")
    words = "".join(f"{name}\t{name.rpartition('/')[2]}\n" for name in FACTS)
    (folder / "relation2text.txt").write_text(words, encoding="utf-8")
    return folder
