"""Where the bundled atlas lies: inside an installed mmkg, or in ``examples/atlas`` of a checkout."""

import shutil
from pathlib import Path

import mmkg
from mmkg.errors import ConfigError

CONFIG_NAME = "atlas.toml"


def atlas_folder() -> Path:
    """The folder of the bundled atlas.

    Raises:
        ConfigError: this installation does not hold it.
    """
    package = Path(mmkg.__file__).parent
    for folder in (package / "examples" / "atlas", package.parent / "examples" / "atlas"):
        if (folder / CONFIG_NAME).exists():
            return folder
    raise ConfigError(f"{package}: the bundled atlas is missing. Reinstall mmkg: pip install --force-reinstall mmkg")


def copy_atlas(folder: Path) -> Path:
    """Copy the atlas's config and dumps into a folder; returns the config.

    Raises:
        ConfigError: there is a config already.
    """
    config = folder / CONFIG_NAME
    if config.exists():
        raise ConfigError(f"{config}: is there already. Choose another folder, or edit it.")
    shutil.copytree(atlas_folder(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return config
