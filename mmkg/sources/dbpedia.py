"""DBpedia: the infoboxes, categories and links of Wikipedia as RDF; also MMKB's DB15K.

A line of it::

    <http://dbpedia.org/resource/Andorra> <http://dbpedia.org/ontology/currency> <http://dbpedia.org/resource/Euro> .

N-Triples (`.nt`, and `.ttl` that are really N-Triples), Turtle, and DB15K_EntityTriples. DB15K writes quotes and
backticks into IRIs, which are percent-encoded and marked `repaired`. Not in it: what only the text of an article says.

Address: https://databus.dbpedia.org , https://github.com/mniepert/mmkb . Licence: CC BY-SA 3.0 and GFDL. Citation:
Lehmann et al., Semantic Web 6(2), 2015; DB15K: Liu et al., ESWC 2019.
"""

from mmkg.sources.base import Source, SourceInfo
from mmkg.sources.sniff import choose_rdf_form

INFO = SourceInfo(
    title="DBpedia",
    example=(
        "<http://dbpedia.org/resource/Andorra> <http://dbpedia.org/ontology/currency> "
        "<http://dbpedia.org/resource/Euro> ."
    ),
    urls=("https://databus.dbpedia.org", "https://github.com/mniepert/mmkb"),
    licence="CC BY-SA 3.0",
    citation="Lehmann et al.: DBpedia: a large-scale, multilingual knowledge base. Semantic Web 6(2), 2015",
    expects='<subject> <predicate> <object> . or <subject> <predicate> "text"@en . or Turtle',
)

SOURCE = Source(kind="dbpedia", info=INFO, choose_form=choose_rdf_form)
