"""The places of docs/accuracy.md and of the model card, from what `hpstm evaluate` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.accuracy.methods import FILTER
from bench.documents.cells import GONE, TUNED, Row, bold, errors, interval, table, when
from bench.documents.results import Stored

NOISES = ("realistic", "mild", "lifted", "white10", "ar30", "hpstm", "drift", "clean")
TIMES_S = (0.0, -0.1, 0.1)
AHEAD = ("realistic", "lifted", "white10")  # whose errors ahead of the newest frame are shown
PEERS = {"SmoothNet": "SmoothNet", "offline model": "offline*", "twin": "twin*"}
LOST = {"lost_joint": "one joint", "lost_arm": "a forearm", "lost_leg": "a lower leg", "lost_body": "everything"}
Parts = Mapping[str, Stored]
Cases = dict[tuple[str, float], dict[str, Row]]  # noise, time -> method -> scores


def cases(stored: Stored) -> Cases:
    """The scores of all frames."""
    found: Cases = {}
    for row in stored.result["rows"]:
        found.setdefault((row["noise"], round(row["at_s"], 4)), {})[row["method"]] = row["all"]
    return found


def best(scores: Mapping[str, Row], of: Sequence[str] = TUNED) -> tuple[str, Row] | None:
    """The filter of least MPJPE among some."""
    known = {name: scores[name] for name in of if name in scores}
    return min(known.items(), key=lambda one: one[1]["mpjpe_root_mm"]) if known else None


def _best_cell(scores: Mapping[str, Row], of: Sequence[str] = TUNED, named: bool = True) -> str:
    found = best(scores, of)
    return "" if found is None else errors(found[1]) + (f" ({found[0]})" if named else "")


def _shown(found: Cases) -> list[tuple[str, float]]:
    """Noise and time of the rows, in order."""
    return [(noise, at) for noise in NOISES for at in TIMES_S
            if (noise, at) in found and (at <= 0 or noise in AHEAD) and (not at or noise != "clean")]  # fmt: skip


def accuracy(parts: Parts) -> str:
    found, peers = cases(parts["accuracy"]), parts.get("peers")
    said = {} if peers is None else cases(peers)
    left_out = {} if peers is None else peers.left_out
    alike = peers is not None and _clips(peers) == _clips(parts["accuracy"])

    def peer(noise: str, at: float, method: str) -> str:
        if noise not in AHEAD or at > 0:
            return ""  # not asked for
        if peers is None:
            return GONE
        if method in left_out:
            return "no weights"
        return errors(said.get((noise, at), {}).get(method)) if alike else "other clips"

    head = ["noise", "pose for", "input, held", "best tuned filter", "SmoothNet", f"**{FILTER}**", "95 %", "in 1 sigma",
            PEERS["offline model"], PEERS["twin"]]  # fmt: skip
    rows = []
    for noise, at in _shown(found):
        scores = found[noise, at]
        rows.append([
            noise, when(at), errors(scores["input"]), _best_cell(scores), peer(noise, at, "SmoothNet"),
            *_ours(scores[FILTER]), peer(noise, at, "offline model"), peer(noise, at, "twin"),
        ])  # fmt: skip
    missing = [f"{name}: {why}." for name, why in left_out.items()]
    return "\n\n".join([table(head, rows, 2), *missing])


def _clips(stored: Stored) -> list[object]:
    """What two results must have in common to stand in one table."""
    return [stored.result["settings"][key] for key in ("data", "split", "clips", "seconds")]


def _ours(scores: Row) -> list[str]:
    return [bold(errors(scores)), interval(scores["mpjpe_root_mm_95"]), f"{scores['in_1_sigma']:.2f}"]


FILES = """All methods and scores (world, PA, lag, swing, twist, sliding, by speed):
[bench/results/accuracy_test.md](../bench/results/accuracy_test.md),
[accuracy_peers.md](../bench/results/accuracy_peers.md), [accuracy_unseen.md](../bench/results/accuracy_unseen.md).
Pictures: [against delay](../bench/results/accuracy_against_delay.png),
[against jitter](../bench/results/accuracy_against_jitter.png),
[through a gap](../bench/results/error_through_a_gap.png), [calibration](../bench/results/calibration.png)."""


def files(_: Parts) -> str:
    """Where the rest of the same results is."""
    return FILES


def more(parts: Parts) -> str:
    """What else the same pass says of the realistic noise."""
    rows = [row for row in parts["accuracy"].result["rows"] if not row["at_s"]]
    ours = {row["noise"]: row for row in rows if row["method"] == FILTER}
    given = next(row["all"] for row in rows if (row["noise"], row["method"]) == ("realistic", "input"))
    s, settled = ours["realistic"]["all"], ours["realistic"]["settled"]
    white = f" (white10: {ours['white10']['all']['lag_ms']:.0f})" if "white10" in ours else ""
    speeds = " / ".join(f"{s[f'{name}_mm']:.0f}" for name in ("slow", "medium", "fast"))
    return (
        f"More of the same pass: realistic noise, now: lag of the motion {s['lag_ms']:.0f} ms{white}, swing "
        f"{s['swing_deg']:.1f}° and twist {s['twist_deg']:.1f}° of joints that have a child, slow / medium / fast "
        f"joints {speeds} mm, feet slide {s['foot_sliding_mm_s']:.0f} mm/s (the input "
        f"{given['foot_sliding_mm_s']:.0f}, the truth {s['foot_sliding_true_mm_s']:.0f}), bone std after calibration "
        f"{settled['bone_std_mm']:.3f} mm "
        f"(the input {_settled(rows, 'input')['bone_std_mm']:.1f})."
    )


def _settled(rows: Sequence[Row], method: str) -> Row:
    found: Row = next(row["settled"] for row in rows if (row["noise"], row["method"]) == ("realistic", method))
    return found


def unseen(parts: Parts) -> str:
    found = cases(parts["unseen"])
    head = ["noise", "pose for", "input, held", "best tuned filter", f"**{FILTER}**", "95 %", "in 1 sigma"]
    rows = [[noise, when(at), errors(found[noise, at]["input"]), _best_cell(found[noise, at]),
             *_ours(found[noise, at][FILTER])] for noise, at in _shown(found)]  # fmt: skip
    return table(head, rows, 2)


def delays(parts: Parts) -> str:
    stored = parts["delays"]
    rate_hz = stored.result["settings"]["rate_hz"][0]
    frames = {-round(at * rate_hz): scores for (_, at), scores in sorted(cases(stored).items(), reverse=True)}
    some = ("One-Euro", "Kalman")
    rows = [
        ["input, held", *(errors(scores["input"]) for scores in frames.values())],
        [f"best of {', '.join(some)}", *(_best_cell(scores, some, False) for scores in frames.values())],
        [f"**{FILTER}**", *(bold(errors(scores[FILTER])) for scores in frames.values())],
    ]
    return table(["frames", *map(str, frames)], rows)


def lost(parts: Parts) -> str:
    found = cases(parts["lost"])
    rows = []
    for noise, name in LOST.items():
        scores = found[noise, 0.0]
        others = [f"{scores[method]['gap_mm']:.0f}" for method in ("input", "Kalman")]
        ours = scores[FILTER]
        rows.append([name, *others, f"**{ours['gap_mm']:.0f}**", interval(ours["gap_mm_95"])])
    return table(["lost", "input, held", "Kalman", f"**{FILTER}**", "95 %"], rows)


def rates(parts: Parts) -> str:
    found: dict[tuple[float, float], dict[str, Row]] = {}
    for row in parts["rates"].result["rows"]:
        found.setdefault((row["rate_hz"], row["at_s"]), {})[row["method"]] = row["all"]
    some = ("One-Euro", "Kalman")
    rows = [[f"{rate:g} Hz, {when(at)}", errors(s["input"]), _best_cell(s, some, False), bold(errors(s[FILTER]))]
            for (rate, at), s in found.items()]  # fmt: skip
    clips = parts["rates"].result["settings"]["clips"]
    head = [f"rate, pose for ({clips} clips, realistic)", "input, held", f"best of {', '.join(some)}", f"**{FILTER}**"]
    return table(head, rows)


def recordings(parts: Parts) -> str:
    stored = parts["recordings"]
    rows = []
    for row in stored.result["recordings"]:
        settled = row["bone_std_settled_mm"]
        rows.append([
            f"{row['recording']} ({row['rate_hz']:.0f} Hz, {row['frames'] / row['rate_hz']:.0f} s)",
            bold(row["method"]) if row["method"] == FILTER else row["method"], f"{row['accel_mm']:.1f}",
            f"{row['bone_std_mm']:.2f}", "too short" if settled is None else f"{settled:.3f}", f"{row['lag_ms']:.0f}",
        ])  # fmt: skip
    head = ["recording", "method", "Accel", "bone std", "after the bones were measured", "lag behind the input, ms"]
    missing = [f"{name}: {why}." for name, why in stored.left_out.items()]
    return "\n\n".join([table(head, rows, 2), *missing])


def card(parts: Parts) -> str:
    """The same for the model card."""
    found = cases(parts["accuracy"])
    head = ["noise", "pose for", "input, held", "best tuned filter", "this model", "in 1 sigma"]
    rows = [[noise, when(at), errors(s["input"]), _best_cell(s), errors(s[FILTER]), f"{s[FILTER]['in_1_sigma']:.2f}"]
            for noise, at in _shown(found) for s in (found[noise, at],)]  # fmt: skip
    return table(head, rows, 2)
