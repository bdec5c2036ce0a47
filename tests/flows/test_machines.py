"""The same flow on a real Dask cluster of processes: the same manifest as in one process."""

from collections import Counter

import pytest

from mmkg import pipeline
from mmkg.builds import read_build_manifest
from mmkg.config import read_config
from mmkg.errors import ConfigError
from tests.graph_config import write_small_graph

pytestmark = [
    pytest.mark.slow,
    # raised inside prefect, its server and dask, not by us
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes; daemons, as `dask worker` starts them."""
    pytest.importorskip("prefect_dask", reason="pip install 'mmkg[dask]'")
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None) as two:
        yield two


def test_two_worker_processes_build_what_one_process_builds(prefect_server, cluster, tmp_path):
    from distributed import Client, get_task_stream

    from flows.rebuild import rebuild

    with_dask = write_small_graph(tmp_path / "with")
    with Client(cluster, set_as_default=False) as client, get_task_stream(client) as stream:
        folder = rebuild(with_dask, runner="dask", dask_address=cluster.scheduler_address)
    without = pipeline.build(read_config(write_small_graph(tmp_path / "without")))
    ours, theirs = read_build_manifest(tmp_path / folder), read_build_manifest(without.folder)
    assert ours.stages == theirs.stages
    assert ours.digest == theirs.digest
    tasks = Counter(done["worker"] for done in stream.data)
    assert set(tasks) == {worker.worker_address for worker in cluster.workers.values()}  # both did something
    assert tasks.total() == 3 + 1 + 4  # dumps, graph, and what comes after it


def test_an_address_without_dask_is_refused(prefect_server, tmp_path):
    from flows.rebuild import rebuild

    with pytest.raises(ConfigError, match="Set runner to dask"):
        rebuild(write_small_graph(tmp_path), dask_address="tcp://127.0.0.1:8786")
