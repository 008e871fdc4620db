"""Options that several commands share: where a server is, and with which keys a client comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.wire.security import ClientKeys

BUNDLED = "the bundled model"

In = Annotated[str, Parameter("--in", help="Endpoint where frames come in.")]
Out = Annotated[str, Parameter("--out", help="Endpoint where poses go out.")]
To = Annotated[str, Parameter("--to", help="Endpoint of a server, where frames come in.")]  # of every source
Outs = Annotated[
    tuple[str, ...],
    Parameter("--servers", help="Instead of --out: where poses of servers that share actors come out; repeated."),
]
Tos = Annotated[
    tuple[str, ...],
    Parameter("--servers", help="Instead of --to: where frames go in at servers that share actors; repeated."),
]
Control = Annotated[str, Parameter("--control", help="Endpoint where requests are answered.")]
Key = Annotated[str | None, Parameter(help="Your NAME.key_secret, for a server that runs with --curve.")]
Height = Annotated[
    float | None,
    Parameter(
        "--height", help="How tall people in MediaPipe's landmarks are, standing, without shoes [m]; all of them."
    ),
]
Pitch = Annotated[
    float, Parameter("--pitch", help="How far the camera of MediaPipe's landmarks looks down [degrees]; negative: up.")
]
ServerKey = Annotated[str | None, Parameter(help="That server's server.key.")]


def client_keys(key: str | None, server_key: str | None, out_endpoint: str | None) -> ClientKeys | None:
    """The keys that the server at ``out_endpoint`` lets in (None: not asked whether it does); None when none are given.

    Raises:
        ConfigError: one of the two is missing, or the server does not let them in.
    """
    from streamer.wire.security import ClientKeys, check_admitted

    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        raise ConfigError("give --key and --server-key together: your own secret key, and the server's public one")
    keys = ClientKeys.load(key, server_key)
    if out_endpoint is not None:
        check_admitted(out_endpoint, keys)
    return keys
