"""What each kind of recipe learns from, and how `mmkg train` and `mmkg evaluate` hand it over.

To add a kind: a prefix in ``KINDS`` of one of these files with what it needs, and functions there that call its
training and evaluation.
"""

from collections.abc import Mapping

from mmkg.cli.kinds import graph4mm, graphs, mr_mkg
from mmkg.cli.kinds.base import Evaluated, Evaluating, Kind, Learning

__all__ = ["KINDS", "Evaluated", "Evaluating", "Kind", "Learning"]

KINDS: Mapping[str, Kind] = {**graphs.KINDS, **mr_mkg.KINDS, **graph4mm.KINDS}
