"""What a loader remembers beside the build: the server's mark of the last commit after its last write.

The same mark now: nobody has written since. It is only a short cut; without the file, the server's content is read.
"""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from mmkg.shards import write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Hint:
    """One server, what it held, and its mark then."""

    uri: str
    database: str
    build: str
    mark: str


def read_hint(path: Path | None) -> Hint | None:
    """What was remembered; None without a file, or with one that cannot be read."""
    if path is None:
        return None
    try:
        return Hint(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        logger.warning("%s: cannot be read (%s); the server's content is read instead", path, error)
        return None


def write_hint(path: Path | None, hint: Hint) -> None:
    """Remember."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dataclasses.asdict(hint))


def remove_hint(path: Path | None) -> None:
    """Forget: before a write whose end is not known."""
    if path is not None:
        path.unlink(missing_ok=True)
