"""Schedules in real processes: what is served runs, is killed, says so, runs again; and `prefect deploy` does."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mmkg import pipeline
from mmkg.builds import read_build_manifest, served_version
from mmkg.builds.lock import who_holds
from mmkg.config import read_config
from mmkg.errors import ConfigError
from tests.flows.conftest import ROOT
from tests.graph_config import write_small_graph

pytestmark = [
    pytest.mark.slow,
    # raised inside prefect and its server, not by us
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
_PATIENCE_SECONDS = 150


def _wait_for(look, process):
    """What `look` sees, as soon as it sees something; fails when the process ends before."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        if found := look():
            return found
        assert process.poll() is None, "the process has ended"
        time.sleep(0.02)
    raise AssertionError(f"nothing within {_PATIENCE_SECONDS} s")


def _find_deployment(name):
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        return client.read_deployment_by_name(name)
    return None


def _start(deployment):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(deployment.id)


def _read_run(run):
    """Prefect's last word on a run, or None while it goes on."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run.id)
    return found if found.state.is_final() else None


@pytest.fixture
def serve(environment, tmp_path):
    """Start `python flows/rebuild.py` with arguments; stopped at the end."""
    started = []

    def start(*arguments):
        command = [sys.executable, str(ROOT / "flows" / "rebuild.py"), *map(str, arguments)]
        log = (tmp_path / "served.log").open("w")
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
        started.append((process, log))
        return process

    yield start
    for process, log in started:
        process.terminate()
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
            log.close()


def test_a_served_graph_is_killed_says_so_and_ends_the_same_when_it_runs_again(serve, find_artifacts, tmp_path):
    hook = '[notify]\ncommand = ["sh", "-c", "cat >> ../told; echo >> ../told"]\nwhen = "always"\n'
    hook = hook.replace("..", str(tmp_path))
    config = write_small_graph(tmp_path / "small", extra=hook)
    other = write_small_graph(tmp_path / "other")
    other.write_text(other.read_text().replace('name = "small"', 'name = "other"'))
    process = serve(config, other, "--cron", "0 3 * * *", "--set", "graph.workers=1")
    deployments = [
        _wait_for(lambda name=name: _find_deployment(f"rebuild/rebuild-{name}"), process) for name in ("small", "other")
    ]
    assert [d.schedules[0].schedule.cron for d in deployments] == ["0 3 * * *"] * 2
    assert [d.global_concurrency_limit.limit for d in deployments] == [1, 1]
    assert deployments[0].parameters["settings"] == ["graph.workers=1"]

    killed = _start(deployments[0])
    root = tmp_path / "small" / "builds" / "small"
    holder = _wait_for(lambda: root.exists() and (root / "stages" / "read").exists() and who_holds(root), process)
    os.kill(holder.process, signal.SIGKILL)
    assert holder.name == f"flow run {killed.name}"
    assert _wait_for(lambda: _read_run(killed), process).state.is_crashed()
    assert served_version(root) is None
    _wait_for((tmp_path / "told").exists, process)

    again = _start(deployments[0])
    ended = _wait_for(lambda: _read_run(again), process)
    assert ended.state.is_completed(), ended.state.message
    without = pipeline.build(read_config(write_small_graph(tmp_path / "without")))
    ours, theirs = read_build_manifest(root / served_version(root)), read_build_manifest(without.folder)
    assert (ours.stages, ours.digest) == (theirs.stages, theirs.digest)
    shown = find_artifacts(artifacts={"flow_run_id": {"any_": [str(again.id)]}})
    assert set(shown) == {"dumps-small", "rejects-small", "stages-small", "plots-small"}
    told = _wait_for(lambda: len(lines := (tmp_path / "told").read_text().splitlines()) == 2 and lines, process)
    crashed, served = map(json.loads, told)
    assert crashed["outcome"] == "failed"
    assert crashed["problems"][0].startswith("Crashed")
    assert (served["outcome"], served["version"]) == ("served", ours.version)


def test_two_configs_of_one_graph_are_not_served_together(tmp_path):
    from flows.rebuild import deploy

    configs = [write_small_graph(tmp_path / name) for name in "ab"]
    with pytest.raises(ConfigError, match="also called small"):
        deploy(configs, [], "0 3 * * *", {})


@pytest.mark.parametrize("once", ["--accept", "--force"])
def test_what_is_for_one_run_is_not_served_every_night(monkeypatch, capsys, tmp_path, once):
    from flows import rebuild

    command = ["rebuild.py", str(write_small_graph(tmp_path)), "--cron", "0 3 * * *", once]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(rebuild, "serve", lambda *served, **_: pytest.fail(f"served {served[0].parameters}"))
    with pytest.raises(SystemExit) as ended:
        rebuild.main()
    assert ended.value.code == 2
    assert "--accept and --force are for one run" in (told := capsys.readouterr().err)
    assert "--param accept=true" in told


def test_no_deployment_of_our_file_lets_through_what_does_not_pass():
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        assert not deployment["parameters"].get("accept")
        assert not deployment["parameters"].get("force")


def test_prefect_deploy_makes_the_deployment_of_our_file(environment):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        client._client.post("/work_pools/", json=WorkPoolCreate(name="mmkg", type="process").model_dump(mode="json"))
    prefect = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(prefect, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    deployment = _find_deployment("rebuild/rebuild-atlas")
    (schedule,) = deployment.schedules
    assert (schedule.schedule.cron, schedule.active) == ("0 3 * * *", True)
    assert deployment.entrypoint == "flows/rebuild.py:rebuild"
    assert (deployment.work_pool_name, deployment.global_concurrency_limit.limit) == ("mmkg", 1)
    known = deployment.parameter_openapi_schema["properties"]
    assert set(deployment.parameters) <= set(known)
    assert read_config(ROOT / deployment.parameters["config_path"]).graph.name == "atlas"


def test_every_deployment_of_our_file_is_named_after_its_graph():
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        graph = read_config(ROOT / deployment["parameters"]["config_path"]).graph.name
        assert deployment["name"] == f"rebuild-{graph}"
