"""robots.txt is asked for once and obeyed; X-Robots-Tag counts where it is about machine learning."""

import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from mmkg.images.robots import PRODUCT, Robots, RobotsFile, find_no_ai, origin_of


class Server:
    """Answers for robots.txt in turn, the last one for ever."""

    def __init__(self, *files: RobotsFile) -> None:
        self.files = list(files)
        self.asked: list[str] = []
        self.delays: dict[str, float] = {}
        self.robots = Robots(attempts=3, slow_down=self.delays.__setitem__)

    def __call__(self, url: str) -> RobotsFile:
        self.asked.append(url)
        return self.files.pop(0) if len(self.files) > 1 else self.files[0]

    def check(self, url: str) -> str:
        return self.robots.check(url, self).status


def test_our_own_group_counts_before_that_of_all():
    server = Server(RobotsFile(text="User-agent: *\nDisallow: /\n\nUser-agent: mmkg\nDisallow: /private/\n"))
    assert server.check("https://a.example/x.png") == "allowed"
    assert server.check("https://a.example/private/x.png") == "robots"
    assert server.asked == ["https://a.example/robots.txt"]


def test_the_group_of_all_counts_where_we_have_none():
    server = Server(
        RobotsFile(
            text="User-agent: Googlebot\nAllow: /\n\nUser-agent: *\nDisallow: /pictures\nAllow: /pictures/free\n"
        )
    )
    assert server.check("http://a.example/pictures/x.png") == "robots"
    assert server.check("http://a.example/pictures/free/x.png") == "allowed"


def test_a_mark_of_byte_order_hides_no_rule():
    assert Server(RobotsFile(text="\ufeffUser-agent: *\nDisallow: /")).check("http://a.example/x.png") == "robots"


def test_names_of_others_cost_no_memory():
    others = [*(f"bot{number}" for number in range(1_900)), *("*" * length for length in range(1, 100))]
    names = "".join(f"User-agent: {name}\n" for name in others)
    rules = "".join(f"Disallow: /{number}\n" for number in range(2_000))
    tracemalloc.start()
    try:
        assert Server(RobotsFile(text=names + rules)).check("http://a.example/7") == "robots"
        assert tracemalloc.get_traced_memory()[1] < 20_000_000  # names times rules would be 4,000,000
    finally:
        tracemalloc.stop()


_LINES = st.one_of(
    st.tuples(
        st.sampled_from(["User-agent: ", "useragent:", "USER AGENT ", "User-agent", "  user-agent : "]),
        st.sampled_from(["*", "mmkg", "MM*kg", "mm", "m", "**", "*bot", "bot", "mmkgbot", "", "mmkg # ours", "other"]),
    ).map("".join),
    st.sampled_from(
        ["Disallow: /", "Disallow: /a", "Allow: /a", "Crawl-delay: 3", "Sitemap: http://a.example/s", "", "# x", "x"]
    ),
)


@given(st.lists(_LINES, max_size=12))
def test_our_rules_are_those_of_the_whole_file(lines):
    text = "\n".join(lines)
    whole, server = Protego.parse(text), Server(RobotsFile(text=text))
    for path in ("/", "/a", "/b"):
        allowed = whole.can_fetch(f"http://a.example{path}", PRODUCT)
        assert server.check(f"http://a.example{path}") == ("allowed" if allowed else "robots")
    assert server.delays.get("http://a.example") == (whole.crawl_delay(PRODUCT) or None)


def test_no_file_allows_everything():
    assert Server(RobotsFile()).check("http://a.example/x.png") == "allowed"


def test_each_origin_has_its_own_file():
    server = Server(RobotsFile(text="User-agent: *\nDisallow: /"), RobotsFile())
    assert server.check("http://a.example/x.png") == "robots"
    assert server.check("https://a.example/x.png") == "allowed"
    assert server.check("http://a.example/y.png") == "robots"
    assert server.asked == ["http://a.example/robots.txt", "https://a.example/robots.txt"]


def test_a_server_that_fails_is_asked_three_times_and_allows_nothing_then():
    server = Server(RobotsFile(failure="http_503"))
    assert [server.check("http://a.example/x") for _ in range(5)] == ["robots_wait"] * 2 + ["robots_unreachable"] * 3
    assert len(server.asked) == 3


def test_a_server_that_could_not_be_asked_yet_has_not_failed():
    waiting = RobotsFile(failure="not now", was_asked=False)
    server = Server(*[waiting] * 5, RobotsFile())
    assert [server.check("http://a.example/x") for _ in range(6)] == ["robots_wait"] * 5 + ["allowed"]


def test_a_crawl_delay_is_told():
    server = Server(RobotsFile(text="User-agent: *\nCrawl-delay: 7\nDisallow:\n"))
    assert server.check("http://a.example/x") == "allowed"
    assert server.delays == {"http://a.example": 7}


def test_of_many_threads_one_asks():
    server = Server(RobotsFile())
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        server.check("http://a.example/x")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(server.asked) == 1


def test_an_origin_has_no_credentials_and_no_path():
    assert origin_of("http://u:p@a.example:8080/x?y#z") == "http://a.example:8080"


@pytest.mark.parametrize(
    ("value", "directive"),
    [
        ("", None),
        ("noindex, nofollow", None),
        ("none", None),
        ("noai", "noai"),
        ("NoIndex, NoImageAI", "noimageai"),
        ("mmkg: noai", "noai"),
        ("otherbot: noai", None),
        ("otherbot: noai, mmkg: noimageai", "noimageai"),
        ("otherbot: noindex, noai", "noai"),
        ("max-snippet:50, noai", "noai"),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST", None),
        ("noaid", None),
    ],
)
def test_what_is_kept_from_machine_learning(value, directive):
    assert find_no_ai(value) == directive
