"""A small graph on disk for tests of whole builds: two dumps, one file of links, one config, and pictures if wanted."""

from pathlib import Path

from PIL import Image, ImageDraw

FREEBASE = "http://rdf.freebase.com/ns/"
DBPEDIA = "http://dbpedia.org/resource/"
ONTOLOGY = "http://dbpedia.org/ontology/"

_DUMPS = {
    "freebase.nt": f"""\
<{FREEBASE}m.0f8l9c>\t<{FREEBASE}type.object.name>\t"France"@en\t.
<{FREEBASE}m.0345h>\t<{FREEBASE}type.object.name>\t"Germany"@en\t.
<{FREEBASE}m.0f8l9c>\t<{FREEBASE}location.location.adjoins>\t<{FREEBASE}m.0345h>\t.
this line is not a statement
""",
    "dbpedia.nt": f"""\
# a comment
<{DBPEDIA}France> <http://www.w3.org/2000/01/rdf-schema#label> "France"@en .
<{DBPEDIA}France> <{ONTOLOGY}capital> <{DBPEDIA}Paris> .
<{DBPEDIA}Germany> <{ONTOLOGY}capital> <{DBPEDIA}Berlin> .
<{DBPEDIA}Paris> <http://www.w3.org/2000/01/rdf-schema#label> "Paris"@en .

<{DBPEDIA}France> <{ONTOLOGY}populationTotal> "68000000"^^<http://www.w3.org/2001/XMLSchema#integer> .
""",
    "links.nt": f"""\
<{DBPEDIA}France> <http://www.w3.org/2002/07/owl#sameAs> <{FREEBASE}m.0f8l9c> .
<{DBPEDIA}Germany> <http://www.w3.org/2002/07/owl#sameAs> <{FREEBASE}m.0345h> .
""",
}

_CONFIG = """\
[graph]
name = "small"

[[sources]]
kind = "freebase"
paths = ["freebase.nt"]

[[sources]]
kind = "dbpedia"
paths = ["dbpedia.nt"]

[[links]]
kind = "sameas"
paths = ["links.nt"]
"""


def write_small_graph(folder: Path, extra: str = "") -> Path:
    """Write the dumps and the config into a folder; returns the config. `extra` is appended to it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _DUMPS.items():
        (folder / name).write_text(text, encoding="utf-8")
    config = folder / "small.toml"
    config.write_text(_CONFIG + extra, encoding="utf-8")
    return config


_PICTURES = """
[[images.folders]]
path = "flags"
mapping = "flags.tsv"
licence = "CC0 1.0"

[embeddings]
kind = "hashing"
"""
COLOURS = {"France": ("blue", "white", "red"), "Germany": ("black", "red", "gold"), "Paris": ("blue", "red")}


def draw_stripes(path: Path, colours: tuple[str, ...], side_px: int = 96) -> None:
    picture = Image.new("RGB", (side_px, side_px), "white")
    pen = ImageDraw.Draw(picture)
    width = side_px / len(colours)
    for place, colour in enumerate(colours):
        pen.rectangle((place * width, 0, (place + 1) * width, side_px), fill=colour)
    picture.save(path)


def write_pictured_graph(folder: Path, extra: str = "") -> Path:
    """The small graph with a picture each of France, Germany and Paris, tied to them by MID and IRI."""
    config = write_small_graph(folder, _PICTURES + extra)
    (folder / "flags").mkdir()
    for name, colours in COLOURS.items():
        draw_stripes(folder / "flags" / f"{name}.png", colours)
    rows = [("France.png", "/m/0f8l9c"), ("Germany.png", DBPEDIA + "Germany"), ("Paris.png", f"<{DBPEDIA}Paris>")]
    text = "".join(f"{file}\t{entity}\n" for file, entity in [("file", "entity"), *rows])
    (folder / "flags.tsv").write_text(text, encoding="utf-8")
    return config
