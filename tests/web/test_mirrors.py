"""A mirror helps out when the own host is away, and is caught when it gives something else."""

import pytest

from mmkg.web import Unreachable
from tests.servers.http_files import LONG_AGO, Act, serve_files
from tests.web.fetching import CONTENT, DUMP, OTHER, begin, fetch, sha256


def test_a_mirror_gives_the_file_when_its_own_host_does_not(server, mirror, target):
    server.always[DUMP] = Act(status=503)
    done = fetch(server, target, mirrors=[mirror.url("/none/facts.nt.gz"), mirror.url(DUMP)])
    assert (done.outcome, done.final_url) == ("mirror", mirror.url(DUMP))
    assert target.read_bytes() == CONTENT


def test_a_mirror_goes_on_where_the_host_broke_off(server, mirror, target):
    begin(server, target)
    server.always[DUMP] = Act(status=503)
    done = fetch(server, target, mirrors=[mirror.url(DUMP)])
    assert (done.outcome, done.received) == ("mirror", 100_000 + 65_536)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("other", [OTHER, OTHER[:299_999]], ids=["other bytes", "other length"])
def test_a_mirror_that_gives_something_else_is_noticed_and_not_used(server, mirror, target, other):
    begin(server, target)
    server.always[DUMP] = Act(status=503)
    mirror.files[DUMP] = other
    with pytest.raises(Unreachable, match=r"gives (something else|other bytes)"):
        fetch(server, target, mirrors=[mirror.url(DUMP)])
    server.always.clear()
    assert fetch(server, target, mirrors=[mirror.url(DUMP)]).outcome == "resumed"  # what was here is still here
    assert target.read_bytes() == CONTENT


def test_a_mirror_of_the_same_length_and_another_date_is_not_mixed_with_the_host(server, mirror, target):
    begin(server, target)
    server.always[DUMP] = Act(status=503)
    mirror.files[DUMP] = OTHER[:1000] + CONTENT[1000:]
    mirror.modified[DUMP] = LONG_AGO + 3600
    fetch(server, target, mirrors=[mirror.url(DUMP)])
    assert target.read_bytes() == mirror.files[DUMP]


def test_a_mirror_that_fails_the_checksum_is_passed_over(server, mirror, target):
    server.always[DUMP] = Act(status=404)
    mirror.files[DUMP] = OTHER
    with serve_files({DUMP: CONTENT}) as good:
        done = fetch(server, target, mirrors=[mirror.url(DUMP), good.url(DUMP)], checksum=sha256(CONTENT))
        assert done.final_url == good.url(DUMP)
    assert target.read_bytes() == CONTENT


def test_a_mirror_that_has_the_same_file_leaves_the_copy_of_the_host_and_the_other_way_round(server, mirror, target):
    fetch(server, target)
    server.always[DUMP] = Act(status=503)
    done = fetch(server, target, mirrors=[mirror.url(DUMP)])
    assert (done.outcome, done.received, done.final_url) == ("unchanged", 0, server.url(DUMP))
    target.unlink()
    assert fetch(server, target, mirrors=[mirror.url(DUMP)]).outcome == "mirror"
    server.always.clear()
    server.etags = "none"
    done = fetch(server, target, mirrors=[mirror.url(DUMP)])
    assert (done.outcome, done.received, done.final_url) == ("unchanged", 0, mirror.url(DUMP))


@pytest.mark.parametrize("etags", ["strong", "none"])
def test_the_date_of_a_mirror_does_not_keep_away_what_the_own_host_has_changed(server, mirror, target, etags):
    server.etags = mirror.etags = etags
    server.always[DUMP] = Act(status=503)
    mirror.modified[DUMP] = LONG_AGO + 86_400  # when it was mirrored
    assert fetch(server, target, mirrors=[mirror.url(DUMP)]).outcome == "mirror"
    server.always.clear()
    server.files[DUMP] = OTHER
    server.modified[DUMP] = LONG_AGO + 3600  # before that, and yet it is another file
    assert fetch(server, target, mirrors=[mirror.url(DUMP)]).outcome == "fetched"
    assert target.read_bytes() == OTHER


def test_a_mirror_that_is_behind_does_not_replace_the_copy(server, mirror, target):
    server.modified[DUMP] = LONG_AGO + 86_400
    fetch(server, target)
    server.always[DUMP] = Act(status=503)
    mirror.files[DUMP] = OTHER
    with pytest.raises(Unreachable, match="is behind"):
        fetch(server, target, mirrors=[mirror.url(DUMP)])
    assert target.read_bytes() == CONTENT
