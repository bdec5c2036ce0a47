"""Which pictures of an entity are kept, and why not the others.

Gates stand in order of what they cost, and the first one that a picture fails names its status: what came and was
decoded, its licence, its size and contrast, whether many entities have it, whether it is there twice, whether it shows
its entity, whether better ones are kept. Every candidate stays as one row of `images`, with the number that decided.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from mmkg.config.images import GatesConfig, ImagesConfig
from mmkg.errors import ImageError
from mmkg.images.diversity import choose_diverse
from mmkg.images.duplicates import MAX_COLOUR_DIFFERENCE, count_entities, differ_by, find_near_duplicates
from mmkg.images.judged import Judged, Pictures, Row
from mmkg.images.licences import permits_training
from mmkg.images.margins import Scorer, Vectors, prepare_prompts, score_pictures

__all__ = ["GATES_VERSION", "REASONS", "Scorer", "judge"]

logger = logging.getLogger(__name__)

GATES_VERSION = 1

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "not_tried": "its address was never asked",
        "not_decoded": "its bytes are here and were not decoded",
        "licence": "its licence does not permit training, or nobody says that it does",
        "too_small": "its shorter side is below min_side_px",
        "too_long": "its longer side is more than max_aspect times its shorter side",
        "blank": "it shows next to nothing",
        "placeholder": "it looks like one of the pictures that stand for a missing one",
        "generic": "more than max_entities entities have it or a near-duplicate of it",
        "duplicate": "it is, or nearly is, another picture of the same entity, which is at least as large",
        "margin": "it is not enough nearer to its entity's label than to those of others",
        "not_best": "others of the entity are better, or differ more from what is kept",
    }
)

_UNLIKE_BITS = 32  # two unrelated hashes of 64 bits differ in about half of them
_VECTORS_AT_ONCE = 4_096
_TOTALS = frozenset({"candidates", "entities", "ok"})  # of the counts; the others are statuses


@dataclass(frozen=True)
class _Placeholder:
    """A picture that stands for a missing one."""

    name: str
    phash: int
    colours: npt.NDArray[np.uint8]  # (1, 192)


def judge(
    images: ImagesConfig,
    *,
    entities: ds.Dataset,
    candidates: pa.Table,
    resolved: pa.Table,
    pictures: pa.Table,
    folder: Path,
    scorer: Scorer | None = None,
    random_seed: int = 0,
) -> dict[str, int]:
    """Judge all candidates and write the table `images`.

    Args:
        images: the section of the config.
        entities: the table `entities`.
        candidates: the table `image_candidates`.
        resolved: what became of each address: `url`, `status`, `detail`, `sha256`, `licence`, `author`, `source_page`.
        pictures: the table `pictures`, without `normalised`.
        folder: of the stage; gets ``images/part-*.parquet``, one row a candidate, in their order.
        scorer: gives vectors; without one, scores are null and no margin is asked.
        random_seed: of the distractors.

    Returns:
        How many candidates there were (`candidates`), how many entities have a picture (`entities`), and how many
        candidates have each status.

    Raises:
        ImageError: a placeholder of the config is no picture.
    """
    gates = images.gates
    placeholders = _read_placeholders(images)
    judged = Judged(candidates, resolved, pictures)
    if gates.training_licences_only:
        _stop_by_licence(judged)
    _stop_by_look(gates, judged, placeholders)
    _stop_generic(gates, judged)
    _stop_twins(gates, judged)
    if scorer is not None:
        _score(gates, judged, entities, scorer, random_seed)
    _choose(gates, judged, scorer)
    counts = judged.write(folder)
    stopped = ", ".join(f"{count:,} {status}" for status, count in counts.items() if status not in _TOTALS)
    logger.info(
        "images: %s of %s kept; %s", f"{counts['ok']:,}", f"{counts['candidates']:,}", stopped or "none stopped"
    )
    return counts


def _stop_by_licence(judged: Judged) -> None:
    licences = judged.facts["licence"].to_pylist()
    for row in judged.left():
        licence = licences[row.candidate]
        if not licence:
            row.decide("licence", "nobody says under which licence it is")
        elif not permits_training(licence):
            row.decide("licence", f"'{licence}' is not known to permit training")


def _read_placeholders(images: ImagesConfig) -> list[_Placeholder]:
    from mmkg.images.picture import Limits, decode_picture  # loads Pillow and SciPy

    limits = Limits(
        max_pixels=images.decode.max_pixels,
        max_frames=images.decode.max_frames,
        shorter_side_px=images.decode.shorter_side_px,
    )
    found = []
    for path in images.gates.placeholders:
        try:
            facts = decode_picture(Path(path).read_bytes(), limits)
        except OSError as error:
            raise ImageError(f"{path}: a placeholder of [images.gates] cannot be read: {error}") from error
        if facts.phash is None or facts.colours is None:
            raise ImageError(f"{path}: a placeholder of [images.gates] is no picture: {facts.status}, {facts.detail}")
        colours = np.frombuffer(facts.colours, np.uint8)[None]
        found.append(_Placeholder(Path(path).name, int(facts.phash, 16), colours))
    return found


def _stop_by_look(gates: GatesConfig, judged: Judged, placeholders: Sequence[_Placeholder]) -> None:
    """Size, contrast, placeholders: what a picture shows by itself, asked once a content."""
    failures: dict[int, tuple[str, str] | None] = {}
    for row in judged.left():
        if row.picture not in failures:
            failures[row.picture] = _fails_alone(gates, judged.pictures, row.picture) or _find_placeholder(
                gates, judged.pictures, row.picture, placeholders
            )
        if failure := failures[row.picture]:
            row.decide(*failure)


def _fails_alone(gates: GatesConfig, pictures: Pictures, picture: int) -> tuple[str, str] | None:
    shorter, longer = pictures.sides(picture)
    if shorter < gates.min_side_px:
        return "too_small", f"{shorter:,} px < {gates.min_side_px:,} px"
    if longer > gates.max_aspect * shorter:
        return "too_long", f"{longer:,} px : {shorter:,} px = {longer / shorter:.1f} > {gates.max_aspect:g}"
    deviation, colours = pictures.columns["deviation"][picture], pictures.columns["num_colours"][picture]
    if deviation < gates.min_deviation and colours < gates.min_colours:
        shown = f"{colours:,} colour{'' if colours == 1 else 's'}"
        return "blank", f"deviation {deviation:.1f} < {gates.min_deviation:g}, {shown} < {gates.min_colours:,}"
    return None


def _find_placeholder(
    gates: GatesConfig, pictures: Pictures, picture: int, placeholders: Sequence[_Placeholder]
) -> tuple[str, str] | None:
    colours = pictures.colours[picture : picture + 1]
    for placeholder in placeholders:
        bits = (int(pictures.hashes[picture]) ^ placeholder.phash).bit_count()
        is_near = bits <= gates.max_hash_distance
        if is_near and differ_by(colours, placeholder.colours)[0] <= MAX_COLOUR_DIFFERENCE:
            return "placeholder", f"{bits} of 64 bits from {placeholder.name}, at most {gates.max_hash_distance}"
    return None


def _stop_generic(gates: GatesConfig, judged: Judged) -> None:
    """Find near-duplicates among all pictures that are left, and stop those that too many entities have.

    Blank pictures are gone by now: the hash of one is noise, and many would be near each other.
    """
    left, pictures = judged.left(), judged.pictures
    used, places = np.unique(np.array([row.picture for row in left], np.int64), return_inverse=True)
    hashes, colours = pictures.hashes[used], pictures.colours[used]
    # A placeholder that was served in a thousand ways is compared once: pairs grow with the square.
    looks = np.hstack([hashes[:, None].view(np.uint8), colours]).view(f"V{hashes.itemsize + colours.shape[1]}")
    _, first, look = np.unique(looks.ravel(), return_index=True, return_inverse=True)
    pairs = find_near_duplicates(hashes[first], gates.max_hash_distance, colours[first])
    of_entities = np.array([row.entity_index for row in left], np.int64)
    pictures.num_entities[used] = count_entities(pairs, look[places], of_entities, len(first))[look]
    for row in left:
        if (count := pictures.num_entities[row.picture]) > gates.max_entities:
            row.decide("generic", f"{count:,} entities have it or a near-duplicate > {gates.max_entities:,}")


def _stop_twins(gates: GatesConfig, judged: Judged) -> None:
    """Of an entity's near-duplicates, keep the largest; of equals, one whose licence is known, found first."""
    pictures = judged.pictures
    licences = judged.facts["licence"].to_pylist()

    def order(row: Row) -> tuple[int, bool, int]:
        return -pictures.area(row.picture), not licences[row.candidate], row.place

    for group in judged.left_by_entity():
        kept: dict[int, Row] = {}
        for row in sorted(group, key=order):
            twin = row.picture if row.picture in kept else _first_near(gates, pictures, row.picture, kept)
            if twin is None:
                kept[row.picture] = row
                continue
            row.duplicate_of = twin
            bits = pictures.bits_between(row.picture, twin)
            how = "the same bytes as" if twin == row.picture else f"{bits} of 64 bits from"
            row.decide("duplicate", f"{how} {judged.url(kept[twin])}")


