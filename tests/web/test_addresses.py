"""What strangers may make us ask: which URLs, which hosts, which numbers."""

import ipaddress

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmkg.web import addresses
from mmkg.web.addresses import MAX_URL_LENGTH, Failure, check_address, check_target, read_redirect, read_target, why_not

BOTH = ("https", "http")

PUBLIC = """
    1.1.1.1  8.8.8.8  9.255.255.255  11.0.0.0  93.184.216.34  100.63.255.255  100.128.0.0  126.255.255.255  128.0.0.1
    169.253.255.255  169.255.0.0  172.15.255.255  172.32.0.0  192.0.1.0  192.167.255.255  192.169.0.0  198.17.255.255
    198.20.0.0  208.80.154.240  223.255.255.255
    2001:200::1  2001:4860:4860::8888  2606:4700:4700::1111  2620:0:861:ed1a::1  2a02:ec80:300:ed1a::1
    64:ff9b::8.8.8.8
"""
PRIVATE = """
    0.0.0.0  0.1.2.3  10.0.0.0  10.255.255.255  100.64.0.0  100.100.100.200  100.127.255.255  127.0.0.1  127.255.255.255
    168.63.129.16  169.254.0.0  169.254.169.254  169.254.255.255  172.16.0.0  172.31.255.255  192.0.0.0  192.0.0.170
    192.0.0.192  192.0.2.1  192.88.99.1  192.168.0.0  192.168.255.255  198.18.0.0  198.19.255.255  198.51.100.7
    203.0.113.7  224.0.0.1  239.255.255.255  240.0.0.1  255.255.255.255
    ::  ::1  ::127.0.0.1  ::ffff:127.0.0.1  ::ffff:8.8.8.8  ::ffff:0:127.0.0.1  64:ff9b::127.0.0.1  64:ff9b::10.0.0.1
    64:ff9b:1::1  64:ff9b:1::8.8.8.8  100::1  2001::1  2001:0:53aa:64c::1  2001:2::1  2001:10::1  2001:20::1
    2001:db8::1  2002::1  2002:7f00:1::1  2002:808:808::1  3fff::1  4000::1  5f00::1  fc00::1  fd00:ec2::254
    fd20:ce::254  fe80::1  fe80::1%eth0  febf::1  fec0::1  ff02::1  ff0e::1
"""


@pytest.mark.parametrize("text", PUBLIC.split())
def test_an_address_of_the_public_internet_may_be_asked(text):
    assert why_not(ipaddress.ip_address(text)) is None


@pytest.mark.parametrize("text", PRIVATE.split())
def test_no_other_address_may_be_asked(text):
    with pytest.raises(Failure) as refused:
        check_address(ipaddress.ip_address(text), allow_loopback=False)
    assert refused.value.status == "private_address"


@pytest.mark.parametrize("text", PRIVATE.split())
def test_the_allowance_for_tests_lets_loopback_through_and_nothing_else(text):
    address = ipaddress.ip_address(text)
    is_loopback = address == ipaddress.ip_address("::1") or (address.version == 4 and address.is_loopback)
    try:
        check_address(address, allow_loopback=True)
    except Failure:
        assert not is_loopback
    else:
        assert is_loopback


def test_what_our_lists_forget_python_may_know(monkeypatch):
    monkeypatch.setattr(addresses, "_REFUSED_V4", [])
    monkeypatch.setattr(addresses, "_REFUSED_V6", [])
    assert why_not(ipaddress.ip_address("10.0.0.1")) == "not global"
    assert why_not(ipaddress.ip_address("2001:db8::1")) == "not global"
    assert why_not(ipaddress.ip_address("fc00::1")) == "never given out"
    assert why_not(ipaddress.ip_address("1.1.1.1")) is None


@given(st.ip_addresses())
def test_whatever_python_knows_to_be_special_is_refused(address):
    if address.is_private or address.is_multicast or address.is_reserved or not address.is_global:
        is_translated = address in ipaddress.ip_network("64:ff9b::/96") if address.version == 6 else False
        assert is_translated or why_not(address) is not None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_another_dress_is_never_more_than_itself(four):
    as_bytes, plain = int(four), why_not(four)
    assert why_not(ipaddress.IPv6Address(0xFFFF << 32 | as_bytes)) is not None  # mapped
    assert why_not(ipaddress.IPv6Address(as_bytes)) is not None  # compatible
    assert why_not(ipaddress.IPv6Address(0x2002 << 112 | as_bytes << 80)) is not None  # 6to4
    assert why_not(ipaddress.IPv6Address(0x2001 << 112 | as_bytes ^ 0xFFFF_FFFF)) is not None  # Teredo
    assert (why_not(ipaddress.IPv6Address(0x64FF9B << 96 | as_bytes)) is None) == (plain is None)  # NAT64


