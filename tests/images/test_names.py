"""Names and the entities they mean: what matches, and everything that must not."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.images.graph_view import open_graph
from mmkg.images.names import NameGroup, clean_names, fold_names, match_names, spellings
from mmkg.images.namesakes import Match, Refusal
from mmkg.images.visual import put_relation_types
from mmkg.terms import DBPEDIA, FREEBASE, SKOS
from tests.images.named_graph import EXAMPLE, NamedGraph

COUNTRY, FILM, SPORT, THING = (EXAMPLE + name for name in ("Country", "Film", "Sport", "Thing"))


def _match(tmp_path: Path, graph: NamedGraph, *groups: NameGroup) -> list[dict[str, str]]:
    """For each group the entity's IRI or the reason, by name."""
    graph.write(tmp_path / "graph")
    with open_graph(tmp_path / "graph") as connection:
        put_relation_types(connection)
        decided = match_names(connection, groups)
    ids = graph.entity_ids
    return [
        {name: ids[found.entity_index] if isinstance(found, Match) else found.reason for name, found in group.items()}
        for group in decided
    ]


def _countries(**labels: str) -> NamedGraph:
    """Countries by the last part of their IRI."""
    return NamedGraph(
        {EXAMPLE + name: label for name, label in labels.items()},
        types={EXAMPLE + name: [COUNTRY] for name in labels},
    )


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Côte d’Ivoire", "cote d'ivoire"),
        ("Denmark-GB", "Denmark"),
        ("Gambia", "The Gambia"),
        ("The Bahamas", "bahamas"),
        ("Trinidad and Tobago", "Trinidad & Tobago"),
        ("Straße", "STRASSE"),
        ("British Virgin Islands", "Virgin Islands, British"),
        ("Democratic Republic of the Congo", "Congo, the Democratic Republic of the"),
        ("Bolivia", "Bolivia, Plurinational State of"),
        ("Falkland Islands", "Falkland Islands (Malvinas)"),
        ("Republic of Ireland", "Ireland"),
        ("Georgia (U.S. state)", "Georgia"),
        ("ＦＩＮＬＡＮＤ", "Finland"),
    ],
)
def test_forms_of_one_name_meet(tmp_path: Path, label: str, name: str) -> None:
    graph = _countries(it=label, other="Elsewhere")
    assert _match(tmp_path, graph, NameGroup([name], [COUNTRY])) == [{name: EXAMPLE + "it"}]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("South Korea", "Korea, Republic of"),
        ("South Korea", "Korea"),
        ("C++", "C"),
        ("Guinea-Bissau", "Guinea"),
        ("Republic of Korea", "Korea, Democratic People's Republic of"),
        ("Paris", "Texas, Paris of"),
    ],
)
def test_names_that_differ_do_not_meet(tmp_path: Path, label: str, name: str) -> None:
    assert _match(tmp_path, _countries(it=label), NameGroup([name], [COUNTRY]))[0][name] != EXAMPLE + "it"


def test_a_name_of_two_things_is_ambiguous_unless_the_types_leave_one(tmp_path: Path) -> None:
    graph = NamedGraph(
        {EXAMPLE + "1": "Gong", EXAMPLE + "2": "Gong", EXAMPLE + "3": "GONG"},
        types={EXAMPLE + "1": [THING], EXAMPLE + "2": [COUNTRY], EXAMPLE + "3": [FILM]},
    )
    groups = [NameGroup(["gong"], [COUNTRY]), NameGroup(["gong"], [COUNTRY, FILM]), NameGroup(["gong"], [SPORT])]
    assert _match(tmp_path, graph, *groups) == [
        {"gong": EXAMPLE + "2"},
        {"gong": "ambiguous"},
        {"gong": "other_type"},
    ]


def test_the_ids_of_those_that_it_could_be_are_told(tmp_path: Path) -> None:
    graph = _countries(a="Congo", b="Congo")
    graph.write(tmp_path / "graph")
    with open_graph(tmp_path / "graph") as connection:
        put_relation_types(connection)
        (found,) = match_names(connection, [NameGroup(["Congo"], [COUNTRY])])
    assert found["Congo"] == Refusal("ambiguous", f"called so, or exact so: {EXAMPLE}a, {EXAMPLE}b")


