"""Settings of the baselines that ``hpstm bench tune`` found on the training split: what tuned.json holds."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from streamer.errors import ConfigError

FILE = Path(__file__).with_name("tuned.json")


@lru_cache(maxsize=4)
def read(path: Path = FILE) -> dict[str, Any]:
    """The whole file: {"objective", "split", "commands", "rows": [{"method", "noise", "settings", ...}]}.

    Raises:
        ConfigError: it is missing or is none of ours.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["objective"], found["split"], found["commands"]
        for row in found["rows"]:
            row["method"], row["noise"], row["rate_hz"], row["at_s"], row["settings"], row["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not what `hpstm bench tune` writes ({error})") from error
    return found


def summary(path: Path = FILE) -> dict[str, Any]:
    """What the settings rest on: objective, split, data, frame rates [Hz] and commands."""
    found = read(path)
    data, rates = ({row[key] for row in found["rows"]} for key in ("data", "rate_hz"))
    return {key: found[key] for key in ("objective", "split", "commands")} | {
        "data": sorted(data), "rates_hz": sorted(rates)
    }  # fmt: skip


def settings(method: str, noise: str, rate_hz: float, at_s: float, path: Path = FILE) -> dict[str, float]:
    """A method's arguments for a noise; of the rates and times it was tuned at, the nearest, the rate first.

    Args:
        method: a name of tune.SPACES.
        noise: a name of model.noise.fixed.NOISES.
        rate_hz: frames per second.
        at_s: the time asked for, from the newest frame [s]; negative is a delay.
    Raises:
        ConfigError: nothing was tuned for this method and noise.
    """
    rows = [row for row in read(path)["rows"] if (row["method"], row["noise"]) == (method, noise)]
    if not rows:
        raise ConfigError(f"{path}: no settings of {method!r} for noise {noise!r}; run `hpstm bench tune`")
    nearest = min(rows, key=lambda row: (abs(math.log(row["rate_hz"] / rate_hz)), abs(row["at_s"] - at_s)))
    return dict(nearest["settings"])
