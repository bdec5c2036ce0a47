"""From the graph to kept pictures and vectors: discover, collect, decode, embed, judge.

Only `collect` meets the network and the folders of pictures; what it brought stays in ``builds/GRAPH/pictures`` for all
later builds, and the stages after it depend on what is there, not on when it came. Vectors stay in
``builds/GRAPH/vectors``, by embedder and content. A config that names no pictures, and no embedder, has none of these
stages.
"""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmkg.builds.versions import PICTURES_FOLDER, VECTORS_FOLDER
from mmkg.config import Config
from mmkg.embeddings import encode_pictures, encode_texts, open_vectors, vector_archive, write_vectors
from mmkg.embeddings.remembered import RememberedEmbedder
from mmkg.embeddings.texts import entity_texts, find_texts
from mmkg.errors import ConfigError
from mmkg.images.decode import DECODER_VERSION, Decoder, decode_part
from mmkg.images.discover import DISCOVER_VERSION, discovery_inputs
from mmkg.images.discover import discover as discover_candidates
from mmkg.images.gates import GATES_VERSION, Scorer
from mmkg.images.gates import judge as judge_pictures
from mmkg.images.library import PictureLibrary, Retry
from mmkg.pipeline.dumps import Dump, StepProgress
from mmkg.shards import Stage, StageResult, digest, file_sha256, open_table, run_stage
from mmkg.tables import PICTURES

if TYPE_CHECKING:
    from mmkg.images.collect import CollectReport

_VECTORS_VERSION = 1  # of how a build's vectors are put together
_DISCOVER_SETTINGS = {"from_graph", "predicates", "wikimedia_width_px", "types", "not_visual_types", "max_per_entity"}
_DECODE_SETTINGS = {"max_pixels", "max_frames", "max_seconds", "memory_mb", "shorter_side_px"}
_RESOLVED = ("url", "status", "kind", "detail", "sha256", "licence", "author", "source_page")


def open_library(config: Config) -> PictureLibrary:
    """What was fetched for the graph, in all builds so far."""
    return PictureLibrary(config.graph.folder / PICTURES_FOLDER)


def check_picture_files(config: Config) -> None:
    """Check that what [images] names is there, before hours of work depend on it.

    Raises:
        ConfigError: a list, a folder, a mapping or a placeholder is not there.
    """
    images = config.images
    named = [("images.url_lists", path) for path in images.url_lists]
    named += [("images.folders: mapping", folder.mapping) for folder in images.folders if folder.mapping]
    named += [("images.gates.placeholders", path) for path in images.gates.placeholders]
    for key, path in named:
        if not Path(path).is_file():
            raise ConfigError(f"{key}: {path}: no such file. Paths in a config are relative to the config file.")
    for folder in images.folders:
        if not Path(folder.path).is_dir():
            raise ConfigError(
                f"images.folders: {folder.path}: no such folder. Paths in a config are relative to the config file."
            )


def check_embedder(config: Config) -> None:
    """Check that the embedder of [embeddings] can be had; loads it where it was never opened here before.

    Raises:
        EmbeddingError: it cannot.
    """
    _ = _embedder(config).identity


def discover(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult], graph: StageResult) -> StageResult:
    """List where pictures of entities may be had, and what of it is left alone."""
    sources = [result for dump, result in zip(dumps, reads, strict=True) if not dump.is_link]
    folders = [folder.model_dump(mode="json", exclude={"path", "mapping"}) for folder in config.images.folders]
    stage = Stage(
        name="candidates",
        version=DISCOVER_VERSION,
        inputs={"graph": graph.stage.digest, **discovery_inputs(config.images)},
        settings={**config.images.model_dump(mode="json", include=_DISCOVER_SETTINGS), "folders": folders},
    )
    return run_stage(
        config.graph.folder / "stages",
        stage,
        lambda folder: discover_candidates(config.images, graph.folder, [s.folder for s in sources], folder),
    )


