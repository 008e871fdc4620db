"""Counters and latency histograms of the server, in Prometheus text form, with a health check.

The hot path calls ``count`` and ``observe`` (well under 1 us each); everything else runs when somebody asks.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from streamer.clock import SECOND_NS, now_ns
from streamer.errors import ConfigError

# 20 us to 5 s, about 1.6x apart: a percentile is good to the width of its bucket.
BOUNDS_NS = tuple(int(20_000 * 1.6**i) for i in range(27))
ALIVE_NS = 2 * SECOND_NS

_HELP = {
    "messages_in": "messages read from the input socket",
    "frames_in": "frames decoded",
    "frames_skipped": "frames skipped before the encoder under overload",
    "rejected": "messages and frames dropped, by reason",
    "poses_out": "poses published",
    "skeletons_out": "skeletons published",
    "subscriptions": "subscriptions received",
    "actors_evicted": "actors removed because they were silent",
    "rehearsals": "runs on a stand-in, to be warm when the next frame comes",
    "connections_refused": "handshakes of clients whose key is not in the folder",
    "control_requests": "control requests, by command",
    "loop_errors": "unexpected errors caught in the loop (each is a bug)",
}


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
        self.alive_ns = self.started_ns  # last time the loop came round
        self.ready = False
        self._counts: dict[tuple[str, str], int] = {}
        self.gauges: dict[str, float] = {"actors": 0}
        self.histograms = {"inference": Histogram(), "latency": Histogram()}

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        key = (name, label)
        self._counts[key] = self._counts.get(key, 0) + n

    def value(self, name: str) -> int:
        """The counter ``name``, summed over its labels."""
        return sum(n for (key, _), n in list(self._counts.items()) if key == name)

    def by_label(self, name: str) -> dict[str, int]:
        return {label: n for (key, label), n in list(self._counts.items()) if key == name}

    def health(self) -> dict[str, bool]:
        """Three separate questions: does the loop turn, does it keep up, is the data fit to use."""
        frames, skipped = self.value("frames_in"), self.value("frames_skipped")
        return {
            "alive": self.ready and now_ns() - self.alive_ns < ALIVE_NS,
            "on_rate": skipped <= 0.01 * frames,
            "valid": self.value("rejected") <= 0.5 * max(self.value("messages_in"), 1),
        }

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain numbers and maps, for the control socket."""
        latency = self.histograms["latency"]
        return {
            "uptime_s": (now_ns() - self.started_ns) / SECOND_NS,
            "health": self.health(),
            "counters": {name: self.value(name) for name in _HELP},
            "rejected": self.by_label("rejected"),
            "latency_ms": {"p50": latency.quantile_ms(0.5), "p99": latency.quantile_ms(0.99), "n": latency.total},
            **self.gauges,
        }

    def prometheus(self) -> str:
        """The exposition text format, version 0.0.4."""
        lines: list[str] = []
        for name, help_text in _HELP.items():
            lines += [f"# HELP hpstm_{name}_total {help_text}", f"# TYPE hpstm_{name}_total counter"]
            labelled = self.by_label(name)
            key = "command" if name == "control_requests" else "reason"
            for label, n in sorted(labelled.items()):
                lines.append(f'hpstm_{name}_total{{{key}="{label}"}} {n}' if label else f"hpstm_{name}_total {n}")
            if not labelled:
                lines.append(f"hpstm_{name}_total 0")
        for name, value in self.gauges.items():
            lines += [f"# TYPE hpstm_{name} gauge", f"hpstm_{name} {value:g}"]
        for name, histogram in self.histograms.items():
            lines += _histogram_lines(f"hpstm_{name}_seconds", histogram)
        return "\n".join(lines) + "\n"


def _histogram_lines(name: str, histogram: Histogram) -> list[str]:
    lines, below = [f"# TYPE {name} histogram"], 0
    counts = list(histogram.counts)
    for bound, n in zip(BOUNDS_NS, counts, strict=False):
        below += n
        lines.append(f'{name}_bucket{{le="{bound / SECOND_NS:g}"}} {below}')
    total = sum(counts)
    return [*lines, f'{name}_bucket{{le="+Inf"}} {total}', f"{name}_sum {histogram.sum_ns / SECOND_NS:g}",
            f"{name}_count {total}"]  # fmt: skip


@contextmanager
def serving_http(metrics: Metrics, port: int) -> Iterator[None]:
    """Inside, /metrics and /healthz are answered on 127.0.0.1:``port`` by a daemon thread; port 0: nothing is."""
    if not port:
        yield
        return
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(metrics))
    except OSError as error:
        raise ConfigError(f"cannot open the metrics port {port}: {error}") from error
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="metrics-http", daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


def _handler(metrics: Metrics) -> type[BaseHTTPRequestHandler]:

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", metrics.prometheus())
            elif self.path == "/healthz":
                health = metrics.health()
                self._answer(200 if health["alive"] else 503, "application/json", json.dumps(health) + "\n")
            else:
                self._answer(404, "text/plain", "try /metrics or /healthz\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # a scrape is not news

    return Handler
