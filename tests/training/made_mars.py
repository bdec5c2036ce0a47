"""A MarKG and a MARS small enough to check by finger: countries, capitals, currencies, and what they are."""

import json
from pathlib import Path

COUNTRIES = ("Peru", "Chad", "Laos", "Mali", "Cuba", "Fiji", "Iran", "Iraq")
RELATIONS = {"P36": "capital", "P38": "currency", "P31": "instance of", "A1": "goes with"}


def write_mars(folder: Path) -> Path:
    """Entities: 0-7 countries, 8-15 capitals, 16-23 currencies, 24 country, 25 city."""
    names = [*COUNTRIES, *(f"{c} City" for c in COUNTRIES), *(f"{c} crown" for c in COUNTRIES), "country", "city"]
    ids = [f"Q{number}" for number in range(len(names))]
    triples = [(f"Q{c}", "P36", f"Q{8 + c}") for c in range(8)]
    triples += [(f"Q{c}", "P31", "Q24") for c in range(8)] + [(f"Q{8 + c}", "P31", "Q25") for c in range(8)]
    # pairs: a currency goes with its country (A1), and is named by it (P38); capitals go with countries in train only
    facts = {"A1": [(f"Q{16 + c}", f"Q{c}") for c in range(8)], "P38": [(f"Q{c}", f"Q{16 + c}") for c in range(6)]}
    learnt = {"A1": 6, "P38": 5}
    train = [
        item(facts[r][(place + 1) % count], facts[r][place], r, place % 3)
        for r, count in learnt.items()
        for place in range(count)
        for _ in range(2)
    ]
    # the last one's pair is in train, the other way round
    dev = [item(facts["A1"][4], facts["A1"][place], "A1", 0) for place in (6, 7)]
    dev += [item(facts["P38"][0], facts["P38"][5], "P38", 0)]
    files = {
        "entity2text.txt": "".join(f"{q}\t{name}\n" for q, name in zip(ids, names, strict=True)),
        "entity2textlong.txt": "Q0\tcountry in South America\n",
        "relation2text.txt": "".join(f"{r}\t{name}\n" for r, name in RELATIONS.items()),
        "relation2textlong.txt": "",
        "wiki_tuple_ids.txt": "".join("\t".join(t) + "\n" for t in triples),
        "train.json": "".join(json.dumps(line) + "\n" for line in train),
        "dev.json": "".join(json.dumps(line) + "\n" for line in dev),
        "analogy_entities.txt": "".join(f"{q}\n" for q in ids[:24]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def item(example, asked, relation, mode):
    return {"example": list(example), "question": asked[0], "answer": asked[1], "relation": relation, "mode": mode}
