"""What every method says of a set of pairs: the live filter and the learned peers take by take, today's filters on all
takes side by side, which makes it cheap to try every setting that they were ever tuned to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bench.accuracy import baselines, tuned
from bench.accuracy.answers import Answers, Seen
from bench.accuracy.baselines import Baseline
from bench.accuracy.learned import WHOLE_TAKE
from bench.accuracy.methods import FILTER, SMOOTHERS, Case, held, live
from bench.accuracy.pairs import Pair
from model.layouts import get_layout
from model.skeleton import J
from streamer.clock import SECOND_NS
from streamer.runtimes.block import Runtime

REFINED = f"{FILTER}, source's joints"
INPUT = "input"
TUNED: dict[str, tuple[str, Callable[..., Baseline]]] = {
    "One-Euro": ("one_euro", baselines.OneEuro),
    "Kalman": ("kalman", baselines.Kalman),
    "Holt": ("holt", baselines.Holt),
    "Savitzky-Golay": ("savitzky_golay", baselines.SavitzkyGolay),
}


def filters(method: str, rate_hz: float, at_s: float, noises: Sequence[str] = ()) -> Iterator[tuple[str, Baseline]]:
    """One of SMOOTHERS with its settings for these noises (none: for all), by the noise; "" where it has but one."""
    if method not in TUNED:
        yield "", SMOOTHERS[method](Case("realistic", rate_hz, at_s))
        return
    name, kind = TUNED[method]
    for noise in noises or dict.fromkeys(row["noise"] for row in tuned.read()["rows"] if row["method"] == name):
        yield noise, kind(at_s, **tuned.settings(name, noise, rate_hz, at_s))


class SideBySide:
    """Takes of one clock as one stream (T, C * J, 3), so that a filter steps all of them at once; missing is held."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.joints = sorted({j for pair in pairs for j in pair.given})
        longest = max(pairs, key=lambda pair: len(pair.t_ns))
        self.times_s = longest.t_ns / SECOND_NS
        stacked = np.full((len(self.times_s), len(pairs), len(self.joints), 3), np.nan)
        for c, pair in enumerate(pairs):
            stacked[: len(pair.t_ns), c] = pair.seen[0][:, self.joints]
        self.given = held(self.times_s, stacked.reshape(len(self.times_s), -1, 3))

    def answers(self, baseline: Baseline) -> Iterator[tuple[Pair, Answers]]:
        said = baselines.run(baseline, self.times_s, self.given)
        said = said.reshape(len(self.times_s), len(self.pairs), -1, 3)
        for c, pair in enumerate(self.pairs):
            positions = np.full((len(pair.t_ns), J, 3), np.nan)
            positions[:, self.joints] = said[: len(pair.t_ns), c]
            yield pair, Answers(pair.t_ns + round(baseline.at_s * SECOND_NS), positions)


def side_by_side(pairs: Sequence[Pair]) -> list[SideBySide]:
    """Takes in groups of one clock: the times of a shorter one begin a longer one's."""
    groups: list[list[Pair]] = []
    for pair in sorted(pairs, key=lambda pair: -len(pair.t_ns)):
        for group in groups:
            if np.abs(group[0].t_ns[: len(pair.t_ns)] - pair.t_ns).max() < 1e6:
                group.append(pair)
                break
        else:
            groups.append([pair])
    return [SideBySide(group) for group in groups]


def live_answers(
    runtime: Runtime, pair: Pair, at_s: Sequence[float], landmarks: bool = False
) -> dict[str, list[Answers]]:
    """The live filter's answers for each time asked for; where its poses have them, in the source's joints, too."""
    said = live(runtime, pair.frames, at_s, landmarks)
    refined = [one.source for one in said if one.source is not None]
    if not refined:
        return {FILTER: said}
    own = [get_layout(pair.layout).to_canonical(source)[0].astype(np.float64) for source in refined]
    return {FILTER: said, REFINED: [one._replace(positions=xyz) for one, xyz in zip(said, own, strict=True)]}


def peer_answers(method: str, pair: Pair, at_s: Sequence[float]) -> list[Answers]:
    """A learned peer's answers for each time asked for."""
    answers = WHOLE_TAKE[method](pair.t_ns, Seen(*pair.seen))
    return [answers(at) for at in at_s]
