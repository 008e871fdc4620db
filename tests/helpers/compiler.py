"""Whether this machine can compile the native runtime."""

from __future__ import annotations

import pytest

from streamer.errors import RuntimeUnavailable
from streamer.runtimes.native.build import compiler


def has_compiler() -> bool:
    try:
        compiler()
    except RuntimeUnavailable:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C compiler: gcc, clang or the ziglang package")
