"""docker-compose.yml: what can be checked of it without Docker."""

from pathlib import Path

import pytest
import yaml

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


def test_the_worker_copies_only_what_exists():
    recipe = SERVICES["worker"]["build"]["dockerfile_inline"]
    copied = [word for line in recipe.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_example_environment_names_every_password_that_must_be_set():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert all(f"{name}=" in example for name in ("NEO4J_PASSWORD", "POSTGRES_PASSWORD"))
