"""Builds on disk: versions and the pointer to the served one, a build opened to be asked, cards, differences."""

from mmkg.builds.cards import make_card
from mmkg.builds.delivery import switch_to
from mmkg.builds.opened import Build, Entity, open_build, query_served
from mmkg.builds.retention import remove_old_versions
from mmkg.builds.serving import serve, version_before
from mmkg.builds.versions import (
    BuildManifest,
    find_build_folder,
    list_versions,
    read_build_manifest,
    served_version,
    write_version,
)

__all__ = [
    "Build",
    "BuildManifest",
    "Entity",
    "find_build_folder",
    "list_versions",
    "make_card",
    "open_build",
    "query_served",
    "read_build_manifest",
    "remove_old_versions",
    "serve",
    "served_version",
    "switch_to",
    "version_before",
    "write_version",
]
