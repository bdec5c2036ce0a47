"""Switching readers to a version: the server's store first, when the graph has one, then the pointer.

A graph whose store is embedded is switched by the pointer alone. With a Neo4j server the order is: the server is
brought to the version (old or new for its readers, never between), then the pointer, at once: proving that the server
holds what it should may take longer. Killed between the two, the same command again finds the server there already,
writes nothing, and moves the pointer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmkg.builds.serving import serve, store_of
from mmkg.builds.store_content import open_content
from mmkg.builds.versions import list_versions, read_build_manifest, served_version
from mmkg.config import StoreConfig
from mmkg.errors import BuildError, unknown_name

if TYPE_CHECKING:
    from mmkg.store.neo4j import Neo4jLoadReport

Progress = Callable[[str, int, int | None], None]
"""What is being done, how many changes are done, how many there are."""

WATERMARK = "neo4j.json"


def store_now(root: Path, version: str) -> StoreConfig:
    """Where the store of a graph is, when a version is to be served: where that of the version being served is.

    Where the served one's is embedded, and `version` was built for a server, that server.
    """
    now = store_of(root, served_version(root) or version)
    return store_of(root, version) if now.is_embedded else now


def switch_to(
    root: Path,
    version: str,
    store: StoreConfig | None = None,
    *,
    back: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    memory_limit: str | None = None,
) -> "Neo4jLoadReport | None":
    """Serve a finished version; its server's store, if it has one, holds it before the pointer moves.

    Args:
        root: folder of the graph.
        version: one of its finished versions.
        store: where the store is now; `store_now` unless given.
        back: this is a rollback: what was served after `version` is withdrawn, and no build serves it by itself.
        force: let a server's store go that somebody else wrote into.
        progress: told how far a server's load is.
        memory_limit: of the relational engine; that which the version was built with unless given.

    Returns:
        What the server's load did; None for an embedded store.

    Raises:
        BuildError: there is no such version, or it did not pass its checks and was not accepted.
        StoreError: the server cannot be brought to it; it, and the pointer, stay as they were. Or, once both were
            switched, it was not proved that the server holds just this: somebody else writes into it.
    """
    if version not in list_versions(root):
        raise BuildError(unknown_name(f"version of {root.name}", version, list_versions(root)))
    manifest = read_build_manifest(root / version)
    if not manifest.may_be_served:
        raise BuildError(
            f"{root / version}: did not pass its checks, and nobody accepted it: {'; '.join(manifest.problems)}. "
            "Nothing was changed. `mmkg build --accept` makes and serves what its dumps give."
        )
    store = store or store_now(root, version)

    def switch() -> None:
        serve(root, version, store, back=back)

    if store.is_embedded:
        switch()
        return None
    from mmkg.builds.store_vectors import deliver_vectors
    from mmkg.store.neo4j import load_neo4j

    others = [root / other / "store" for other in reversed(list_versions(root)) if other != version]
    with open_content(root / version, root) as content:
        report = load_neo4j(
            content,
            store,
            graph=manifest.graph,
            version=version,
            previous=[other for other in others if (other / "content.json").exists()],
            hint=root / WATERMARK,
            force=force,
            progress=progress,
            served=switch,
            memory_limit=memory_limit or manifest.config["graph"]["memory_limit"],
        )
    deliver_vectors(root, version, store, report.build, progress)
    return report
