"""A finished version as files for ``neo4j-admin``."""

from pathlib import Path
from typing import TYPE_CHECKING

from mmkg.builds.store_content import open_content
from mmkg.builds.versions import read_build_manifest

if TYPE_CHECKING:
    from mmkg.store.neo4j import ImportFiles


def export_neo4j(folder: Path, output: Path) -> "ImportFiles":
    """Write the import files of a version; see :mod:`mmkg.store.neo4j.files`.

    A version that was built for an embedded store gives the same files, and the same digest, as one built for a server.

    Args:
        folder: of the version.
        output: is made; the files of an earlier export there are replaced.

    Raises:
        StoreError: the values of its lists leave no character free to part them; or this machine's disk, folders or
            memory do not do.
        ShardError: a table is missing.
    """
    from mmkg.store.neo4j.files import write_import_files
    from mmkg.store.neo4j.local import ENGINE_ERRORS, explain_local

    manifest = read_build_manifest(folder)
    memory_limit = manifest.config["graph"]["memory_limit"]
    try:
        with open_content(folder, output) as content:
            return write_import_files(content, manifest.graph, manifest.version, output, memory_limit=memory_limit)
    except (OSError, *ENGINE_ERRORS) as error:
        if told := explain_local(error, output, memory_limit):
            raise told from error
        raise