def collect(
    config: Config, candidates: StageResult, *, retry: Retry = "", progress: StepProgress | None = None
) -> "CollectReport":
    """Bring what the candidates name into the library, as far as it is not there; every attempt is a row of its ledger.

    Args:
        config: describes the graph.
        candidates: of `discover`.
        retry: "" asks what was never asked or is old; "transient" also what failed in passing; "all" everything.
        progress: told how many addresses are done.

    Raises:
        FetchError: something of the web is to be fetched, and there is no contact.
    """
    from mmkg.images.collect import collect as collect_pictures  # brings an HTTP client

    rows = open_table(candidates.folder, "image_candidates").to_table()
    return collect_pictures(
        config.images, config.fetch.contact, rows, open_library(config), retry=retry, progress=progress
    )


def decode(config: Config, candidates: StageResult, progress: StepProgress | None = None) -> list[StageResult]:
    """Decode what was fetched for the candidates: a stage for each part of the library that holds some of it."""
    urls = open_table(candidates.folder, "image_candidates").to_table(columns=["url"])["url"].to_pylist()
    library = open_library(config)
    wanted = pc.drop_null(library.resolve(urls)["sha256"]).unique()
    results = []
    parts = [part for part in library.served.parts() if _holds_any(part, wanted)]
    with contextlib.ExitStack() as stack:
        decoder = functools.cache(lambda: stack.enter_context(Decoder(config.images.decode)))
        for number, part in enumerate(parts, start=1):
            results.append(_decode_part(config, part, decoder))
            if progress is not None:
                progress("decode pictures", number, len(parts))
    return results


def _holds_any(part: Path, wanted: pa.Array) -> bool:
    keys = pq.read_table(part, columns=["sha256"])["sha256"]
    return bool(pc.any(pc.is_in(keys, value_set=wanted)).as_py())


def _decode_part(config: Config, part: Path, decoder: Callable[[], Decoder]) -> StageResult:
    stage = Stage(
        name="pictures",
        version=DECODER_VERSION,
        inputs={"part": part.stem},
        settings=config.images.decode.model_dump(mode="json", include=_DECODE_SETTINGS),
    )

    def work(folder: Path) -> dict[str, Any]:
        counts = decode_part(config.images.decode, part, folder, decoder())
        served = folder / "image_bytes" / "part-00000.parquet"  # a version holds the bytes as served, at no cost
        served.parent.mkdir()
        try:
            os.link(part, served)
        except OSError:  # a file system without hard links
            shutil.copy2(part, served)
        return counts

    return run_stage(config.graph.folder / "stages", stage, work)


def _embedder(config: Config) -> RememberedEmbedder:
    return RememberedEmbedder(config.embeddings, config.graph.folder / VECTORS_FOLDER)


def embed(
    config: Config, graph: StageResult, pictures: Sequence[StageResult], progress: StepProgress | None = None
) -> StageResult:
    """Turn the entities' texts and the decoded pictures into vectors; what the same embedder did before is found."""
    settings = config.embeddings
    remembered = _embedder(config)
    identity = remembered.identity
    archive = vector_archive(config.graph.folder / VECTORS_FOLDER, identity)
    with_pictures = pictures if "image" in identity.modalities else []
    stage = Stage(
        name="vectors",
        version=_VECTORS_VERSION,
        inputs={
            "graph": graph.stage.digest,
            "embedder": identity.digest,
            **{f"pictures {result.stage.digest}": "" for result in with_pictures},
        },
        settings={"text": settings.text},
    )

    def texts() -> Iterator[tuple[int, str]]:
        if "text" in identity.modalities:
            yield from entity_texts(open_table(graph.folder, "entities"), settings.text)

    def work(folder: Path) -> dict[str, Any]:
        embedder = remembered.embedder
        said = encode_texts(embedder, settings, (text for _, text in texts()), archive, _told("embed texts", progress))
        told = _told("embed pictures", progress)
        seen = encode_pictures(
            embedder, settings, _normalised(with_pictures), archive, told, normalised_by=_normaliser(config)
        )
        shas = sorted(sha256 for sha256, _ in _normalised(with_pictures, with_bytes=False))
        counts = write_vectors(
            identity, archive, texts=texts(), pictures=shas, folder=folder, normalised_by=_normaliser(config)
        )
        return {
            **counts,
            "embedded": said.embedded + seen.embedded,
            "reused": said.reused + seen.reused,
            "failed": len(said.failed) + len(seen.failed),
            "texts_cut": said.cut,
            "embedder": identity.digest,
        }

    return run_stage(config.graph.folder / "stages", stage, work)


