"""The flow on a real, ephemeral Prefect server: the same build as without Prefect, and what a run shows and tells."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmkg import pipeline
from mmkg.builds import read_build_manifest, served_version, switch_to
from mmkg.builds.lock import hold_graph
from mmkg.config import read_config
from mmkg.errors import BuildError, CheckFailed, DumpError, FetchError
from tests.graph_config import write_pictured_graph, write_small_graph
from tests.store.neo4j_graphs import shared_server

pytestmark = [
    pytest.mark.slow,
    # raised inside prefect and its server, not by us
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def _write_graph_that_tells(folder, name, checks=""):
    """A small graph of that name, whose hook adds what it is told to the file `told`."""
    hook = f'[notify]\ncommand = ["sh", "-c", "cat >> {folder}/told; echo >> {folder}/told"]\nwhen = "always"\n'
    config = write_small_graph(folder, extra=hook + checks)
    config.write_text(config.read_text().replace('name = "small"', f'name = "{name}"'))
    return config


def _read_told(folder):
    return [json.loads(line) for line in (folder / "told").read_text().splitlines()]


def test_the_flow_builds_what_the_command_builds(prefect_server, find_artifacts, tmp_path):
    from flows.rebuild import rebuild

    with_flow = _write_graph_that_tells(tmp_path / "with", "Small_1")
    folder = rebuild(with_flow)
    without = pipeline.build(read_config(write_small_graph(tmp_path / "without")))
    ours, theirs = read_build_manifest(tmp_path / folder), read_build_manifest(without.folder)
    assert ours.stages == theirs.stages
    assert ours.digest == theirs.digest

    again = rebuild(with_flow)
    assert again == folder
    assert [message["outcome"] for message in _read_told(tmp_path / "with")] == ["served", "unchanged"]

    artifacts = {key: value for key, value in find_artifacts().items() if key.endswith("-small-1")}
    assert {key.partition("-")[0] for key in artifacts} == {"dumps", "rejects", "stages", "plots"}
    assert "this line" not in str(artifacts)
    assert json.loads(artifacts["rejects-small-1"]["data"]) == [
        {"dump": "freebase.nt", "rejected because": "syntax", "lines": 1}
    ]
    assert all(row["skipped"] for row in json.loads(artifacts["dumps-small-1"]["data"]))
    assert artifacts["plots-small-1"]["data"].count("](data:image/png;base64,") == 2


def test_the_flow_brings_pictures_and_vectors_as_the_command_does(prefect_server, find_artifacts, tmp_path):
    from flows.rebuild import rebuild

    folder = rebuild(write_pictured_graph(tmp_path / "with"))
    without = pipeline.build(read_config(write_pictured_graph(tmp_path / "without")))
    ours, theirs = read_build_manifest(tmp_path / folder), read_build_manifest(without.folder)
    assert ours.stages == theirs.stages
    assert ours.digest == theirs.digest
    statuses = find_artifacts()["picture-statuses-small"]["data"]
    assert json.loads(statuses) == [{"status": "ok", "candidates": 3}]
    assert find_artifacts()["plots-small"]["data"].count("](data:image/png;base64,") == 2 + 5


def test_a_version_that_does_not_pass_fails_the_run_with_the_table_and_is_served_when_accepted(
    prefect_server, find_artifacts, tmp_path
):
    from flows.rebuild import rebuild

    config = _write_graph_that_tells(tmp_path, "halved", checks="[checks]\nmax_triples_lost = 0.1\n")
    rebuild(config)
    root = tmp_path / "builds" / "halved"
    good = served_version(root)
    dump = tmp_path / "dbpedia.nt"
    dump.write_text("".join(line for line in dump.read_text().splitlines(True) if "capital" not in line))

    with pytest.raises(CheckFailed, match="max_triples_lost"):
        rebuild(config)
    assert served_version(root) == good
    rows = json.loads(find_artifacts()["checks-halved"]["data"])
    assert [(row["name"], row["subject"], row["before"], row["now"], row["passed"]) for row in rows] == [
        ("max_triples_lost", "graph", 3, 1, False)
    ]
    lost = json.loads(find_artifacts()["difference-halved"]["data"])
    assert {"table": "triples", "added": 0, "removed": 2, "kept": 1} in lost
    assert "capital" in find_artifacts()["changes-halved"]["data"]
    assert find_artifacts()["plots-halved"]["data"].count("](data:image/png;base64,") == 3

    accepted = rebuild(config, accept=True)
    assert accepted == str(root / served_version(root)) != str(root / good)
    told = _read_told(tmp_path)
    assert [message["outcome"] for message in told] == ["served", "checks failed", "served"]
    assert "triples" in told[1]["difference"]
    assert "checks.max_triples_lost" in told[1]["problems"][0]
    assert told[2]["problems"] == told[1]["problems"]

    switch_to(root, good, back=True)
    assert rebuild(config) == str(root / good)
    told = _read_told(tmp_path)[-1]
    assert (told["outcome"], told["version"]) == ("unchanged", good)
    assert "rolled back, so it is not served again" in told["text"]


def test_a_server_is_brought_to_the_version_and_its_load_is_shown(
    prefect_server, find_artifacts, monkeypatch, tmp_path
):
    from flows.rebuild import rebuild

    server = shared_server()
    monkeypatch.setenv("NEO4J_PASSWORD", server.password)
    config = _write_graph_that_tells(tmp_path, "live")
    folder = rebuild(config, [f"store.uri={server.uri}"], force=True)  # other tests have left their graphs there
    with server.driver() as driver:
        query = "MATCH ()-[edge]->() WHERE edge.relation_id ENDS WITH '/capital' RETURN count(edge) AS edges"
        (record,) = driver.execute_query(query, database_="neo4j").records
    assert record["edges"] == 2
    assert read_build_manifest(tmp_path / folder).config["store"]["uri"] == server.uri
    load = find_artifacts()["load-live"]
    assert (load["type"], load["data"]) == ("progress", 100)


def test_a_second_run_fails_at_once_and_says_who_holds_the_graph(prefect_server, tmp_path):
    from flows.rebuild import rebuild

    config = write_small_graph(tmp_path)
    with (
        hold_graph(tmp_path / "builds" / "small", holder="flow run teal-ibis"),
        pytest.raises(BuildError, match="flow run teal-ibis"),
    ):
        rebuild(config)


def test_a_broken_dump_fails_the_flow_at_once_without_waiting_for_retries(prefect_server, tmp_path):
    from flows.rebuild import rebuild

    config = _write_graph_that_tells(tmp_path, "broken")
    (tmp_path / "freebase.nt").unlink()
    with pytest.raises(DumpError, match=r"freebase\.nt"):
        rebuild(config)
    (message,) = _read_told(tmp_path)
    assert message["outcome"] == "failed"
    assert "freebase.nt" in message["problems"][0]


def test_a_source_that_fails_lets_the_graph_go_only_when_all_others_have_ended(monkeypatch, tmp_path):
    from flows import rebuild, tasks

    ended = []

    class Future:
        _final_state = None

        def __init__(self, section):
            self.name = section.name

        def wait(self, timeout=None):
            ended.append(self.name)

        def result(self):
            assert sorted(ended) == ["first", "second", "third"]
            raise FetchError(f"{self.name} failed")

    monkeypatch.setattr(tasks.download, "submit", lambda _, section: Future(section))
    sections = [f'[[sources]]\nkind = "ntriples"\nname = "{name}"\nurls = ["http://h/{name}.nt"]\n' for name in
                ("first", "second", "third")]  # fmt: skip
    path = tmp_path / "x.toml"
    path.write_text('[graph]\nname = "x"\n' + "".join(sections))
    with pytest.raises(FetchError, match="first failed"):
        rebuild._fetch(read_config(path))


@pytest.fixture
def dump_host():
    """A host of dumps: the base of its URLs, what it answers next (200 when the list is empty), what was asked for."""
    answers, asked = [], []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = b'<http://a/x> <http://a/r> "1" .\n'
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answers, asked
        server.shutdown()
        thread.join()


def _read_config_of_download(folder, base):
    config = folder / "x.toml"
    config.write_text(
        f'[graph]\nname = "x"\n[[sources]]\nkind = "ntriples"\nurls = ["{base}/x.nt"]\n[fetch]\nattempts = 1\n'
    )
    return read_config(config)


def _run_at_once(task, config):
    """The state of the task of the first source, run in a flow and without waits between tries."""
    from prefect import flow

    states = []

    @flow(persist_result=False)
    def run():
        states.append(task.with_options(retry_delay_seconds=0)(config, config.sources[0], return_state=True))
        return len(states)

    assert run() == 1
    return states[0]


def test_a_host_that_is_away_is_asked_again(prefect_server, dump_host, tmp_path):
    from flows.tasks import download

    base, answers, _ = dump_host
    answers += [503]
    config = _read_config_of_download(tmp_path, base)
    (path,) = _run_at_once(download, config).result()
    assert path.read_text().startswith("<http://a/x>")
    assert not answers


def test_a_dump_that_is_not_there_is_not_asked_for_again(prefect_server, dump_host, tmp_path):
    from flows.tasks import download

    base, answers, asked = dump_host
    answers += [404] * 10
    config = _read_config_of_download(tmp_path, base)
    state = _run_at_once(download, config)
    assert state.is_failed()
    assert "404" in state.message
    assert len(asked) == 1