def _first_near(gates: GatesConfig, pictures: Pictures, picture: int, kept: Mapping[int, Row]) -> int | None:
    colours = pictures.colours[picture : picture + 1]
    for other in kept:
        is_near = pictures.bits_between(picture, other) <= gates.max_hash_distance
        if is_near and differ_by(colours, pictures.colours[other : other + 1])[0] <= MAX_COLOUR_DIFFERENCE:
            return other
    return None


def _score(gates: GatesConfig, judged: Judged, entities: ds.Dataset, scorer: Scorer, random_seed: int) -> None:
    left = judged.left()
    of_entities = [row.entity_index for row in left]
    prompts = prepare_prompts(entities, np.unique(np.array(of_entities, np.int64)), gates.distractors, random_seed)
    sha256s = [judged.pictures.sha256s[row.picture] for row in left]
    scores = score_pictures(scorer, prompts, sha256s, of_entities)
    for row, score, margin in zip(left, scores.score.tolist(), scores.margin.tolist(), strict=True):
        row.score = None if np.isnan(score) else score
        row.margin = None if np.isnan(margin) else margin
        if gates.min_margin is not None and row.margin is not None and row.margin < gates.min_margin:
            row.decide("margin", f"{row.margin:.3f} < {gates.min_margin:g}, with a cosine of {score:.3f}")