def _told(what: str, progress: StepProgress | None) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(what, done, None)


def _normaliser(config: Config) -> str:
    """Names how bytes as served became the pictures that models get: with other settings they are other pictures."""
    return digest([DECODER_VERSION, config.images.decode.model_dump(mode="json", include=_DECODE_SETTINGS)])


def _normalised(pictures: Sequence[StageResult], *, with_bytes: bool = True) -> Iterator[tuple[str, bytes]]:
    """Digest and normalised bytes of every decoded picture, each once."""
    columns = ["sha256", "normalised"] if with_bytes else ["sha256"]
    for result in pictures:
        table = open_table(result.folder, "pictures")
        for batch in table.to_batches(columns=columns, filter=pc.field("status") == "ok", batch_size=256):
            for row in batch.to_pylist():
                yield row["sha256"], row.get("normalised", b"")


def _scorer(config: Config, vectors: StageResult) -> Scorer | None:
    """What the gates ask for vectors: those of the stage, and of texts that no entity has; None without both kinds."""
    remembered = _embedder(config)
    if not {"text", "image"} <= set(remembered.identity.modalities):
        return None
    archive = vector_archive(config.graph.folder / VECTORS_FOLDER, remembered.identity)

    def text_vectors(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        encode_texts(remembered.embedder, config.embeddings, texts, archive)
        return find_texts(archive, texts)

    return Scorer(image_vectors=open_vectors(vectors.folder).pictures, text_vectors=text_vectors)


def judge(
    config: Config,
    graph: StageResult,
    candidates: StageResult,
    pictures: Sequence[StageResult],
    vectors: StageResult | None,
) -> StageResult:
    """Decide which pictures of each entity are kept, with a reason for each of the others."""
    rows = open_table(candidates.folder, "image_candidates").to_table()
    resolved = open_library(config).resolve(list(dict.fromkeys(rows["url"].to_pylist())))
    gates = config.images.gates
    stage = Stage(
        name="images",
        version=GATES_VERSION,
        inputs={
            "graph": graph.stage.digest,
            "candidates": candidates.stage.digest,
            "fetched": digest([resolved[name].to_pylist() for name in _RESOLVED]),
            "vectors": vectors.stage.digest if vectors else "",
            **{f"pictures {result.stage.digest}": "" for result in pictures},
            **{f"placeholder {file_sha256(Path(path))}": "" for path in gates.placeholders},
        },
        settings={
            "gates": gates.model_dump(mode="json", exclude={"placeholders"}),
            "random_seed": config.graph.random_seed,
        },
    )

    def work(folder: Path) -> dict[str, Any]:
        columns = [name for name in PICTURES.names if name != "normalised"]
        facts = [open_table(result.folder, "pictures").to_table(columns=columns) for result in pictures]
        counts = judge_pictures(
            config.images,
            entities=open_table(graph.folder, "entities"),
            candidates=rows,
            resolved=resolved,
            pictures=pa.concat_tables([PICTURES.empty_table().select(columns), *facts]),
            folder=folder,
            scorer=_scorer(config, vectors) if vectors else None,
            random_seed=config.graph.random_seed,
        )
        totals = {name: counts.pop(name) for name in ("candidates", "entities")}
        return {**totals, "statuses": counts}

    return run_stage(config.graph.folder / "stages", stage, work)
