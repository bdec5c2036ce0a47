"""No host is asked more often, by more connections, or earlier than it wants; and none waits for another."""

import itertools
import math
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkg.images.politeness import FAILURES_IN_A_ROW, FIRST_BACK_OFF_SECONDS, Closed, Lease, Politeness, host_of
from mmkg.images.queues import HostQueues


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def polite(clock=None, **settings):
    defaults = {"requests_per_second": 2, "burst": 4, "connections_per_host": 100, "max_wait_seconds": 120}
    return Politeness(**(defaults | settings), clock=clock or time.monotonic)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.example/x", "a.example:80"),
        ("https://A.Example/x", "a.example:443"),
        ("https://u:p@a.example:8443/x", "a.example:8443"),
        ("http://[2001:db8::1]/", "[2001:db8::1]:80"),
        ("folder:flags/pe.png", ""),
        ("http://a.example:99999/", ""),
        ("http://[broken/", ""),
    ],
)
def test_a_host_is_its_name_and_port(url, host):
    assert host_of(url) == host


def test_a_bucket_holds_its_burst_and_fills_with_time():
    clock = Clock()
    politeness = polite(clock)
    assert [politeness.try_start("h") for _ in range(5)] == [0, 0, 0, 0, pytest.approx(0.5)]
    clock.now += 0.5
    assert politeness.try_start("h") == 0
    assert politeness.try_start("h") == pytest.approx(0.5)
    assert politeness.try_start("other") == 0
    clock.now += 100
    assert [politeness.try_start("h") for _ in range(5)] == [0, 0, 0, 0, pytest.approx(0.5)]


@given(
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 6),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
def test_in_no_window_of_time_do_more_requests_start_than_burst_and_rate_allow(rate, burst, gaps):
    clock = Clock()
    politeness = polite(clock, requests_per_second=rate, burst=burst)
    started = []
    for gap in gaps:
        clock.now += gap
        while politeness.try_start("h") == 0:
            started.append(clock.now)
    for first, last in itertools.combinations_with_replacement(range(len(started)), 2):
        assert last - first + 1 <= burst + (started[last] - started[first]) * rate + 1e-6


def test_a_request_waits_for_another_one_to_end_when_all_connections_of_its_host_are_taken():
    politeness = polite(Clock(), connections_per_host=2)
    assert [politeness.try_start("h") for _ in range(3)] == [0, 0, math.inf]
    politeness.finish("h")
    assert politeness.try_start("h") == 0


def test_a_request_that_never_went_out_gives_its_token_back():
    politeness = polite(Clock(), burst=1)
    politeness.try_start("h")
    politeness.finish("h", asked=False)
    assert politeness.try_start("h") == 0
    politeness.finish("h")
    assert politeness.try_start("h") > 0


def test_a_host_is_left_alone_as_a_whole_until_the_end_of_its_retry_after():
    clock = Clock()
    politeness = polite(clock)
    politeness.hold("h", 60)
    assert 60 <= politeness.try_start("h") <= 60 + FIRST_BACK_OFF_SECONDS
    politeness.hold("h", 5)  # a second answer does not make it shorter
    clock.now += 59.9
    assert politeness.try_start("h") > 0
    clock.now += 0.1 + FIRST_BACK_OFF_SECONDS
    assert politeness.try_start("h") == 0
    assert politeness.closed("h") is None


def test_a_host_that_wants_a_longer_wait_than_allowed_is_closed():
    politeness = polite(Clock(), max_wait_seconds=120)
    politeness.hold("h", 121.5)
    assert politeness.closed("h").status == "host_waits"
    assert "max_wait_seconds = 120" in politeness.closed("h").detail
    assert politeness.closed("other") is None


def test_a_host_that_puts_off_again_and_again_is_closed_unless_it_answers_in_between():
    clock = Clock()
    politeness = polite(clock, max_wait_seconds=100)
    for _ in range(4):  # 40 s each
        politeness.hold("patient", 40)
        politeness.hold("putting off", 40)
        clock.now += 42
        politeness.answered("patient")
    assert politeness.closed("patient") is None
    assert politeness.closed("putting off").status == "host_waits"


def test_without_retry_after_the_wait_doubles_and_answers_that_were_under_way_do_not_count():
    clock = Clock()
    politeness = polite(clock)
    waits = []
    for _ in range(3):
        politeness.hold("h", None)
        politeness.hold("h", None)
        waits.append(politeness.try_start("h"))
        clock.now += waits[-1]
    assert [0.5 <= waits[0] <= 1, 1 <= waits[1] <= 2, 2 <= waits[2] <= 4] == [True] * 3


def test_a_host_that_does_not_answer_several_times_in_a_row_is_closed():
    politeness = polite()
    for _ in range(FAILURES_IN_A_ROW - 1):
        politeness.failed("h", "timeout")
    politeness.answered("h")
    for _ in range(FAILURES_IN_A_ROW - 1):
        politeness.failed("h", "timeout")
    assert politeness.closed("h") is None
    politeness.failed("h", "timeout")
    assert politeness.closed("h").status == "host_down"


