"""Answers that are not what was asked for are noticed; against a real server that lies in every way."""

import contextlib
import hashlib
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkg.errors import FetchError
from tests.servers.http_files import Act, serve_files
from tests.web.fetching import CONTENT, DUMP, OTHER, begin, fetch, sha256


def test_a_file_that_changed_between_two_halves_is_begun_again(server, target):
    begin(server, target)
    server.files[DUMP] = OTHER
    assert fetch(server, target).outcome == "fetched"
    assert target.read_bytes() == OTHER
    assert server.statuses(DUMP)[0] == 200  # by If-Range


def test_a_host_that_gives_other_bytes_under_the_same_validator_is_noticed(server, target, caplog):
    begin(server, target)
    server.files[DUMP] = OTHER
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
    server.acts[DUMP] = [Act(ignore_if_range=True, headers={"ETag": etag})]
    fetch(server, target)
    assert target.read_bytes() == OTHER
    assert "gives other bytes before byte 200,000" in caplog.text


def test_a_range_that_says_another_validator_is_another_file(server, target, caplog):
    begin(server, target)
    server.files[DUMP] = OTHER
    server.acts[DUMP] = [Act(ignore_if_range=True)]
    fetch(server, target)
    assert target.read_bytes() == OTHER
    assert "has changed the file" in caplog.text


@pytest.mark.parametrize(
    "act",
    [
        Act(shift_range=5),
        Act(shift_range=-5),
        Act(headers={"Content-Range": None}),
        Act(headers={"Content-Range": "bytes 9-3/7"}),
        Act(headers={"Content-Range": "bytes 134464-299999/400000"}),
        Act(length_more=-1000),
        Act(ignore_range=True),
        Act(content=CONTENT[:150_000], ignore_if_range=True),
        Act(content=CONTENT[:100], ignore_if_range=True),
    ],
    ids=["later", "earlier", "no range", "odd", "other total", "shorter", "200", "206 of a shorter file", "416"],
)
def test_a_wrong_answer_to_a_range_ends_with_equal_bytes_all_the_same(server, target, act):
    begin(server, target)
    server.acts[DUMP] = [act]
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_gives_only_so_much_at_a_time_is_asked_until_the_end(server, target):
    server.files[DUMP] = CONTENT + OTHER + CONTENT
    begin(server, target)
    server.always[DUMP] = Act(max_range_bytes=200_000)
    assert fetch(server, target, attempts=2).size == 900_000
    assert target.read_bytes() == server.files[DUMP]


@pytest.mark.parametrize(("etags", "is_dated"), [("weak", False), ("none", False)])
def test_without_a_strong_validator_a_partial_file_is_begun_again(server, target, etags, is_dated):
    server.etags, server.is_dated = etags, is_dated
    begin(server, target)
    assert fetch(server, target).received == 300_000
    assert [asked.headers.get("Range") for asked in server.asked if asked.status == 200] == [None]


def test_a_date_is_strong_only_when_it_is_old(server, target):
    server.etags = "none"
    begin(server, target)
    assert fetch(server, target).outcome == "resumed"
    assert "GMT" in server.asked[0].headers["If-Range"]
    other = target.with_name("other.nt.gz")
    server.modified[DUMP] = time.time()
    begin(server, other)
    assert fetch(server, other).outcome == "fetched"


def test_with_a_checksum_a_partial_file_is_gone_on_with_even_without_validators(server, target):
    server.etags, server.is_dated = "none", False
    begin(server, target)
    assert fetch(server, target, checksum=sha256(CONTENT)).outcome == "resumed"


def test_halves_of_two_files_are_told_by_the_checksum(server, target):
    server.etags, server.is_dated = "none", False
    begin(server, target)  # of CONTENT; then the file changes before the part that is compared
    server.files[DUMP] = OTHER[:1000] + CONTENT[1000:]
    fetch(server, target, checksum=sha256(server.files[DUMP]))
    assert target.read_bytes() == server.files[DUMP]


def test_a_wrong_checksum_names_both_and_leaves_nothing(server, target):
    with pytest.raises(FetchError) as caught:
        fetch(server, target, checksum=sha256(OTHER))
    assert str(sha256(OTHER)) in str(caught.value)
    assert str(sha256(CONTENT)) in str(caught.value)
    assert list(target.parent.iterdir()) == []


def test_a_length_that_is_too_low_is_noticed(server, target):
    server.acts[DUMP] = [Act(length_more=-1000)]
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    server.always[DUMP] = Act(length_more=-1000)
    with pytest.raises(FetchError, match="more than the 299,000 bytes that it said"):
        fetch(server, target.with_name("again.nt.gz"))


