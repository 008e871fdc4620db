"""The error tree of the streamer.

    HPSTMError
    ├── ConfigError         a setting is wrong: start-up refuses, in one line that says what to do
    │   └── SecurityError   a port would be open to anybody, or a key is missing, readable or wrong
    ├── ContractError       the model file is not the one this code was written for
    ├── RuntimeUnavailable  the runtime asked for cannot run here; says what to install
    ├── RecordingError      a recording cannot go on; says how much of it is safe
    ├── FrameError          one frame is bad: dropped and counted under its ``reason``
    └── ProtocolError       one message is bad: dropped and counted under its ``reason``

Bad configuration never gets past start-up; bad data never raises out of the server's loop.
"""

from __future__ import annotations


class HPSTMError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(HPSTMError):
    """A setting is wrong."""


class SecurityError(ConfigError):
    """A port would be open to other machines, or a key cannot be used."""


class ContractError(HPSTMError):
    """The model artifact does not carry the contract this code expects."""


class RuntimeUnavailable(HPSTMError):
    """The runtime asked for cannot run on this machine."""


class RecordingError(HPSTMError):
    """A recording cannot go on; what was written until then is whole."""


class FrameError(HPSTMError):
    """One frame cannot be used; ``reason`` is the short code it is counted under."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class ProtocolError(HPSTMError):
    """One wire message cannot be used; ``field`` names the key at fault ("" for the message as a whole)."""

    def __init__(self, reason: str, field: str = "", message: str = "") -> None:
        super().__init__(message or (f"{reason}: {field}" if field else reason))
        self.reason = reason
        self.field = field
