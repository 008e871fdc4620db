"""Who may connect: this machine's own processes; beyond it, clients whose CURVE key is in the server's folder.

CURVE is ZeroMQ's encryption: a client knows its server's public key beforehand, and the server looks at each handshake
whether the client's is in its folder. Keys are pyzmq's files, NAME.key and NAME.key_secret.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from streamer.errors import SecurityError
from streamer.wire.endpoints import is_local

SERVER_KEY = "server.key_secret"  # in the folder that a server is given, beside
CLIENTS = "clients"  # the folder of the public keys it lets in
DOMAIN = "hpstm"
OTHERS_MAY = 0o077  # any right of the group or the world
FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

log = logging.getLogger("hpstm")


@dataclass(frozen=True)
class ClientKeys:
    """What a client holds: its own key pair and its server's public key."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes

    @classmethod
    def load(cls, key: str | Path, server_key: str | Path) -> ClientKeys:
        """From the client's NAME.key_secret and the server's server.key. Raises SecurityError."""
        return cls(*_secret_key(Path(key)), _read(Path(server_key))[0])

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Gives the keys to a socket that is not connected yet."""
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = self.public, self.secret, self.server


@dataclass(frozen=True)
class ServerKeys:
    """What a server holds: its secret key, and the folder of the public keys of those whom it lets in."""

    secret: bytes = field(repr=False)
    clients: Path

    @classmethod
    def load(cls, folder: str | Path) -> ServerKeys:
        """From a folder with server.key_secret and clients/NAME.key. Raises SecurityError."""
        keys = cls(_secret_key(Path(folder) / SERVER_KEY)[1], Path(folder) / CLIENTS)
        if not any(keys.admitted()):
            raise SecurityError(
                f"{keys.clients} holds no client's NAME.key: make it with `hpstm keys NAME`, copy it there"
            )
        return keys

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        socket.curve_server, socket.curve_secretkey = True, self.secret
        # With a domain, a client is refused, not let in, should nobody be there to ask.
        socket.zap_domain = DOMAIN.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def admits(self, public: bytes) -> bool:
        """Is this key in the folder now? Read each time: a file put there or taken away counts from then on."""
        return public in self.admitted()

    def admitted(self) -> Iterator[bytes]:
        """The public keys in the folder; a file that holds none is named, once, and left out."""
        for path in sorted(self.clients.glob("*.key")):
            try:
                yield _read(path)[0]
            except SecurityError as error:
                _say_once(f"left out of the clients: {error}")


@lru_cache(256)
def _say_once(text: str) -> None:
    log.warning("%s", text)


@contextlib.contextmanager
def admitting(context: zmq.Context[Any], keys: ServerKeys | None, refused: Callable[[], None]) -> Iterator[None]:
    """Inside, the clients of ``context``'s CURVE sockets are checked; ``refused()`` is called, in a thread, for others.

    Bind sockets inside only.
    """
    if keys is None:
        yield
        return
    from zmq.auth.thread import ThreadAuthenticator  # asyncio comes with it: only for those who want it

    authenticator = ThreadAuthenticator(context)
    authenticator.configure_curve_callback(DOMAIN, _Doorkeeper(keys, refused))
    authenticator.start()
    try:
        yield
    finally:
        authenticator.stop()


@dataclass(frozen=True)
class _Doorkeeper:
    keys: ServerKeys
    refused: Callable[[], None]

    def callback(self, domain: str, public: bytes) -> bool:
        """What pyzmq asks at each handshake: may the client of this key come in?"""
        admitted = self.keys.admits(public)
        if not admitted:
            self.refused()
        return admitted


def check_admitted(endpoint: str, keys: ClientKeys, within_s: float = 1.0) -> None:
    """Raises SecurityError when the server whose poses go out at ``endpoint`` does not let these keys in.

    A refused client hears nothing and would wait for ever. Silence within ``within_s`` passes: no server is there yet.
    """
    from zmq.utils.monitor import recv_monitor_message  # here: asyncio comes with it, which a server does without

    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        keys.apply(socket)
        with socket.get_monitor_socket(FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
            socket.connect(endpoint)
            heard = recv_monitor_message(monitor)["event"] if monitor.poll(int(within_s * 1000)) else 0
            socket.disable_monitor()
    if heard == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        raise SecurityError(f"the server at {endpoint} does not know --key: copy its NAME.key to the server's clients/")
    if heard & FAILED:
        raise SecurityError(f"the server at {endpoint} is not the one of --server-key, or runs without --curve")


def make_keys(name: str, folder: str | Path) -> tuple[Path, Path]:
    """Makes folder/NAME.key, to give away, and folder/NAME.key_secret (mode 0600), to keep; returns both paths.

    Raises:
        SecurityError: one of them exists, which is left as it is; or the folder cannot be written to.
    """
    from zmq.auth import create_certificates

    need_curve()
    if not name.replace("-", "_").isidentifier():  # so that it is no path
        raise SecurityError(f"{name!r} is not a name; call the keys for example: server, or alice")
    public, secret = Path(folder) / f"{name}.key", Path(folder) / f"{name}.key_secret"
    for path in (public, secret):
        if path.exists():
            raise SecurityError(f"{path} exists; it is left as it is, give another name")
    before = os.umask(OTHERS_MAY)  # from its first moment, nobody else reads the secret key
    try:
        secret.parent.mkdir(parents=True, exist_ok=True)
        create_certificates(folder, name)
        public.chmod(0o644)
    except OSError as error:
        raise SecurityError(f"cannot write keys to {folder}: {error}") from error
    finally:
        os.umask(before)
    return public, secret


def need_curve() -> None:
    """Raises SecurityError where ZeroMQ was built without CURVE."""
    if not zmq.has("curve"):
        raise SecurityError(f"this ZeroMQ ({zmq.zmq_version()}) has no CURVE; pyzmq's own wheels do: pip install pyzmq")


def _secret_key(path: Path) -> tuple[bytes, bytes]:
    """(public, secret), checked to belong together and to be nobody else's to read."""
    public, secret = _read(path)
    if secret is None:
        raise SecurityError(f"{path} holds no secret key; give NAME.key_secret, not NAME.key")
    if os.name == "posix" and path.stat().st_mode & OTHERS_MAY:
        raise SecurityError(f"{path} is a secret key that others can read; run: chmod 600 {path}")
    if zmq.curve_public(secret) != public:
        raise SecurityError(f"{path}: the two keys do not belong together; make new ones with `hpstm keys NAME`")
    return public, secret


def _read(path: Path) -> tuple[bytes, bytes | None]:
    from zmq.auth import load_certificate

    need_curve()
    try:
        keys = load_certificate(path)
        for key in keys:
            if key is not None and len(z85.decode(key)) != 32:
                raise ValueError("a key has 40 characters")
    except (OSError, ValueError, KeyError) as error:
        raise SecurityError(f"{path} is no key file ({error}); make one with `hpstm keys NAME`") from error
    return keys


def check_endpoint(endpoint: str, allow_remote: bool) -> None:
    """Raises SecurityError when ``endpoint`` opens a port to other machines and nobody said it may."""
    if not is_local(endpoint) and not allow_remote:
        raise SecurityError(
            f"{endpoint} can be reached from other machines, without encryption or a password. Say --curve DIR to "
            "encrypt and to list who may connect, or use tcp://127.0.0.1:PORT, or say --allow-remote if this network "
            "is yours."
        )
