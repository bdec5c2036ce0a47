"""mmkg: multimodal knowledge graphs, from the line of a dump to the answer of a reasoner.

>>> import mmkg
>>> build = mmkg.open_build("builds/atlas")  # doctest: +SKIP
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmkg.builds import Build, open_build

__version__ = version("mmkg")
__all__ = ["Build", "__version__", "open_build"]


def __getattr__(name: str) -> Any:
    """Import the parts of the Python interface when they are first asked for: `import mmkg` stays light."""
    if name in {"Build", "open_build"}:
        from mmkg import builds

        return getattr(builds, name)
    raise AttributeError(f"module 'mmkg' has no attribute '{name}'")
