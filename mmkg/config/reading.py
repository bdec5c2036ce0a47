"""Reading a config file: overrides, messages that name the nearest key, absolute paths."""

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mmkg.config.file import Config
from mmkg.errors import ConfigError

_BUNDLED_MODELS = {"atlas", "minilm"}  # names of [embeddings], never folders
_CREDENTIALS = re.compile(r"(?<=://)\S*@")


def read_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: the TOML file. Paths inside it are relative to its folder and come back absolute.
        settings: overrides such as ``["graph.workers=2"]``.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not describe a graph.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file. `mmkg init` writes one to start from.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}. Expected a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    override(data, settings)
    return _with_absolute_paths(parse_config(data, path), path.resolve().parent)


def parse_config(data: dict[str, Any], path: Path) -> Config:
    """Check the content of a config file; `path` is named in messages.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of the wrong kind.
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error


def override(data: dict[str, Any], settings: Sequence[str]) -> None:
    """Set ``graph.workers=2`` style overrides in a config's content; the value is read as TOML, else as a string.

    An item of a list is named by its number from 0: ``sources.0.fold_cvt=true``.

    Raises:
        ConfigError: a setting is not ``key=value``, or goes through something that is not a section.
    """
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        *sections, key = dotted.split(".")
        if not equals or not key or "" in sections:
            raise ConfigError(f"--set {setting}: expected key=value, such as graph.workers=2")
        section: Any = data
        for step in sections:
            section = _step_into(section, step, setting)
        if isinstance(section, list):
            _step_into(section, key, setting)
            section[int(key)] = _read_value(text)
        else:
            section[key] = _read_value(text)


def _step_into(section: Any, step: str, setting: str) -> Any:
    """The section or list item of that name; a section that is not there yet is made."""
    if isinstance(section, list):
        if not (step.isdecimal() and int(step) < len(section)):
            raise ConfigError(f"--set {setting}: '{step}' is not one of the {len(section)} items, which count from 0")
        return section[int(step)]
    inner = section.setdefault(step, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"--set {setting}: '{step}' is a value, not a section")
    return inner


def _read_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def _with_absolute_paths(config: Config, folder: Path) -> Config:
    def absolute(path: str) -> str:
        return str(folder / path)

    graph = config.graph.model_copy(update={"output": folder / config.graph.output})
    sources = tuple(s.model_copy(update={"paths": tuple(map(absolute, s.paths))}) for s in config.sources)
    links = tuple(link.model_copy(update={"paths": tuple(map(absolute, link.paths))}) for link in config.links)
    checks = config.checks.model_copy(update={"shapes": tuple(map(absolute, config.checks.shapes))})
    pictures = config.images
    folders = tuple(
        f.model_copy(update={"path": absolute(f.path), "mapping": absolute(f.mapping) if f.mapping else ""})
        for f in pictures.folders
    )
    gates = pictures.gates.model_copy(update={"placeholders": tuple(map(absolute, pictures.gates.placeholders))})
    lists = tuple(map(absolute, pictures.url_lists))
    images = pictures.model_copy(update={"folders": folders, "gates": gates, "url_lists": lists})

    def absolute_if_there(name: str) -> str:  # a model is a name or a path
        path = folder / name
        return str(path) if name and name not in _BUNDLED_MODELS and path.exists() else name

    model, pretrained = (absolute_if_there(name) for name in (config.embeddings.model, config.embeddings.pretrained))
    embeddings = config.embeddings.model_copy(update={"model": model, "pretrained": pretrained})
    return config.model_copy(
        update={
            "graph": graph,
            "sources": sources,
            "links": links,
            "checks": checks,
            "images": images,
            "embeddings": embeddings,
        }
    )


def _explain(error: ValidationError, path: Path) -> str:
    """Each problem of a config on a line of its own, with the nearest known key for an unknown one."""
    lines = []
    for problem in error.errors():
        where = problem["loc"]
        dotted = ".".join(str(step) for step in where) or "the file as a whole"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(where[:-1])
            near = difflib.get_close_matches(str(where[-1]), known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            lines.append(f"{path}: unknown key '{dotted}'.{hint} Known here: {', '.join(known)}.")
        else:
            told = isinstance(problem["input"], BaseModel | dict) or problem["type"] == "missing"
            found = "" if told else f" Found: {problem['input']!r}."
            said = f"{dotted}: {problem['msg'].removeprefix('Value error, ')}.{found}"
            lines.append(f"{path}: {_CREDENTIALS.sub('', said)}")
    return "\n".join(lines)


def _known_keys(where: Sequence[int | str]) -> list[str]:
    """The keys of the section at a path of the file such as ("sources", 0)."""
    model: type[BaseModel] = Config
    for step in where:
        if isinstance(step, int):
            continue
        annotation: Any = model.model_fields[step].annotation
        model = next((a for a in getattr(annotation, "__args__", ()) if isinstance(a, type)), annotation)
    return list(model.model_fields)
