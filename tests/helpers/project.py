"""Where the project lies, and what pyproject.toml says of it."""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, object]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        table: dict[str, object] = tomllib.load(file)["project"]
    return table
