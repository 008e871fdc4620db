"""Where a server listens when nobody says otherwise: this machine only."""

DEFAULT_IN = "tcp://127.0.0.1:5750"
DEFAULT_OUT = "tcp://127.0.0.1:5751"
DEFAULT_CONTROL = "tcp://127.0.0.1:5752"
