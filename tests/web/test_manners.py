"""Whom we ask, where we let ourselves be sent, and who must not hear our passwords."""

import threading

import pytest

from mmkg.errors import FetchError
from mmkg.web import download
from mmkg.web.manners import read_retry_after, shown_url, user_agent
from tests.servers.http_files import Act, serve_files
from tests.web.fetching import CONTENT, DUMP, OTHER, fetch


def test_redirects_are_followed_and_keep_the_range(server, target):
    server.always["/latest"] = Act(redirect=DUMP)
    server.acts[DUMP] = [Act(drop_after=200_000)]
    fetch(server, target, path="/latest")
    assert target.read_bytes() == CONTENT
    assert "Range" in server.headers_of(DUMP)[1]


def test_redirects_in_a_circle_or_without_end_are_refused(server, target):
    server.always["/a"], server.always["/b"] = Act(redirect="/b"), Act(redirect="/a")
    with pytest.raises(FetchError, match="in a circle"):
        fetch(server, target, path="/a")
    for number in range(20):
        server.always[f"/{number}"] = Act(redirect=f"/{number + 1}")
    with pytest.raises(FetchError, match="more than 10 times"):
        fetch(server, target, path="/0")


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"])
def test_nothing_but_http_is_followed_or_asked(server, target, where):
    server.always["/x"] = Act(redirect=where)
    with pytest.raises(FetchError, match="not an address of http"):
        fetch(server, target, path="/x")
    with pytest.raises(FetchError, match="not an address of http"):
        download(where, target, contact="")


def test_other_machines_are_not_asked_without_a_contact(server, target):
    with pytest.raises(FetchError, match=r"Set `contact` in \[fetch\]"):
        download("https://dumps.example.org/x.nt.gz", target, contact="")
    server.always["/x"] = Act(redirect="http://dumps.example.org/x.nt.gz")
    with pytest.raises(FetchError, match=r"Set `contact` in \[fetch\]"):
        fetch(server, target, path="/x")
    with pytest.raises(FetchError, match="cannot stand in a User-Agent"):
        fetch(server, target, contact="me@example.org\r\nX-Evil: 1")


def test_the_user_agent_says_who_asks(server, target):
    fetch(server, target, contact="me@example.org")
    assert server.asked[0].headers["User-Agent"] == user_agent("me@example.org")
    assert user_agent("me@example.org").startswith("mmkg/")
    assert user_agent("me@example.org").endswith("(+me@example.org)")


def test_a_password_goes_to_its_host_and_into_no_message_and_no_file(server, target):
    url = server.url(DUMP).replace("http://", "http://me:secret@")
    done = download(url, target, contact="", pause=lambda seconds: None)
    assert server.asked[0].headers["Authorization"].startswith("Basic ")
    assert "secret" not in repr(done)
    assert all("secret" not in path.read_text(errors="replace") for path in target.parent.iterdir())
    server.always[DUMP] = Act(status=403)
    with pytest.raises(FetchError) as caught:
        download(url, target.with_name("b"), contact="")
    assert "secret" not in str(caught.value)
    with serve_files({DUMP: CONTENT}) as other:
        server.always[DUMP] = Act(redirect=other.url(DUMP))
        download(url, target.with_name("c"), contact="")
        assert "Authorization" not in other.asked[0].headers


def test_retry_after_is_seconds_or_a_date():
    assert read_retry_after("12") == 12
    assert read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert read_retry_after("tomorrow") is read_retry_after(None) is None


def test_a_url_is_shown_without_password_and_fragment():
    assert shown_url("https://me:pw@h.example/a?b=1#c") == "https://h.example/a?b=1"


def test_one_host_has_one_connection_at_a_time(server, tmp_path):
    server.chunk_seconds = 0.002
    server.files["/b"] = OTHER
    jobs = [threading.Thread(target=fetch, args=(server, tmp_path / path[1:], path)) for path in ("/b", "/b?2")]
    server.files["/b?2"] = OTHER
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert server.most_open == 1