def _choose(gates: GatesConfig, judged: Judged, scorer: Scorer | None) -> None:
    """Rank what is left of each entity, and stop all but the best few."""
    for group, vectors in _with_vectors(judged, scorer):
        order = [0]
        if len(group) > 1:
            likeness = _likeness(group, judged.pictures) if vectors is None else np.clip(vectors @ vectors.T, 0, 1)
            order = choose_diverse(_values(group, judged.pictures), likeness, len(group), gates.diversity)
        for rank, place in enumerate(order):
            row = group[place]
            if rank < gates.keep:
                row.rank = rank
                row.decide("ok", f"place {rank + 1} of {len(group)}")
            else:
                row.decide("not_best", f"place {rank + 1} of {len(group)}, {gates.keep} are kept")


def _with_vectors(judged: Judged, scorer: Scorer | None) -> Iterator[tuple[list[Row], Vectors | None]]:
    """What is left of each entity, with the (n, d) vectors of its pictures if all have one; asked for in blocks."""
    waiting: list[list[Row]] = []
    num_waiting = 0
    for group in judged.left_by_entity():
        waiting.append(group)
        num_waiting += len(group)
        if num_waiting >= _VECTORS_AT_ONCE:
            yield from _look_up(waiting, judged.pictures, scorer)
            waiting, num_waiting = [], 0
    yield from _look_up(waiting, judged.pictures, scorer)


def _look_up(
    groups: Sequence[list[Row]], pictures: Pictures, scorer: Scorer | None
) -> Iterator[tuple[list[Row], Vectors | None]]:
    if scorer is None or not groups:
        yield from ((group, None) for group in groups)
        return
    vectors, has_vector = scorer.image_vectors([pictures.sha256s[row.picture] for group in groups for row in group])
    start = 0
    for group in groups:
        block = slice(start, start + len(group))
        yield group, vectors[block] if has_vector[block].all() else None
        start += len(group)


def _values(group: Sequence[Row], pictures: Pictures) -> npt.NDArray[np.float64]:
    """What each picture is worth, from 0 for the entity's worst to 1 for its best: by cosine, or else by size.

    Cosines of a text with pictures lie within a few hundredths, so they are spread before difference counts against
    them. Where only some have one, the others count as the worst.
    """
    scores = [row.score for row in group if row.score is not None]
    if scores:
        found = np.array([min(scores) if row.score is None else row.score for row in group])
    else:
        found = np.log([pictures.area(row.picture) for row in group])
    span = found.max() - found.min()
    values: npt.NDArray[np.float64] = (found - found.min()) / span if span else np.ones(len(group))
    return values


def _likeness(group: Sequence[Row], pictures: Pictures) -> npt.NDArray[np.float64]:
    """How alike each two pictures are by their hashes: 1 the same, 0 as far apart as chance has it."""
    hashes = pictures.hashes[[row.picture for row in group]]
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :]).astype(np.float64)
    alike: npt.NDArray[np.float64] = np.clip(1 - bits / _UNLIKE_BITS, 0, 1)
    return alike
