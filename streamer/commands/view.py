"""``hpstm view``: what the filter does, live or of a recording, in a browser, on one page to share, in the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from streamer.clock import SECOND_NS, now_ns
from streamer.commands.options import Control, Key, Out, ServerKey, client_keys
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_CONTROL, DEFAULT_OUT, is_local

if TYPE_CHECKING:
    from streamer.view.browser import BrowserView
    from streamer.view.feed import Feed
    from streamer.view.inbox import Inbox
    from streamer.view.playback import Player
    from streamer.wire.security import ClientKeys

_STOP = (signal.SIGINT, signal.SIGTERM)
_QUIET_S = 2.0
_HOST, _PORT = "127.0.0.1", 8080


class _Page(NamedTuple):
    """Where a browser finds the view, and whose pages may connect beside its own."""

    host: str
    port: int
    origins: tuple[str, ...]


def view(
    source: str | None = None,
    /,
    *,
    out_endpoint: Out = DEFAULT_OUT,
    control_endpoint: Control = DEFAULT_CONTROL,
    key: Key = None,
    server_key: ServerKey = None,
    actor: str | None = None,
    port: int = _PORT,
    host: str = _HOST,
    origin: tuple[str, ...] = (),
    terminal: bool = False,
    html: Path | None = None,
    rrd: Path | None = None,
) -> int:
    """Show what the filter does: input and refined poses, how sure they are, jitter and latency; live, or a recording.

    Args:
        source: A recording; or where poses go out, tcp://HOST:PORT, instead of --out.
        actor: Only this one; none: all, live the first dozen.
        port: Port of the page to open in a browser; 0: one that is free, which the first line names.
        host: Address of that page; another than this machine's lets everybody see and set who reaches it.
        origin: Web pages of this origin may connect, too, as https://example.org or null (files).
        terminal: Draw here instead, in this terminal.
        html: Write a recording as one page to share, which opens without a network.
        rrd: Write a recording for rerun; needs rerun-sdk.
    """
    elsewhere = _named(terminal=terminal, html=html, rrd=rrd)
    for_page = _named(host=host != _HOST, port=port != _PORT, origin=origin)
    of_server = _named(out=out_endpoint != DEFAULT_OUT, control=control_endpoint != DEFAULT_CONTROL, key=key,
                       server_key=server_key)  # fmt: skip
    recording = None if source is None or "://" in source else source
    _check(elsewhere, for_page, of_server, recording)
    page = None if terminal else _Page(host, port, origin)
    if recording is not None:
        return _recording(Path(recording), actor, page, html, rrd)
    if html is not None or rrd is not None:
        raise ConfigError(
            "--html and --rrd write a recording: hpstm record take.hpstm, hpstm view take.hpstm --html FILE"
        )
    if source is not None and out_endpoint != DEFAULT_OUT:
        raise ConfigError(f"{source} and --out {out_endpoint}: say one of them")
    out = source or out_endpoint
    is_local(out)  # that it is an endpoint
    # What is set must be set on the server that is seen: the usual control socket goes with the usual output alone.
    control = control_endpoint if out == DEFAULT_OUT or control_endpoint != DEFAULT_CONTROL else None
    return _live(out, control, client_keys(key, server_key, out), actor, page)


def _named(**given: object) -> str:
    """The options that are given, as the command line has them."""
    return ", ".join("--" + name.replace("_", "-") for name, value in given.items() if value)


def _check(elsewhere: str, for_page: str, of_server: str, recording: str | None) -> None:
    """Raises ConfigError: options are given that another way to show would pass over.

    Args:
        elsewhere: those that open no page. for_page: of the page. of_server: where a server is, and its keys.
        recording: the file that is shown, None: a server.
    """
    if elsewhere and for_page:
        raise ConfigError(f"{for_page} is for the page in a browser, and {elsewhere} opens none: leave one out")
    terminal, _, files = elsewhere.partition(", ")
    if terminal == "--terminal" and files:
        raise ConfigError(f"--terminal draws, and {files} writes a file: leave one out")
    if recording is not None and of_server:
        raise ConfigError(f"{of_server} is of a server, and {recording} is a recording: leave one out")


def _recording(file: Path, actor: str | None, page: _Page | None, html: Path | None, rrd: Path | None) -> int:
    from streamer.view.playback import Player, read_timeline

    timeline = read_timeline(file, actor)
    if html is not None:
        from streamer.view.page import write_page

        print(write_page(timeline, html, file.name))
    if rrd is not None:
        from streamer.view.rerun_file import write_rrd

        print(write_rrd(timeline, rrd, file.name))
    if html is not None or rrd is not None:
        return 0
    player = Player(timeline, loop=page is not None)
    if page is None:
        from streamer.view.terminal import draw_until

        with _stopping() as stopped:
            draw_until(lambda: stopped() or not player.playing, player, file.name, lambda: timeline.note)
        return 0
    with _browser_view(page, player, note=lambda: timeline.note) as shown:
        _run(shown)
    return 0


def _live(out: str, control: str | None, curve: ClientKeys | None, actor: str | None, page: _Page | None) -> int:
    from streamer.view.feed import Feed
    from streamer.view.inbox import Inbox
    from streamer.view.remote import Remote

    inbox = Inbox()
    remote = Remote(control, curve) if control is not None else None
    with ExitStack() as stack:
        feed = stack.enter_context(Feed(out, inbox, actor, curve=curve))
        note = _Note(feed, out, curve)
        if page is None:
            from streamer.view.terminal import draw_until

            draw_until(stack.enter_context(_stopping()), inbox, out, note)
            return 0
        if remote is not None:
            stack.enter_context(remote)
        _run(stack.enter_context(_browser_view(page, inbox, remote=remote, note=note)))
    return 0


class _Note:
    """Why nothing comes, or who is not shown; "" when all is well. What is new of it goes to stderr, too."""

    def __init__(self, feed: Feed, endpoint: str, curve: ClientKeys | None) -> None:
        self._feed, self._endpoint, self._curve = feed, endpoint, curve
        self._asked_ns, self._said = 0, ""

    def __call__(self) -> str:
        now = now_ns()
        if now - self._feed.heard_ns < _QUIET_S * SECOND_NS:
            self._said = ""
            return f"{self._feed.left_out} more actors are not shown: --actor" if self._feed.left_out else ""
        if now - self._asked_ns > 2 * _QUIET_S * SECOND_NS:
            from streamer.wire.probe import why_silent

            self._asked_ns, before = now, self._said
            self._said = why_silent(self._endpoint, self._curve)
            if self._said != before:
                _say(f"{self._said}; waiting")
        return self._said


def _browser_view(page: _Page, source: Inbox | Player, **more: Any) -> BrowserView:
    from streamer.view.browser import BrowserView

    _check_host(page.host, page.port)
    return BrowserView(source, page.host, page.port, origins=page.origins, say=_say, **more)


def _run(shown: BrowserView) -> None:
    """Says where to look, and draws until Ctrl-C."""
    print(f"ready view={shown.url}", flush=True)
    with _stopping() as stopped:
        shown.run(stopped)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """A function that says whether Ctrl-C was pressed, or the process was told to end."""
    told: list[int] = []
    before = [signal.signal(number, lambda *_: told.append(1)) for number in _STOP]
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in zip(_STOP, before, strict=True):
            signal.signal(number, handler)


def _check_host(host: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, not {port}")
    shown = f"[{host}]" if ":" in host else host
    if not is_local(f"tcp://{shown}:{port}"):
        _say(f"warning: whoever reaches {shown} sees everybody and may set the time: --host 127.0.0.1 keeps it here")


def _say(text: str) -> None:
    print(f"hpstm: {text}", file=sys.stderr, flush=True)
