"""Counters and latency histograms of the server, the books that they add up to, and what they say of its health.

The hot path calls ``count`` and ``observe`` (well under 1 us each) and once a turn ``settle``; everything else runs
when somebody asks. Others, in other threads too, see the numbers as they were settled: the books balance at any time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Any

from streamer.clock import SECOND_NS, now_ns

# 20 us to 5 s, about 1.6x apart: a percentile is good to the width of its bucket.
BOUNDS_NS = tuple(int(20_000 * 1.6**i) for i in range(27))
ALIVE_NS = 2 * SECOND_NS
WINDOW_NS = 10 * SECOND_NS  # what health looks back on
MOST_ERRORS = 3  # of ours within the window: more than an accident

# Name: (help, what its label is called).
COUNTERS = {
    "messages_in": ("messages read from the input socket = poses for them + superseded + skipped + rejected", ""),
    "frames_in": ("frames decoded", ""),
    "frames_skipped": ("frames skipped before the encoder under overload", ""),
    "superseded": ("frames that the filter took but whose pose was not sent: a newer one was, or a clock asks", ""),
    "rejected": ("messages and frames dropped, by reason", "reason"),
    "poses_out": ("poses published", ""),
    "poses_by_clock": ("of these, poses for a time of the output clock and not for a frame", ""),
    "skeletons_out": ("skeletons published", ""),
    "filter_events": ("what the filter noticed in frames that it took", "event"),
    "subscriptions": ("subscriptions received", ""),
    "actors_evicted": ("actors removed because they were silent", ""),
    "rehearsals": ("runs on a stand-in, to be warm when the next frame comes", ""),
    "connections_refused": ("handshakes that failed: key not in the folder, wrong server key, no encryption", "reason"),
    "control_requests": ("control requests, by command", "command"),
    "log_lines_dropped": ("lines that whoever reads the log was too slow for", ""),
    "skeletons_unsaved": ("skeletons that could not be written to their folder", ""),
    "loop_errors": ("unexpected errors caught in the loop (each is a bug)", ""),
}
GAUGES = {
    "actors": "actors that are there",
    "descriptors": "files and connections open in this process",
    "descriptors_limit": "how many of them the system allows",
}
WATCHED = ("messages_in", "frames_in", "frames_skipped", "rejected", "loop_errors")  # over the window


class Histogram:
    """Counts of durations in fixed log-spaced buckets."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_NS) + 1)
        self.sum_ns = 0

    def observe(self, duration_ns: int) -> None:
        self.counts[bisect_left(BOUNDS_NS, duration_ns)] += 1
        self.sum_ns += duration_ns

    @property
    def total(self) -> int:
        return sum(self.counts)

    def since(self, before: Sequence[int]) -> Histogram:
        """What came after its ``counts`` were ``before``; its sum is not known."""
        later = Histogram()
        later.counts = [n - m for n, m in zip(self.counts, before)]
        return later

    def quantile_ms(self, q: float) -> float:
        """The upper bound [ms] of the bucket that holds quantile ``q``; nan when empty."""
        total, below = self.total, 0
        for i, n in enumerate(self.counts):
            below += n
            if total and below >= q * total:
                return BOUNDS_NS[min(i, len(BOUNDS_NS) - 1)] / 1e6
        return float("nan")


class Metrics:
    """All numbers of one server; the loop writes, the HTTP thread and the control socket read."""

    def __init__(self) -> None:
        self.started_ns = now_ns()
        self.alive_ns = self.started_ns  # end of the last turn in which nothing went wrong
        self.ready = False
        self._counts: dict[tuple[str, str], int] = {}
        self.settled: dict[tuple[str, str], int] = {}  # (name, label) -> count, replaced whole
        self._past: deque[tuple[int, dict[str, int]]] = deque([(self.started_ns, dict.fromkeys(WATCHED, 0))])
        self.gauges: dict[str, float] = dict.fromkeys(GAUGES, 0)
        self.histograms = {"inference": Histogram(), "latency": Histogram()}

    # -- the loop writes

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        key = (name, label)
        self._counts[key] = self._counts.get(key, 0) + n

    def settle(self) -> None:
        """Every message read so far has its place in the books: let others see them."""
        self.settled = self._counts.copy()

    def tick(self, now: int) -> None:
        """About once a second: remember how it stands, for health's window."""
        self._past.append((now, {name: self.value(name) for name in WATCHED}))
        while len(self._past) > 1 and now - self._past[1][0] >= WINDOW_NS:
            self._past.popleft()

    def unaccounted(self) -> int:
        """Messages that were read and have no place in the books yet."""
        self.settle()
        books = self.books()
        return 2 * books["messages_in"] - sum(books.values())

    # -- others read

    def value(self, name: str) -> int:
        """The counter ``name``, summed over its labels."""
        return sum(n for (key, _), n in self.settled.items() if key == name)

    def by_label(self, name: str) -> dict[str, int]:
        return {label: n for (key, label), n in self.settled.items() if key == name}

    def books(self) -> dict[str, int]:
        """What became of the messages: ``messages_in`` is the sum of the others, exactly, at any time."""
        total = dict.fromkeys(COUNTERS, 0)
        for (name, _), n in self.settled.items():
            total[name] += n
        return {
            "messages_in": total["messages_in"],
            "poses": total["poses_out"] - total["poses_by_clock"],
            "superseded": total["superseded"],
            "skipped": total["frames_skipped"],
            "rejected": total["rejected"],
        }

    def health(self) -> dict[str, bool]:
        """Four separate questions, of the last ten seconds.

        Does the loop turn, is it free of errors of ours, does it keep up, is the data fit to use?
        """
        before = self._past[0][1]
        recent = {name: self.value(name) - before[name] for name in WATCHED}
        return {
            "alive": self.ready and now_ns() - self.alive_ns < ALIVE_NS,
            "sound": recent["loop_errors"] < MOST_ERRORS,
            "on_rate": recent["frames_skipped"] <= 0.01 * recent["frames_in"],
            "valid": recent["rejected"] <= 0.5 * max(recent["messages_in"], 1),
        }

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain numbers and maps, for the control socket."""
        latency = self.histograms["latency"]
        return {
            "uptime_s": (now_ns() - self.started_ns) / SECOND_NS,
            "health": self.health(),
            "books": self.books(),
            "counters": {name: self.value(name) for name in COUNTERS},
            "rejected": self.by_label("rejected"),
            "filter_events": self.by_label("filter_events"),
            "latency_ms": {"p50": latency.quantile_ms(0.5), "p99": latency.quantile_ms(0.99), "n": latency.total},
            **self.gauges,
        }