READ = {
    "http://a.example": "http://a.example/",
    "HTTPS://A.Example:443/x?y#z": "https://a.example/x?y",
    "http://a.example.:80/": "http://a.example/",  # the dot at the end is the root's
    "http://a.example:8080": "http://a.example:8080/",
    "http://a.example:/x": "http://a.example/x",
    "http://bücher.example/ü?q=ü": "http://xn--bcher-kva.example/%C3%BC?q=%C3%BC",
    "http://a.example/My Picture.jpg": "http://a.example/My%20Picture.jpg",
    "http://a.example/%C3%BC%20/../b%2Fc": "http://a.example/b%2Fc",
    "http://my_pictures.example/": "http://my_pictures.example/",
    "http://1.1.1.1/": "http://1.1.1.1/",
    "http://[2606:4700::0:1111]:81/": "http://[2606:4700::1111]:81/",
    "http://a.example/@b:c@d": "http://a.example/@b:c@d",
}
REFUSED = {
    # no URL of the web
    "": "bad_url",
    "picture.jpg": "bad_url",
    "//a.example/x": "bad_url",
    "http:a.example": "bad_url",
    "http:/a.example": "bad_url",
    "http:///a.example": "bad_url",
    "http://": "bad_url",
    "http://a..example/": "bad_url",
    "http://.example/": "bad_url",
    "http://-a.example/": "bad_url",
    f"http://{'a' * 64}.example/": "bad_url",
    f"http://{'a.' * 127}example/": "bad_url",
    "http://a.example/" + "x" * MAX_URL_LENGTH: "bad_url",
    "http://a b.example/": "bad_url",
    "http://%6c%6fcalhost/": "bad_url",
    "http://a.example:0/": "bad_url",
    "http://a.example:65536/": "bad_url",
    "http://a.example:8_0/": "bad_url",
    "http://a.example:-1/": "bad_url",
    "http://a.example:\uff18\uff10/": "bad_url",
    "http://a.example:80:80/": "bad_url",
    "http://\ud800.example/": "bad_url",
    # characters that readers of URLs read differently
    " http://a.example/": "bad_url",
    "http://a.example/ ": "bad_url",
    "http://a.example\\@127.0.0.1/": "bad_url",
    "http:\\\\a.example/": "bad_url",
    "http://a.example/\r\nHost: b": "bad_url",
    "http://a.ex\tample/": "bad_url",
    "http://a.example/\x00": "bad_url",
    # numbers that are addresses only to the C library
    "http://2130706433/": "bad_url",
    "http://0x7f000001/": "bad_url",
    "http://0177.0.0.1/": "bad_url",
    "http://127.1/": "bad_url",
    "http://0x7f.1/": "bad_url",
    "http://127.0.0.0x1/": "bad_url",
    "http://127.0.0.1.1/": "bad_url",
    "http://256.0.0.1/": "bad_url",
    "http://\uff11\uff12\uff17.0.0.1/": "bad_url",
    "http://[127.0.0.1]/": "bad_url",
    "http://[::1]x/": "bad_url",
    "http://[fe80::1%25eth0]/": "bad_url",
    "http://[v1.a]/": "bad_url",
    # schemes
    "file:///etc/passwd": "bad_scheme",
    "ftp://a.example/x": "bad_scheme",
    "data:image/png;base64,AAAA": "bad_scheme",
    "gopher://a.example:70/x": "bad_scheme",
    "javascript:alert(1)": "bad_scheme",
    "jar:http://a.example!/": "bad_scheme",
    "ws://a.example/": "bad_scheme",
    # credentials
    "http://me@a.example/": "credentials",
    "http://me:secret@a.example/": "credentials",
    "http://@a.example/": "credentials",
    "http://1.1.1.1:80@127.0.0.1/": "credentials",
    "http://a.example#@127.0.0.1:80@b/": None,
    # hosts and ports that are not of the public internet
    "http://localhost/": "private_address",
    "http://LOCALHOST./": "private_address",
    "http://a.localhost/": "private_address",
    "http://printer.local/": "private_address",
    "http://metadata.google.internal/": "private_address",
    "http://router.home.arpa/": "private_address",
    "http://a.onion/": "private_address",
    "http://127.0.0.1/": "private_address",
    "http://127.0.0.1./": "private_address",
    "http://127\u30020\u30020\u30021/": "private_address",  # ideographic full stops, which IDNA takes for dots
    "http://169.254.169.254/latest/meta-data/": "private_address",
    "http://[::]/": "private_address",
    "http://[::1]/": "private_address",
    "http://[::ffff:127.0.0.1]/": "private_address",
    "http://[::FFFF:7f00:1]/": "private_address",
    "http://[0:0:0:0:0:ffff:10.0.0.1]/": "private_address",
    "http://a.example:22/": "bad_port",
    "http://a.example:25/": "bad_port",
    "http://a.example:1023/": "bad_port",
    "http://a.example:6000/": "bad_port",
    "http://a.example:6667/": "bad_port",
    "http://a.example:1024/": None,
    "http://a.example:443/": None,
    "https://a.example:80/": None,
}


