"""What every section of the config file is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the file: frozen, and closed against unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
