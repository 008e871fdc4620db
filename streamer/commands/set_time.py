"""``hpstm set``: a running server's delay, prediction and rate."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from streamer.commands.options import Control, Key, ServerKey, client_keys
from streamer.errors import ConfigError
from streamer.wire.endpoints import DEFAULT_CONTROL

AS_IT_IS = "as it is"
Kept = Annotated[float | None, Parameter(show_default=AS_IT_IS)]


def set_time(
    *,
    control_endpoint: Control = DEFAULT_CONTROL,
    key: Key = None,
    server_key: ServerKey = None,
    delay: Kept = None,
    predict: Kept = None,
    rate: Kept = None,
) -> int:
    """Change a running server's --delay, --predict or --rate; its poses glide to the new time.

    Args:
        delay: Fixed lag for a smoother pose [s], 0 to 0.2; ends --predict.
        predict: Predict ahead [s], 0 to 0.15; ends --delay.
        rate: Steady output clock [Hz]; 0: one pose a frame.
    """
    from streamer.wire.control import ControlClient

    if delay is None and predict is None and rate is None:
        raise ConfigError("say --delay, --predict or --rate")
    with ControlClient(control_endpoint, 2.0, client_keys(key, server_key, None)) as client:
        now = client.set_time(delay, predict, rate)
    clock = f"{now['rate_hz']:g} poses a second" if now["rate_hz"] else "a pose a frame"
    print(f"delay {now['delay_s']:g} s, predict {now['predict_s']:g} s, {clock}")
    return 0
