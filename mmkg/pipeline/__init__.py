"""The stages of a build in order, each skipped when its digest is there.

fetch (what the config names by URL or endpoint) → read (one a dump) → graph → splits, findings, adjacency → candidates
(where pictures may be had) → collect (fetch them) → pictures (decode them) → vectors → images (what is kept) → store →
a version, checked, delivered to the server if the store is one, then served.
``mmkg build`` and the Prefect flow call the same functions, so that a build gives the same manifest with and without an
orchestrator. Each function takes paths and finished stages and returns a finished stage; none returns tables.
"""

from mmkg.builds.publishing import BuildReport
from mmkg.pipeline.dumps import Dump, StepProgress, fetch, list_dumps, read
from mmkg.pipeline.graph import index, load, merge, split, validate
from mmkg.pipeline.pictures import check_picture_files, collect, decode, discover, embed, judge, open_library
from mmkg.pipeline.run import STAGES, build, lock_graph, publish, retry_pictures

__all__ = [
    "STAGES",
    "BuildReport",
    "Dump",
    "StepProgress",
    "build",
    "check_picture_files",
    "collect",
    "decode",
    "discover",
    "embed",
    "fetch",
    "index",
    "judge",
    "list_dumps",
    "load",
    "lock_graph",
    "merge",
    "open_library",
    "publish",
    "read",
    "retry_pictures",
    "split",
    "validate",
]
