"""The server's numbers over HTTP on this machine: /metrics for Prometheus, /healthz for whoever restarts servers.

prometheus-client writes the text; the numbers stay ours (metrics.py) and are collected when somebody asks.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from streamer.clock import SECOND_NS
from streamer.errors import ConfigError
from streamer.server.metrics import BOUNDS_NS, COUNTERS, GAUGES, Histogram, Metrics

TIMEOUT_S = 5.0  # for a request to say the next thing
MOST_CONNECTIONS = 16  # at a time: the oldest makes room for the newest


class OurNumbers(Collector):
    """The metrics of a server as Prometheus' families."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        settled = self._metrics.settled  # one reading for all: the loop goes on meanwhile
        for name, (text, label) in COUNTERS.items():
            family = CounterMetricFamily(f"hpstm_{name}", text, labels=[label] if label else [])
            counts = {value: n for (key, value), n in settled.items() if key == name}
            for value, n in sorted((counts or ({} if label else {"": 0})).items()):
                family.add_metric([value] if label else [], n)
            yield family
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(f"hpstm_{name}", text, self._metrics.gauges[name])
        for name, good in self._metrics.health().items():
            yield GaugeMetricFamily(f"hpstm_health_{name}", "1: good; see /healthz", float(good))
        for name, histogram in self._metrics.histograms.items():
            yield _histogram(f"hpstm_{name}_seconds", histogram)


def _histogram(name: str, histogram: Histogram) -> Metric:
    buckets, below = [], 0
    counts = list(histogram.counts)
    for bound, n in zip(BOUNDS_NS, counts):
        below += n
        buckets.append((f"{bound / SECOND_NS:g}", float(below)))
    buckets.append(("+Inf", float(sum(counts))))
    return HistogramMetricFamily(name, name, buckets=buckets, sum_value=histogram.sum_ns / SECOND_NS)


@contextmanager
def serving_http(metrics: Metrics, port: int) -> Iterator[None]:
    """Inside, /metrics and /healthz are answered on 127.0.0.1:``port`` by daemon threads.

    Raises:
        ConfigError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(OurNumbers(metrics))
    try:
        server = _Server(("127.0.0.1", port), _handler(metrics, registry))
    except OSError as error:
        raise ConfigError(f"cannot open the metrics port {port}: {error}") from error
    Thread(target=server.serve_forever, name="metrics-http", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """One thread a connection, and never more than MOST_CONNECTIONS of them."""

    daemon_threads = True
    request_queue_size = 128  # that the system holds until they are taken

    def __init__(self, *arguments: Any) -> None:
        self._open: deque[socket.socket] = deque()
        self._lock = Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.append(request)
            oldest = self._open[0] if len(self._open) > MOST_CONNECTIONS else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread ends, and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # somebody who hung up is not news


def _handler(metrics: Metrics, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry))
            elif self.path == "/healthz":
                health = metrics.health()
                good = health["alive"] and health["sound"]
                self._answer(200 if good else 503, "application/json", (json.dumps(health) + "\n").encode())
            else:
                self._answer(404, "text/plain", b"try /metrics or /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # a scrape is not news

    return Handler
