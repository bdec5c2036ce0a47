"""The one way in which tables reach the disk and come back: Parquet shards, a manifest last, and stages with digests.

A stage's folder is written under a partial name, every file is flushed to disk, the manifest is written last, and the
folder is renamed: what has its final name is whole. The digest in that name covers the stage's inputs, its settings
and the version of its code, so that the same work asked for again is found instead of done.
"""

from mmkg.shards.archive import Archive
from mmkg.shards.files import PARTIAL_SUFFIX, digest, file_sha256, write_bytes, write_json
from mmkg.shards.files import sync as sync_folder
from mmkg.shards.manifest import (
    MANIFEST,
    Manifest,
    Shard,
    check_shards,
    open_table,
    read_manifest,
    table_glob,
    write_manifest,
)
from mmkg.shards.stages import Stage, StageResult, run_stage
from mmkg.shards.writer import ROWS_PER_SHARD, TableWriter, write_shard, write_table

__all__ = [
    "MANIFEST",
    "PARTIAL_SUFFIX",
    "ROWS_PER_SHARD",
    "Archive",
    "Manifest",
    "Shard",
    "Stage",
    "StageResult",
    "TableWriter",
    "check_shards",
    "digest",
    "file_sha256",
    "open_table",
    "read_manifest",
    "run_stage",
    "sync_folder",
    "table_glob",
    "write_bytes",
    "write_json",
    "write_manifest",
    "write_shard",
    "write_table",
]
