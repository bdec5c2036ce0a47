"""A finished version as files for ``neo4j-admin``: from the content kept for its server, or from its tables."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mmkg.builds.versions import read_build_manifest
from mmkg.config import StoreConfig
from mmkg.shards import PARTIAL_SUFFIX

if TYPE_CHECKING:
    from mmkg.store.neo4j import ImportFiles


def export_neo4j(folder: Path, output: Path) -> "ImportFiles":
    """Write the import files of a version; see :mod:`mmkg.store.neo4j.files`.

    A version that was built for an embedded store gives the same files, and the same digest, as one built for a server.

    Args:
        folder: of the version.
        output: is made; the files of an earlier export there are replaced.

    Raises:
        StoreError: the values of its lists leave no character free to part them.
        ShardError: a table is missing.
    """
    from mmkg.store.content import CONTENT_MANIFEST, read_content, write_content
    from mmkg.store.neo4j.files import write_import_files

    manifest = read_build_manifest(folder)
    memory_limit = manifest.config["graph"]["memory_limit"]
    if (folder / "store" / CONTENT_MANIFEST).exists():
        content = read_content(folder / "store")
        return write_import_files(content, manifest.graph, manifest.version, output, memory_limit=memory_limit)
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob(f"content-*{PARTIAL_SUFFIX}"):  # of a killed export
        shutil.rmtree(left)
    store = StoreConfig.model_validate(manifest.config["store"])
    with tempfile.TemporaryDirectory(prefix="content-", suffix=PARTIAL_SUFFIX, dir=output) as work:
        content = write_content(folder, store, manifest.source_names, Path(work), memory_limit=memory_limit)
        return write_import_files(content, manifest.graph, manifest.version, output, memory_limit=memory_limit)