def test_an_exact_name_goes_before_a_folded_one(tmp_path: Path) -> None:
    graph = _countries(city="Reading", book="reading")
    groups = NameGroup(["Reading", "reading", "READING"], [COUNTRY])
    assert _match(tmp_path, graph, groups) == [
        {"Reading": EXAMPLE + "city", "reading": EXAMPLE + "book", "READING": "ambiguous"}
    ]


def test_a_short_form_that_others_have_too_is_none(tmp_path: Path) -> None:
    graph = _countries(north="North Korea", south="South Korea", all="Korea", bolivia="Bolivia")
    names = ["Korea, Republic of", "Bolivia, Plurinational State of"]
    assert _match(tmp_path, graph, NameGroup(names, [COUNTRY])) == [
        {names[0]: "ambiguous", names[1]: EXAMPLE + "bolivia"}
    ]


def test_a_short_form_of_two_names_of_a_folder_is_none(tmp_path: Path) -> None:
    names = ["Congo, Republic of the", "Congo, the Democratic Republic of the"]
    found = _match(tmp_path, _countries(it="Congo"), NameGroup(names, [COUNTRY]))
    assert found == [dict.fromkeys(names, "ambiguous")]


def test_alternative_labels_and_ends_of_iris_are_names(tmp_path: Path) -> None:
    mid = FREEBASE + "m.0fv4v"
    graph = NamedGraph(
        {mid: None, EXAMPLE + "x": "Elsewhere"},
        types={mid: [COUNTRY]},
        aliases={mid: [DBPEDIA + "Ivory_Coast", "http://yago-knowledge.org/resource/C%C3%B4te_d%27Ivoire_Q1008"]},
        literals=[(mid, SKOS + "altLabel", "Elfenbeinküste")],
    )
    names = ["ivory coast", "Elfenbeinkuste", "Côte d'Ivoire", "m.0fv4v"]
    found = _match(tmp_path, graph, NameGroup(names, [COUNTRY]))
    assert found == [dict.fromkeys(names[:3], mid) | {"m.0fv4v": "no_entity"}]


def test_relations_of_freebase_say_of_what_type_their_ends_are(tmp_path: Path) -> None:
    banjo, dog, band = FREEBASE + "m.018j2", FREEBASE + "m.01t032", FREEBASE + "m.0band"
    breeds = FREEBASE + "base.petbreeds.city_with_dogs.top_breeds..base.petbreeds.dog_city_relationship.dog_breed"
    graph = NamedGraph(
        {banjo: "Banjo", band: "Banjo", dog: "Golden Retriever", EXAMPLE + "city": "Austin"},
        triples=[(banjo, FREEBASE + "music.instrument.family", EXAMPLE + "strings"), (EXAMPLE + "city", breeds, dog)],
    )
    types = [FREEBASE + "music.instrument", FREEBASE + "base.petbreeds.dog_city_relationship.dog_breed"]
    assert _match(tmp_path, graph, NameGroup(["banjo", "golden retriever", "Austin"], types)) == [
        {"banjo": banjo, "golden retriever": dog, "Austin": "other_type"}
    ]


def test_a_type_that_was_merged_is_known_by_both_names(tmp_path: Path) -> None:
    graph = NamedGraph(
        {EXAMPLE + "peru": "Peru", COUNTRY: "country"},
        types={EXAMPLE + "peru": [COUNTRY]},
        aliases={COUNTRY: [EXAMPLE + "OtherCountry"]},
    )
    found = _match(tmp_path, graph, NameGroup(["Peru"], [EXAMPLE + "OtherCountry"]))
    assert found == [{"Peru": EXAMPLE + "peru"}]


# --- folders without types -------------------------------------------------------------------------------------------

NAMES = ["Peru", "Chad", "Togo", "Oman", "Cuba"]


def _folder_graph(**more: tuple[str, str]) -> NamedGraph:
    """Five countries among fifteen other things, and more: label and type by the last part of the IRI."""
    labels = {name.lower(): (name, COUNTRY) for name in NAMES}
    labels |= {f"thing{number}": (f"Thing {number}", THING) for number in range(15)} | more
    return NamedGraph(
        {EXAMPLE + key: label for key, (label, _) in labels.items()},
        types={EXAMPLE + key: [type_] for key, (_, type_) in labels.items()},
    )


