"""What the store of a finished version is to hold: as it was kept for its server, or from its tables."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmkg.builds.versions import read_build_manifest
from mmkg.config import StoreConfig
from mmkg.shards import PARTIAL_SUFFIX

if TYPE_CHECKING:
    from mmkg.store.content import Content


@contextmanager
def open_content(folder: Path, work: Path) -> Iterator["Content"]:
    """The content of a version; one that was built for an embedded store has the same content, and the same digest.

    Args:
        folder: of the version.
        work: a folder for what is made of the tables and lasts as long as the block, where nothing was kept; what a
            killed process left there of it is removed.

    Raises:
        ShardError: a table is missing.
    """
    from mmkg.store.content import CONTENT_MANIFEST, read_content, write_content

    if (folder / "store" / CONTENT_MANIFEST).exists():
        yield read_content(folder / "store")
        return
    manifest = read_build_manifest(folder)
    store = StoreConfig.model_validate(manifest.config["store"])
    work.mkdir(parents=True, exist_ok=True)
    for left in work.glob(f"content-*{PARTIAL_SUFFIX}"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix="content-", suffix=PARTIAL_SUFFIX, dir=work) as made:
        memory_limit = manifest.config["graph"]["memory_limit"]
        images_folder = folder if "images" in manifest.stages else None
        yield write_content(
            folder,
            store,
            manifest.source_names,
            Path(made) / "store",
            images_folder=images_folder,
            memory_limit=memory_limit,
        )
