"""The soak of a real server: ten seconds of it with the first faults, and its measures."""

from __future__ import annotations

import io

import numpy as np
import pytest

from bench.report import console
from bench.service import soak_server

pytestmark = pytest.mark.timeout(300)


def test_ten_seconds_of_it() -> None:
    result = soak_server.run(10 / 60, calm_s=1.0)
    not_held = [bar for bar in result["bars"] if not bar["held"]]
    assert not not_held, result
    assert len(result["faults"]) >= 3
    books = result["books"]
    assert books["messages_in"] == result["sent"]
    assert books["messages_in"] == sum(n for name, n in books.items() if name != "messages_in")
    assert books["messages_in"] > 20 * 60 * 8
    assert books["rejected"] > 0  # late and doubled frames
    assert result["poses"] > 0.8 * books["poses"]
    screen = console(io.StringIO())
    soak_server.show(result, screen)
    assert "held: messages that the books miss" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_growth_is_the_slope_after_the_warm_up() -> None:
    at_s = np.arange(0.0, 1800.0)
    resident = 60.0 + at_s / 3600 * 3.0
    resident[:100] -= 20.0  # caches fill
    assert soak_server.growth_mib_h(at_s.tolist(), resident.tolist()) == pytest.approx(3.0, rel=0.01)
    assert abs(soak_server.growth_mib_h(at_s.tolist(), np.full(1800, 55.0).tolist())) < 1e-9
    assert np.isnan(soak_server.growth_mib_h([0.0], [60.0]))


def told(**changes: object) -> dict[str, object]:
    good = {"faults": {"a": {"worst_s": 0.2}}, "reader_back_s": [0.1], "books_off": 0, "broken": 0, "loop_errors": 0,
            "killed": 0, "lost_on_the_way": 0, "took_s": 1800.0, "growth_mib_h": 0.2}  # fmt: skip
    return {**good, **changes}


@pytest.mark.parametrize("changes", [
    {"faults": {"a": {"worst_s": float("nan")}}}, {"faults": {}}, {"reader_back_s": [3.0]}, {"books_off": 1},
    {"broken": 1}, {"loop_errors": 1}, {"lost_on_the_way": 2}, {"growth_mib_h": 4.0},
])  # fmt: skip
def test_each_bar_can_fail(changes: dict[str, object]) -> None:
    assert all(bar["held"] for bar in soak_server.bars(told()))
    assert [bar["held"] for bar in soak_server.bars(told(**changes))].count(False) == 1


def test_growth_is_judged_only_after_long_enough() -> None:
    short = soak_server.bars(told(took_s=300.0, growth_mib_h=50.0))
    assert all(bar["held"] for bar in short)
    assert len(short) == len(soak_server.bars(told())) - 1
