"""Who is only scored: subjects of paired recordings that no weights are trained on. Without torch, for the benches."""

from __future__ import annotations

# Of rendered/, whose 11 subjects are all of CMU's training split: 14 of 53 takes. 016 is held out for validation, too.
RENDERED_HELD_OUT = ("002", "003", "016", "017")
