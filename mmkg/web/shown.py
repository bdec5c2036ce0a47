"""A config as it may stand in a file that others read, such as the manifest of a build: without credentials."""

from typing import Any

from mmkg.config import Config
from mmkg.web.manners import shown_url


def shown_config(config: Config) -> dict[str, Any]:
    """A config as JSON, for manifests: its URLs without user name and password, and without `notify`.

    Every section is still one that its model reads, and each download keeps its place. An endpoint (`sources.sparql`)
    and a server (`store.uri`) hold no credentials: the config refuses those. The address of a hook may be a secret as a
    whole.

    Args:
        config: describes the graph; may hold URLs such as ``https://me:secret@host/x.nt``.

    Returns:
        What ``config.model_dump(mode="json", exclude={"notify"})`` gives, with every URL as :func:`shown_url` shows it.
    """
    shown: dict[str, Any] = config.model_dump(mode="json", exclude={"notify"})
    for source in shown["sources"]:
        source["urls"] = [shown_url(url) for url in source["urls"]]
        source["sha256"] = {shown_url(url): _shown(expected) for url, expected in source["sha256"].items()}
    shown["fetch"]["mirrors"] = [shown_url(base) for base in shown["fetch"]["mirrors"]]
    return shown


def _shown(expected: str) -> str:
    """What a file must be: a digest as it is, the URL of a file of checksums without credentials."""
    return shown_url(expected) if "://" in expected else expected
