"""One real, ephemeral Prefect server for all tests of the flows."""

import os
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def prefect_server():
    """The address of a server that has nothing in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, get_current_settings, temporary_settings
        from prefect.testing.utilities import prefect_test_harness

        with (
            temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}),  # tests tell nobody anything
            prefect_test_harness(server_startup_timeout=180),
        ):
            yield get_current_settings().api.url


@pytest.fixture
def environment(prefect_server, tmp_path):
    """Of a process that talks to the server."""
    return {
        **os.environ,
        "PREFECT_API_URL": prefect_server,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


@pytest.fixture
def find_artifacts(prefect_server):
    """What a run of a graph has shown, by the first word of the key; the newest of each."""
    from prefect.client.orchestration import get_client

    def find(**wanted):
        with get_client(sync_client=True) as client:
            found = client._client.post("/artifacts/filter", json={"sort": "CREATED_DESC", **wanted}).json()
        return {artifact["key"]: artifact for artifact in reversed(found) if artifact["key"]}

    return find