@pytest.mark.parametrize(("url", "read"), READ.items())
def test_a_url_is_read_into_one_spelling(url, read):
    assert read_target(url, BOTH).url == read


@pytest.mark.parametrize(("url", "status"), REFUSED.items())
def test_a_url_is_refused_by_its_look_alone(url, status):
    try:
        check_target(read_target(url, BOTH), allow_loopback=False)
    except Failure as refused:
        assert refused.status == status
    else:
        assert status is None


def test_only_the_schemes_that_are_set_are_asked():
    assert read_target("https://a.example/", ["https"]).port == 443
    with pytest.raises(Failure, match="'http:' is not asked; only https"):
        read_target("http://a.example/", ["https"])
    with pytest.raises(Failure, match="'ftp:' is not asked"):
        read_target("ftp://a.example/", ["https", "ftp"])


@pytest.mark.parametrize(
    ("location", "expected"),
    {
        "/b": "https://a.example/b",
        "b?c": "https://a.example/x/b?c",
        "?c": "https://a.example/x/y?c",
        "//b.example/c": "https://b.example/c",
        "https://b.example:444/ü": "https://b.example:444/%C3%BC",
        "": "https://a.example/x/y",
        "http://a.example/": "downgrade",
        "file:///etc/passwd": "bad_scheme",
        "data:,x": "bad_scheme",
        "//me:secret@b.example/": "credentials",
        "https://2130706433/": "bad_url",
        "https://b.example\\@127.0.0.1/": "bad_url",
        "https://b.example/\t": "bad_url",
        "https://[/": "bad_url",
        "https:///": "https://a.example/",  # no host: the one that sends us
        "/" + "x" * 70_000: "bad_url",
    }.items(),
)
def test_a_redirect_is_read_as_strictly_as_the_first_address(location, expected):
    try:
        assert read_redirect(read_target("https://a.example/x/y", BOTH), location, BOTH).url == expected
    except Failure as refused:
        assert (refused.status, "secret" in refused.detail) == (expected, False)


_URLS = st.one_of(
    st.text(max_size=60),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["http://", "https://", "HTTP:", "//", "http:///"]),
            st.text(alphabet="a1.:[]@%\\/?#xXé。１\u0130\u200d \ud800-_", max_size=30),
            st.text(max_size=20),
        ),
    ),
)


@given(_URLS)
@example("http://[\u2028]/")
@example("http://a.example/\x85")
def test_whatever_is_read_can_be_sent_and_reads_the_same_again(url):
    try:
        target = read_target(url, BOTH)
    except Failure as refused:
        assert refused.detail.isprintable()
        return
    assert read_target(target.url, BOTH) == target
    assert target.host.isascii()
    assert h11.Request(method="GET", target=target.path, headers=[("Host", target.host_header)])


@given(st.text(max_size=40))
@example("http://[")
@example("https://a]/")
def test_any_location_is_read_or_refused(location):
    try:
        target = read_redirect(read_target("https://a.example/x", BOTH), location, BOTH)
    except Failure as refused:
        assert refused.detail.isprintable()
    else:
        assert target.scheme == "https"