def test_a_body_without_length_that_broke_is_noticed(server, target):
    server.acts[DUMP] = [Act(no_length=True, drop_after=250_000)]
    fetch(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("act", [Act(chunked=True), Act(no_length=True)], ids=["chunked", "until closed"])
def test_a_body_without_length_arrives_whole(server, target, act):
    server.always[DUMP] = act
    fetch(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("drop_after", [250_000, None], ids=["broken", "whole"])
@pytest.mark.parametrize("accept_ranges", ["bytes", None])
def test_a_body_that_ends_with_the_connection_is_refused_where_nothing_proves_that_it_is_whole(
    server, target, drop_after, accept_ranges
):
    server.always[DUMP] = Act(
        no_length=True, ignore_range=True, drop_after=drop_after, headers={"Accept-Ranges": accept_ranges}
    )
    with pytest.raises(
        FetchError, match=r"tells nowhere how long the file is.*Set `sha256` for the dump's URL"
    ) as caught:
        fetch(server, target)
    assert "of it are here" not in str(caught.value)
    assert list(target.parent.iterdir()) == []
    if drop_after is None:
        assert fetch(server, target, checksum=sha256(CONTENT)).outcome == "fetched"
    else:
        with pytest.raises(FetchError, match="gives something else: expected sha256"):
            fetch(server, target, checksum=sha256(CONTENT))


def test_a_416_of_another_length_does_not_prove_the_end(server, target):
    refusal = Act(status=416, headers={"Content-Range": "bytes */400000"})
    server.acts[DUMP] = [Act(no_length=True, headers={"Accept-Ranges": None}), refusal]
    with pytest.raises(FetchError, match="tells nowhere how long the file is"):
        fetch(server, target)


def test_bytes_are_asked_for_as_they_are_and_coded_ones_refused(server, target):
    server.always[DUMP] = Act(headers={"Content-Encoding": "br"})
    with pytest.raises(FetchError, match="coded as br"):
        fetch(server, target)
    assert server.asked[0].headers["Accept-Encoding"] == "identity"


def test_a_packed_file_that_is_labelled_as_packed_is_taken_as_it_is(server, target):
    server.always[DUMP] = Act(headers={"Content-Encoding": "x-gzip"})
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    with pytest.raises(FetchError, match="coded as x-gzip"):
        fetch(server, target.with_name("facts.nt"))


@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html><html><title>Log in to go on</title>" + b" " * 2000,
        b"\n  <HTML>moved</HTML>",
        b'<?xml version="1.0"?>\n<!-- x -->\n<html xmlns="http://www.w3.org/1999/xhtml">',
    ],
)
@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
def test_a_page_for_people_is_not_a_dump(server, target, page, kind):
    server.always[DUMP] = Act(content=page, headers={"Content-Type": kind})
    with pytest.raises(FetchError, match="gives a web page instead of the file"):
        fetch(server, target)
    assert list(target.parent.iterdir()) == []


def test_a_dump_that_is_labelled_as_a_page_is_a_dump(server, target):
    triples = b"<http://a/s> <http://a/p> <http://a/o> .\n" * 100
    server.always[DUMP] = Act(content=triples, headers={"Content-Type": "text/html"})
    fetch(server, target)
    assert target.read_bytes() == triples


def test_an_empty_file_is_refused_unless_that_is_what_it_must_be(server, target):
    server.files[DUMP] = b""
    with pytest.raises(FetchError, match="empty file"):
        fetch(server, target)
    assert fetch(server, target, checksum=sha256(b"")).size == 0


_HEADERS = (
    "ETag",
    "Last-Modified",
    "Date",
    "Content-Range",
    "Content-Encoding",
    "Retry-After",
    "Location",
    "Accept-Ranges",
)
_VALUES = st.one_of(
    st.none(),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40),
    st.sampled_from(
        ["bytes 0-9/10", "bytes 134464-299999/*", "Thu, 01 Jan 99999 00:00:00 GMT", "9" * 5000, "-1", '"a"']
    ),
    st.sampled_from(["bytes 134464-299999/300000", 'W/"a"', "none", "Thu, 01 Jan 1970 00:00:00 -0000", "x-gzip"]),
)


@settings(max_examples=30)
@given(
    acts=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(_HEADERS), _VALUES, max_size=4),
            st.sampled_from([None, None, None, 200, 206, 302, 304, 416, 429]),
            st.sampled_from([None, 0, 100, 150_000]),
            st.integers(-2, 2),
        ),
        max_size=5,
    )
)
def test_whatever_headers_say_it_ends_with_the_file_or_a_message_and_never_with_something_else(acts):
    with serve_files({DUMP: CONTENT}) as server, tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "x.nt.gz"
        server.acts[DUMP] = [Act(drop_after=200_000)] + [
            Act(headers=headers, status=status, drop_after=drop, length_more=more)
            for headers, status, drop, more in acts
        ]
        with contextlib.suppress(FetchError):
            fetch(server, target, attempts=2, timeout_seconds=1.0, checksum=sha256(CONTENT))
        assert not target.exists() or target.read_bytes() == CONTENT
        server.acts.clear()
        assert fetch(server, target).sha256 == sha256(CONTENT).hex
        assert target.read_bytes() == CONTENT
