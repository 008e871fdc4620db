"""Who may connect to the view: programs, its own page, and pages that were named.

A page of any site that is open in a browser on this machine can open a WebSocket to this machine's ports. The browser
says whose page it is (Origin), but refuses nothing: that is the server's part, which viser leaves out. Its server is
given the question here, while it starts: it has no setting for it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from streamer.errors import ConfigError

MOST_TOLD = 100  # origins that are told of


class Door:
    """Says who may connect.

    Args:
        host: where the view listens.
        origins: pages from there may, beside the view's own, as "https://example.org" ("null": files).
        say: takes one line of text for each origin that is refused.
    """

    def __init__(self, host: str, origins: Sequence[str], say: Callable[[str], None]) -> None:
        here = socket.gethostname()
        self._names = {name.lower() for name in ("localhost", host, here, f"{here}.local")}
        self._origins, self._say = frozenset(origins), say
        self._refused: set[str] = set()

    def admit(self, connection: Any, request: Any) -> Any:
        """None: may connect; else the answer that says why not. Of websockets' server, before its handshake."""
        origin = ", ".join(request.headers.get_all("Origin"))  # one, or none from what is no page
        if not origin or origin in self._origins or self._is_own(origin, ", ".join(request.headers.get_all("Host"))):
            return None
        if origin not in self._refused and len(self._refused) < MOST_TOLD:
            self._refused.add(origin)
            self._say(f"refused a web page of {origin!r}; to let it in: --origin {origin}")
        return connection.respond(HTTPStatus.FORBIDDEN, f"pages of {origin} may not connect: --origin\n")

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page comes from where it connects to, and that by an address, or by a name of this machine.

        Any other name says nothing: whose it is decides where it leads to, and may have it lead here.
        """
        try:
            page, name = urlsplit(origin), urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None or page.scheme not in ("http", "https") or page.netloc.lower() != host.lower():
            return False
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@contextmanager
def guarded(door: Door) -> Iterator[None]:
    """viser servers that start in here ask the door first.

    Raises:
        ConfigError: at the end, where this viser starts its server otherwise: nobody would be asked.
    """
    from viser.infra import _infra
    from websockets.asyncio.server import serve

    asked: list[bool] = []

    class Serve(serve):
        def __init__(self, *args: Any, process_request: Callable[..., Any] | None = None, **settings: Any) -> None:
            def admit(connection: Any, request: Any) -> Any:
                refused = door.admit(connection, request)
                return process_request(connection, request) if refused is None and process_request else refused

            super().__init__(*args, process_request=admit, **settings)
            asked.append(True)

    theirs = getattr(_infra, "websockets", None)
    if theirs is not None:
        ours = SimpleNamespace(server=SimpleNamespace(serve=Serve))
        _infra.websockets = SimpleNamespace(**{**vars(theirs), "asyncio": ours})
    try:
        yield
    finally:
        if theirs is not None:
            _infra.websockets = theirs
    if not asked:
        raise ConfigError("this viser cannot be told which pages may connect; install one that can: viser>=1.1,<1.2")