def test_a_crawl_delay_slows_a_host_and_never_makes_it_faster():
    clock = Clock()
    politeness = polite(clock)
    politeness.slow_down("h", 0.1)
    assert [politeness.try_start("h") for _ in range(4)] == [0] * 4
    politeness.slow_down("h", 10)
    assert politeness.try_start("h") == pytest.approx(10)
    clock.now += 100
    assert politeness.try_start("h") == 0
    assert politeness.try_start("h") == pytest.approx(10)
    politeness.slow_down("h", 3_600)
    assert politeness.closed("h").status == "host_waits"


def test_a_lease_has_one_host_at_a_time():
    politeness = polite(connections_per_host=1)
    assert politeness.try_start("a") == 0
    lease = Lease(politeness, "a")
    assert lease.enter("a", 0.1) == 0
    assert politeness.try_start("a") == math.inf
    assert lease.enter("b", 0.1) == 0
    assert politeness.try_start("a") == 0  # is free again
    assert politeness.try_start("b") == math.inf
    lease.close()
    lease.close()
    assert politeness.try_start("b") == 0


def test_a_lease_that_was_given_before_a_host_said_wait_sends_nothing():
    politeness = polite()
    assert politeness.try_start("a") == 0
    lease = Lease(politeness, "a")
    politeness.hold("a", 30)
    assert lease.enter("a", 0.01) > 29
    assert lease.host == ""


def test_a_lease_waits_for_its_turn_within_its_patience():
    politeness = polite(requests_per_second=10, burst=1)
    lease = Lease(politeness, "")
    began = time.monotonic()
    assert lease.enter("a", 1) == 0
    assert lease.enter("a", 1) == 0
    assert time.monotonic() - began >= 0.1 - 0.01
    assert lease.enter("a", 0.0) > 0


def take_all(queues, *, end=True):
    taken = []
    while (one := queues.take()) is not None:
        taken.append(one.item)
        one.lease.close()
        if end:
            queues.done()
    return taken


def test_a_host_that_waits_does_not_hold_up_the_others():
    politeness = polite(requests_per_second=1_000)
    queues = HostQueues(politeness)
    for item in range(10):
        queues.add("slow", item)
        queues.add("fast", 100 + item)
    politeness.hold("slow", 0.1)
    taken = take_all(queues)
    assert taken[:10] == list(range(100, 110))
    assert taken[10:] == list(range(10))


def test_what_is_put_back_comes_again_after_its_wait_and_the_end_waits_for_it():
    queues = HostQueues(polite(requests_per_second=1_000))
    queues.add("a", 1)
    queues.add("a", 2)
    first = queues.take()
    first.lease.close()
    began = time.monotonic()
    queues.put_back("a", first.item, 0.1)
    assert take_all(queues) == [2, 1]
    assert time.monotonic() - began >= 0.1


def test_what_is_left_of_a_closed_host_comes_at_once_without_a_turn():
    politeness = polite(requests_per_second=0.01, burst=1)
    queues = HostQueues(politeness)
    for item in range(20):
        queues.add("a", item)
    first = queues.take()
    assert first.closed is None
    queues.put_back("a", first.item, 1_000)
    politeness.close("a", Closed("host_down", "is down"))
    first.lease.close()
    rest = [queues.take() for _ in range(20)]
    assert {one.item for one in rest} == set(range(20))
    assert all(one.closed.status == "host_down" for one in rest)


def test_a_thread_that_waits_for_a_host_is_woken_when_the_host_is_closed():
    politeness = polite()
    queues = HostQueues(politeness)
    queues.add("a", 1)
    politeness.hold("a", 100)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(queues.take()))
    thread.start()
    politeness.close("a", Closed("host_down", "is down"))
    thread.join(5)
    assert taken[0].closed.status == "host_down"


def test_stop_ends_all_who_wait():
    politeness = polite()
    queues = HostQueues(politeness)
    queues.add("a", 1)
    politeness.hold("a", 100)
    threads = [threading.Thread(target=queues.take) for _ in range(3)]
    for thread in threads:
        thread.start()
    queues.stop()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


def test_many_threads_take_every_item_once_and_no_host_has_more_connections_than_allowed():
    politeness = polite(requests_per_second=1e6, burst=1_000, connections_per_host=2)
    queues = HostQueues(politeness)
    for item in range(300):
        queues.add(f"host-{item % 7}", item)
    running = dict.fromkeys((f"host-{n}" for n in range(7)), 0)
    taken, most, guard = [], [], threading.Lock()

    def work() -> None:
        while (one := queues.take()) is not None:
            host = f"host-{one.item % 7}"
            with guard:
                running[host] += 1
                most.append(running[host])
                taken.append(one.item)
            time.sleep(0.0005)
            with guard:
                running[host] -= 1
            one.lease.close()
            queues.done()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == list(range(300))
    assert max(most) == 2


def test_a_host_has_one_connection_until_it_is_known():
    politeness = polite(connections_per_host=3, alone_until_known=True)
    assert [politeness.try_start("h") for _ in range(2)] == [0, math.inf]
    politeness.known("h")
    assert [politeness.try_start("h") for _ in range(3)] == [0, 0, math.inf]
