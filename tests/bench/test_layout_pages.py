"""docs/layouts.md and its pictures say what the layouts are today."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from bench.layouts import page, picture
from model.layouts import LAYOUTS, get_layout
from tests.helpers.project import ROOT

DOCS = ROOT / "docs"


def test_the_page_is_the_one_that_would_be_written() -> None:
    assert (DOCS / "layouts.md").read_text(encoding="utf-8") == page(), "python -m bench.layouts docs"
    assert {path.stem for path in (DOCS / "layouts").glob("*.svg")} == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_picture_shows_every_joint_that_is_used(name: str) -> None:
    text = picture(name)
    assert (DOCS / "layouts" / f"{name}.svg").read_text(encoding="utf-8") == text, "python -m bench.layouts docs"
    layout = get_layout(name)
    dots = [e.attrib for e in ElementTree.fromstring(text).iter() if e.tag.endswith("circle")]
    assert sum(dot["fill"] == "#263238" for dot in dots) >= layout.measured.sum()
    assert sum(dot["r"] == "3.5" for dot in dots) >= np.count_nonzero((layout.weights != 0).any(0))
    assert all(0 < float(dot["cx"]) < 460 and 0 < float(dot["cy"]) < 470 for dot in dots)