def test_a_folder_that_speaks_for_itself_is_matched(tmp_path: Path) -> None:
    found = _match(tmp_path, _folder_graph(), NameGroup([*NAMES, "nowhere"]))
    assert found == [{name: EXAMPLE + name.lower() for name in NAMES} | {"nowhere": "no_entity"}]


def test_what_is_unlike_the_folders_others_is_not_matched(tmp_path: Path) -> None:
    found = _match(tmp_path, _folder_graph(mali=("Mali", FILM)), NameGroup([*NAMES, "Mali"]))
    assert found == [{name: EXAMPLE + name.lower() for name in NAMES} | {"Mali": "other_type"}]


def test_a_folder_of_which_the_graph_knows_little_is_not_matched(tmp_path: Path) -> None:
    names = [*NAMES, *(f"unknown {number}" for number in range(6))]
    (found,) = _match(tmp_path, _folder_graph(), NameGroup(names))
    assert {found[name] for name in NAMES} == {"untrusted"}


def test_a_folder_of_things_of_all_kinds_is_not_matched(tmp_path: Path) -> None:
    more = {f"kind{number}": (f"Kind {number}", EXAMPLE + f"Kind{number}") for number in range(5)}
    names = [*NAMES[:2], *(label for label, _ in more.values())]
    (found,) = _match(tmp_path, _folder_graph(**more), NameGroup(names))
    assert set(found.values()) == {"untrusted"}


def test_two_names_do_not_speak_for_each_other(tmp_path: Path) -> None:
    assert _match(tmp_path, _folder_graph(), NameGroup(NAMES[:2])) == [dict.fromkeys(NAMES[:2], "untrusted")]


def test_an_iri_that_tells_an_entity_from_its_namesakes_is_heeded(tmp_path: Path) -> None:
    graph = _folder_graph(drake=("Drake", COUNTRY))
    graph.aliases = {EXAMPLE + "drake": [DBPEDIA + "Drake_(rapper)"]}
    found = _match(tmp_path, graph, NameGroup([*NAMES, "drake"]), NameGroup(["drake"], [COUNTRY]))
    assert found[0]["drake"] == "ambiguous"
    assert found[1]["drake"] == EXAMPLE + "drake"


def test_without_types_a_name_that_is_anothers_short_form_is_ambiguous(tmp_path: Path) -> None:
    graph = _folder_graph(island=("Ireland", COUNTRY), state=("Republic of Ireland", COUNTRY))
    assert _match(tmp_path, graph, NameGroup([*NAMES, "Ireland"]))[0]["Ireland"] == "ambiguous"


def test_without_types_no_name_is_made_shorter(tmp_path: Path) -> None:
    found = _match(tmp_path, _folder_graph(), NameGroup([*NAMES, "Peru, Republic of", "Chad (film)"]))
    assert [found[0][name] for name in ("Peru, Republic of", "Chad (film)")] == ["no_entity", "no_entity"]


def test_where_nothing_is_known_of_types_names_decide(tmp_path: Path) -> None:
    graph = NamedGraph({EXAMPLE + name: name for name in NAMES})
    assert _match(tmp_path, graph, NameGroup(NAMES)) == [{name: EXAMPLE + name for name in NAMES}]


# --- names themselves ------------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_folding_twice_is_folding_once_and_case_does_not_matter(text: str) -> None:
    (once,) = fold_names(pa.array([text])).to_pylist()
    assert fold_names(pa.array([once.removeprefix("the ")])).to_pylist() == [once.removeprefix("the ")]
    assert fold_names(pa.array([text.lower()])).to_pylist() == [once]


@given(st.lists(st.text(max_size=12), max_size=5))
@settings(max_examples=30)
def test_names_in_one_array_are_as_one_by_one(texts: list[str]) -> None:
    for function in (fold_names, clean_names):
        alone = [function(pa.array([text])).to_pylist()[0] for text in texts]
        assert function(pa.array(texts, pa.string())).to_pylist() == alone


def test_spellings_do_not_take_a_list_for_a_name_turned_round() -> None:
    assert spellings("Bonaire, Sint Eustatius, Saba") == [(1, "Bonaire, Sint Eustatius, Saba")]
    assert spellings("Laos (Lao PDR)") == [(1, "Laos (Lao PDR)"), (4, "Laos"), (4, "Lao PDR")]
