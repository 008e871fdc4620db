"""``hpstm keys``: a pair of keys for an encrypted server, or for one of its clients."""

from __future__ import annotations


def keys(name: str, /, *, dir: str = ".") -> int:
    """Make a key pair for serve --curve, or for a client of it.

    Args:
        name: server, or the client's name.
        dir: Folder to write NAME.key and NAME.key_secret to.
    """
    from streamer.wire.security import make_keys

    public, secret = make_keys(name, dir)
    print(f"{secret}: keep it on this machine\n{public}: give it to the other end")
    return 0
