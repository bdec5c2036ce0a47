"""docker-compose.yml: what can be checked of it without Docker."""

import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from mmkg.config import read_config

ROOT = Path(__file__).resolve().parents[1]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


def test_it_starts_neo4j_5_a_prefect_server_on_postgresql_and_a_worker():
    assert SERVICES["neo4j"]["image"].startswith("neo4j:5.")
    assert SERVICES["prefect"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert "postgresql+asyncpg" in SERVICES["prefect"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert "flows/rebuild.py" in SERVICES["worker"]["command"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_health_check_and_comes_back(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nothing_is_opened_to_the_world_and_no_password_is_written_down(name):
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    secrets = {key: value for key, value in SERVICES[name].get("environment", {}).items() if "PASSWORD" in key}
    assert all("${" in value for value in secrets.values())


def _copied_by_worker():
    recipe = SERVICES["worker"]["build"]["dockerfile_inline"]
    return [word for line in recipe.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]]


def test_the_worker_copies_only_what_exists():
    assert _copied_by_worker()
    assert [name for name in _copied_by_worker() if not (ROOT / name).exists()] == []


def test_the_worker_copies_all_that_the_package_is_made_of():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], project["project"]["readme"]]
    assert [name for name in needed if name.partition("/")[0] not in _copied_by_worker()] == []


def test_the_worker_installs_extras_that_there_are():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (extras,) = re.findall(r"'\.\[(.*)\]'", SERVICES["worker"]["build"]["dockerfile_inline"])
    assert {"flows", "neo4j"} <= set(extras.split(",")) <= set(project["project"]["optional-dependencies"])


def _command_of_worker(environment):
    """The words that the worker is started with, as compose fills in the variables."""
    command = re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1], match[2]), SERVICES["worker"]["command"]
    )
    assert "$" not in command
    return shlex.split(command)


@pytest.mark.parametrize(
    ("environment", "uri"), [({}, "bolt://neo4j:7687"), ({"NEO4J_URI": "embedded"}, "embedded")], ids=["neo4j", "none"]
)
def test_the_worker_rebuilds_the_atlas_every_night_into_the_server(environment, uri):
    words = _command_of_worker(environment)
    assert words[:3] == ["python", "flows/rebuild.py", "examples/atlas/atlas.toml"]
    assert words[words.index("--cron") + 1] == "0 3 * * *"
    settings = [value for option, value in itertools.pairwise(words) if option == "--set"]
    config = read_config(ROOT / words[2], settings)
    assert (config.store.uri, config.store.user, str(config.graph.output)) == (uri, "neo4j", "/builds")
    assert config.store.password_env in SERVICES["worker"]["environment"]
    assert any(volume.endswith(":/builds") for volume in SERVICES["worker"]["volumes"])


def test_the_example_environment_names_every_password_that_must_be_set():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert all(f"{name}=" in example for name in ("NEO4J_PASSWORD", "POSTGRES_PASSWORD"))


def test_the_example_environment_names_every_variable_with_what_it_is_without():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", compose):
        assert re.search(rf"^# {name}={re.escape(default)}(  |$)", example, re.MULTILINE), name
