"""``hpstm calibrate``: the bones of an actor of a running server, who stands still for a few seconds."""

from __future__ import annotations

import time
from typing import Any

from streamer.commands.options import Control, Key, ServerKey, client_keys
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_CONTROL

POLL_S = 0.1
PATIENCE_S = 10.0  # beyond the seconds themselves: a source that pauses counts for less


def calibrate(
    actor: str, /, *, seconds: float = 3.0, control_endpoint: Control = DEFAULT_CONTROL, key: Key = None,
    server_key: ServerKey = None,
) -> int:  # fmt: skip
    """Measure the bones of somebody who stands still, in a T-pose or with hanging arms.

    Args:
        actor: Who stands before the server's source.
        seconds: Stand still for so long [s], 0.5 to 60.
    """
    from streamer.server.control import request

    curve = client_keys(key, server_key, None)

    def ask(command: str, **fields: Any) -> dict[str, Any]:
        reply = request(control_endpoint, command, 5.0, curve, **fields)
        if reply is None:
            raise ConfigError(f"no server answers at {control_endpoint}; start one: hpstm serve")
        if not reply["ok"]:
            raise ConfigError(str(reply["error"]["message"]))
        return reply

    ask("calibrate", actor=actor, seconds=seconds)
    print(f"{actor}: stand still for {seconds:g} s", flush=True)
    until = time.monotonic() + seconds + PATIENCE_S
    while time.monotonic() < until:
        time.sleep(POLL_S)
        state = ask("status")["actor_states"].get(actor, {}).get("calibration")
        if state is None:
            raise ConfigError(f"{actor} is gone, or was reset: calibrate again once it is back")
        if state["state"] != "measuring":
            print(f"{actor}: {state['message']}")
            return 0 if state["state"] == "done" else 1
    raise ConfigError(f"{actor} was not seen for {seconds:g} s; does its source send?")
