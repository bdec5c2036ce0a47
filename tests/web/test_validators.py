"""What servers say about a file is read in every common form, and what is no proof is not taken for one."""

import pytest

from mmkg.errors import FetchError
from mmkg.web import Checksum, parse_checksum_file
from mmkg.web.validators import Origin, is_older


@pytest.mark.parametrize(
    "text",
    [
        f"{'a' * 64}  facts.nt.gz\n{'b' * 64}  other.nt.gz\n",
        f"{'A' * 64} *./2024/facts.nt.gz\n",
        f"SHA256 (facts.nt.gz) = {'a' * 64}\n",
        f"SHA2-256(facts.nt.gz)= {'a' * 64}\nMD5(facts.nt.gz)= {'c' * 32}\n",
        f"# a comment\n{'a' * 64}\n",
    ],
)
def test_files_of_checksums_are_read_in_every_common_form(text):
    assert parse_checksum_file(text, "facts.nt.gz", "here") == Checksum("sha256", "a" * 64)


def test_a_file_of_checksums_must_name_the_file_once():
    with pytest.raises(FetchError, match=r"SUMS: expected a checksum of 'facts.nt.gz'"):
        parse_checksum_file(f"{'a' * 64}  other.nt.gz\n", "facts.nt.gz", "SUMS")
    with pytest.raises(FetchError, match="two different checksums"):
        parse_checksum_file(f"{'a' * 64}  x\n{'b' * 64}  x\n", "x", "SUMS")


@pytest.mark.parametrize(
    ("etag", "is_dated", "proof"),
    [
        ('"a"', False, '"a"'),
        ('W/"a"', True, None),  # weak: the bytes may differ; and If-Range must not hold the date then
        (None, True, "Wed, 21 Oct 2015 07:28:00 GMT"),
        (None, False, None),
    ],
)
def test_only_a_strong_validator_proves_that_two_halves_are_of_one_file(etag, is_dated, proof):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    origin = Origin(url="http://h/x", etag=etag, last_modified=date, total=10, is_dated=is_dated)
    assert origin.if_range == proof


def test_dates_of_headers_are_compared_only_when_both_are_dates():
    early, late = "Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 22 Oct 2015 07:28:00 GMT"
    assert is_older(early, late)
    assert not is_older(late, early)
    assert not is_older(early, early)
    assert not is_older(None, late)
    assert not is_older("yesterday", late)
