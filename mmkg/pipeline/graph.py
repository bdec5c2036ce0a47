"""From finished reads to the graph, what is derived of it, and its store: one function a stage."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmkg.config import Config, SourceConfig
from mmkg.graph.build import BUILD_VERSION, build_graph
from mmkg.graph.splits import SPLITS_VERSION, build_splits
from mmkg.graph.validate import VALIDATE_VERSION, build_findings
from mmkg.pipeline.dumps import Dump
from mmkg.shards import Stage, StageResult, file_sha256, open_table, run_stage
from mmkg.store import STORE_VERSION, load_store
from mmkg.subgraphs import build_adjacency
from mmkg.subgraphs.adjacency import FORMAT_VERSION as ADJACENCY_VERSION

_STORE_SETTINGS = {"attributes", "min_attribute_share", "max_attributes"}  # what its content depends on
_SERVER_SETTINGS = {"uri", "user", "password_env", "database"}
_SOURCE_SETTINGS = {"kind", "name", "split", "base_iri", "fold_cvt", "drop_redundant"}  # what the graph depends on


def merge(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult]) -> StageResult:
    """Build entities, relations, triples, literals, merges and the ledger out of all that was read."""
    sources = [result for dump, result in zip(dumps, reads, strict=True) if not dump.is_link]
    links = [result for dump, result in zip(dumps, reads, strict=True) if dump.is_link]
    stage = Stage(
        name="graph",
        version=BUILD_VERSION,
        inputs={f"{dump.name}": result.stage.digest for dump, result in zip(dumps, reads, strict=True)},
        settings={
            "identity": config.identity.model_dump(mode="json"),
            "languages": config.graph.languages,
            "source_names": config.source_names,
            "sources": [s.model_dump(include=_SOURCE_SETTINGS) for s in config.sources],
        },
    )
    return run_stage(
        config.graph.folder / "stages",
        stage,
        lambda folder: build_graph(config, [s.folder for s in sources], [link.folder for link in links], folder),
    )


def split(config: Config, dumps: Sequence[Dump], reads: Sequence[StageResult], graph: StageResult) -> StageResult:
    """Divide the triples into train, valid and test."""
    named = [
        (dump.section.split, result.folder)
        for dump, result in zip(dumps, reads, strict=True)
        if isinstance(dump.section, SourceConfig) and dump.section.split
    ]
    stage = Stage(
        name="splits",
        version=SPLITS_VERSION,
        inputs={"graph": graph.stage.digest},
        settings={
            "splits": config.splits.model_dump(mode="json"),
            "random_seed": config.graph.random_seed,
            "dumps": [[name, folder.name] for name, folder in named],
        },
    )
    return run_stage(
        config.graph.folder / "stages", stage, lambda folder: build_splits(config, graph.folder, named, folder)
    )


def validate(config: Config, graph: StageResult) -> StageResult:
    """Report what is odd in the graph."""
    stage = Stage(
        name="findings",
        version=VALIDATE_VERSION,
        inputs={"graph": graph.stage.digest},
        settings={
            "shapes": [file_sha256(Path(path)) for path in config.checks.shapes],
            "disjoint_types": config.identity.disjoint_types,
            "shacl_max_triples": config.checks.shacl_max_triples,
        },
    )
    return run_stage(config.graph.folder / "stages", stage, lambda folder: build_findings(config, graph.folder, folder))


def index(config: Config, graph: StageResult) -> StageResult:
    """Lay the triples out as compressed sparse rows."""
    stage = Stage(name="adjacency", version=ADJACENCY_VERSION, inputs={"graph": graph.stage.digest}, settings={})

    def work(folder: Path) -> dict[str, Any]:
        triples = open_table(graph.folder, "triples")
        build_adjacency(triples, num_entities=graph.manifest.counts["entities"], folder=folder / "adjacency")
        return {}

    return run_stage(config.graph.folder / "stages", stage, work)


def load(config: Config, graph: StageResult, images: StageResult | None = None) -> StageResult:
    """Load the graph into a new embedded store and verify it, or lay out the content that a server's is to have.

    Args:
        config: describes the graph.
        graph: of `merge`.
        images: of `judge`, where the config asks for pictures.
    """
    settings = config.store.model_dump(mode="json", include=_STORE_SETTINGS)
    # a version says in its manifest where it is asked, so another server is another version, of the same content
    server = None if config.store.is_embedded else config.store.model_dump(mode="json", include=_SERVER_SETTINGS)
    stage = Stage(
        name="store",
        version=STORE_VERSION,
        inputs={"graph": graph.stage.digest} | ({"images": images.stage.digest} if images else {}),
        settings={"store": settings, "server": server, "source_names": config.source_names},
    )

    memory = config.graph.memory_limit
    images_folder = images.folder if images else None

    def work(folder: Path) -> dict[str, Any]:
        target = folder / "store"
        if config.store.is_embedded:
            report = load_store(
                graph.folder,
                target,
                config.store,
                config.source_names,
                images_folder=images_folder,
                memory_limit=memory,
            )
            return dataclasses.asdict(report)
        from mmkg.store.content import write_content

        content = write_content(
            graph.folder, config.store, config.source_names, target, images_folder=images_folder, memory_limit=memory
        )
        return {
            "entities": content.digest.num_nodes,
            "triples": content.digest.num_edges,
            "values_left_out": content.values_left_out,
            "content": content.digest.total,
        }

    return run_stage(config.graph.folder / "stages", stage, work)
