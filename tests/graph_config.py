"""A small graph on disk for tests of whole builds: two dumps, one file of links, one config."""

from pathlib import Path

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
