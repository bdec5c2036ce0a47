"""Where the tasks of a rebuild run: threads of this process, processes of this machine, or the machines of a cluster.

Only small things travel: the config, paths, and the manifests of stages. Tables stay where they are written, so every
machine must see the graph's folder and the dumps under the same paths, on a file system that shares locks.

Prefect fixes the runner of a flow when the file is read, before the parameters of a run are known. A deployment says
where it runs by parameters, so the flow opens the runner itself.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Literal

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from mmkg.errors import ConfigError, require

Runner = Literal["threads", "dask"]

_THREADS = 2  # stages use all cores themselves; two at a time fill the gaps
_DASK_WORKERS = 2


@contextlib.contextmanager
def open_machines(runner: Runner, dask_address: str, dask_workers: int) -> Iterator[TaskRunner[Any]]:
    """Start, or find, what tasks are submitted to.

    Args:
        runner: threads of this process, or a Dask cluster.
        dask_address: of the cluster's scheduler, such as ``tcp://HOST:8786``; empty: worker processes of this machine
            that end with the flow.
        dask_workers: how many of those; 0 is two.

    Raises:
        ConfigError: the address does not answer, or is given for threads.
        NotInstalled: prefect-dask is missing.
    """
    if runner == "threads":
        if dask_address:
            raise ConfigError(f"dask_address is {dask_address}, but runner is threads. Set runner to dask.")
        threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=_THREADS)
        with threads:
            yield threads
        return
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(_open_dask(dask_address, dask_workers or _DASK_WORKERS))


@contextlib.contextmanager
def _open_dask(address: str, workers: int) -> Iterator[TaskRunner[Any]]:
    prefect_dask = require("prefect_dask", extra="dask", needed_by="the runner dask")
    import cloudpickle  # type: ignore[import-untyped]
    import dask.config

    from flows import tasks

    # by value: the workers need mmkg and prefect-dask, but not the folder of flows
    cloudpickle.register_pickle_by_value(sys.modules[tasks.__name__])
    try:
        if address:
            runner = prefect_dask.DaskTaskRunner(address=address)
        else:
            options = {
                "n_workers": workers,
                "threads_per_worker": 1,
                "processes": True,
                "memory_limit": 0,  # graph.memory_limit holds the engine; Dask's share would kill a worker above it
                "dashboard_address": None,
            }
            runner = prefect_dask.DaskTaskRunner(cluster_kwargs=options)
        with dask.config.set({"distributed.worker.daemon": False}), runner:
            try:
                _ = runner.client
            except OSError as error:
                raise ConfigError(
                    f"dask_address: no scheduler answers at '{address}': {error}. Start one with `dask scheduler`, and "
                    "workers with `dask worker ADDRESS`."
                ) from error
            yield runner
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[tasks.__name__])
