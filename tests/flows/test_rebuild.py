"""The flow on a real, ephemeral Prefect server: the same build as without Prefect."""

import warnings

import pytest

from mmkg import pipeline
from mmkg.builds import read_build_manifest
from mmkg.config import read_config
from tests.graph_config import write_small_graph

pytestmark = [
    pytest.mark.slow,
    # raised inside prefect and its server, not by us
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def prefect_server():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield


def test_the_flow_builds_what_the_command_builds(prefect_server, tmp_path):
    from prefect.client.orchestration import get_client

    from flows.rebuild import rebuild

    with_flow = write_small_graph(tmp_path / "with")
    folder = rebuild(with_flow)
    without = pipeline.build(read_config(write_small_graph(tmp_path / "without")))
    ours, theirs = read_build_manifest(tmp_path / folder), read_build_manifest(without.folder)
    assert ours.stages == theirs.stages
    assert ours.digest == theirs.digest

    again = rebuild(with_flow)
    assert again == folder

    with get_client(sync_client=True) as client:
        artifacts = client._client.post("/artifacts/filter", json={}).json()
    assert {artifact["key"] for artifact in artifacts} == {"dumps", "stages"}
    assert "this line" not in str(artifacts)
    dumps = next(artifact for artifact in artifacts if artifact["key"] == "dumps")
    assert '"rejects": 1' in dumps["data"]


def test_a_broken_dump_fails_the_flow_at_once_without_waiting_for_retries(prefect_server, tmp_path):
    from flows.rebuild import rebuild
    from mmkg.errors import DumpError

    config = write_small_graph(tmp_path)
    (tmp_path / "freebase.nt").unlink()
    with pytest.raises(DumpError, match=r"freebase\.nt"):
        rebuild(config)
