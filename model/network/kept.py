"""Where the source places joints: what slow means say of it is the source's own way, and no error.

``Kept``, against what the network draws, is added to what it draws. ``Apart``, of the skeleton against the source's
joints, so refined: bones keep their length, so what moves between the two is noise, most of it the source's.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from model.network.evidence import DELAYED_S, Evidence
from model.network.levels import TINY_M2, refined_share
from model.skeleton import J

_DOUBTED_S = 2.0  # a constant difference of a joint is half believed after this time,
_LATER_S = 2.0  # so much later where there is noise,
_SLOW_S = 30.0  # and later yet where it is slow: then it looks like one
_KEPT_S = 20.0  # and forgotten over this
_KEPT_M = 0.1  # one frame counts for no more
_APART_S = 0.7  # where the skeleton lies beside the source's joints is half believed after this time,
_SINCE_S = 8.0  # is forgotten over this, since skeletons are measured anew,
_MOVES_S = 3.0  # and by how much it changes is a mean over this
_FIRM = 0.8  # at most so much of what moves is taken away,
_NOISY = 0.5  # half of that where it is this share of the noise,
_SMOOTHED = 0.6  # of which smoothers have taken so much


class Kept(NamedTuple):
    """What the source's joints differ by from the drawn ones, in the axes of the joint's parent: a slow mean."""

    moved_m: Tensor  # (B, J, 3)
    moved_s: Tensor  # (B, J, 1) for how long that was seen

    def after(self, off_m: Tensor, shown: Tensor, doubted_s: Tensor, dt_s: Tensor) -> Kept:
        """With a frame more, dt_s (B, 1, 1) [s] after the one before: off_m (B, J, 3) of joints that are shown
        (B, J, 1) or not, half believed after doubted_s (B, J, 1)."""
        weight = _weight(shown, dt_s)
        seen_s = (self.moved_s + weight).clamp(max=_KEPT_S)
        return Kept(self.moved_m + weight / (seen_s + doubted_s) * _news(off_m - self.moved_m), seen_s)


class Apart(NamedTuple):
    """What the skeleton's joints differ by from the source's, in those axes: a mean, and how far it is from it."""

    apart_m: Tensor  # (B, J, 3)
    moves_m2: Tensor  # (B, J, 1)

    def after(self, apart_m: Tensor, shown: Tensor, seen_s: Tensor, dt_s: Tensor) -> Apart:
        """With a frame more, as ``Kept``; seen_s (B, J, 1) [s] for how long."""
        weight = _weight(shown, dt_s)
        mean = self.apart_m + weight / (seen_s.clamp(max=_SINCE_S) + _APART_S) * _news(apart_m - self.apart_m)
        square = (apart_m - mean).square().sum(2, keepdim=True)
        gain = weight / (seen_s.clamp(max=_MOVES_S) + 0.3)
        return Apart(mean, self.moves_m2 + gain * (square - self.moves_m2))

    def firmness(self, evidence: Evidence, tau_s: Tensor) -> Tensor:
        """(B, J, 1) how much of what moves is the source's noise: none on clean input, whatever moves there."""
        noise = evidence.noise_m2
        smoothed = _SMOOTHED * (-tau_s / DELAYED_S).clamp(0.0, 1.0)
        noise = noise - smoothed * (noise - torch.minimum(evidence.slow_m2, noise))
        noise, share = (x.reshape(-1, J, 1) for x in (_NOISY * noise, refined_share(evidence.noise_m2)))
        return _FIRM * share * noise / (noise + self.moves_m2 + TINY_M2)


Mean = TypeVar("Mean", Kept, Apart)


def doubted_s(evidence: Evidence) -> Tensor:
    """(B, J, 1) after what time a constant difference is half believed: soon where there is no noise, or white one."""
    white = 2 * evidence.jitter_m2 / evidence.noise_m2.clamp(min=1e-9)
    slow = (1 - white).clamp(min=0.0).square()
    later: Tensor = _DOUBTED_S + refined_share(evidence.noise_m2) * (_LATER_S + _SLOW_S * slow)
    return later.reshape(-1, J, 1)


def over_time(of: type[Mean], dt_s: Tensor, *parts: Tensor) -> Mean:
    """``Kept`` or ``Apart`` after each frame of sequences, dt_s (B, T), of parts (B * T, J, ...) as ``after`` takes."""
    frames: list[Tensor] = [part.reshape(*dt_s.shape, J, -1) for part in parts]
    mean = of(*(torch.zeros_like(part[:, 0]) for part in frames[:2]))
    rows = []
    for t in range(dt_s.shape[1]):
        news: list[Tensor] = [part[:, t] for part in (*frames, dt_s[..., None, None])]
        mean = mean.after(*news)
        rows.append(mean)
    return of(*(torch.stack(part, 1).flatten(0, 1) for part in zip(*rows, strict=True)))


def _weight(shown: Tensor, dt_s: Tensor) -> Tensor:
    return shown * dt_s.clamp(min=1e-3, max=0.1)


def _news(news_m: Tensor) -> Tensor:
    length = torch.sqrt(news_m.square().sum(2, keepdim=True) + TINY_M2)
    return news_m / (length / _KEPT_M).clamp(min=1.0)
