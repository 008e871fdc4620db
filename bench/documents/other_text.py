"""Places of the documents that one bench each fills: velocities, feet, what each part of the network is worth."""

from __future__ import annotations

from collections.abc import Mapping

from bench.documents.cells import Row, bold, table, when
from bench.documents.results import Stored

Parts = Mapping[str, Stored]
WAYS = {"HPSTM Live": "velocity", "differences of its poses": "differences of poses",
        "differences of One-Euro's": "of One-Euro's"}  # fmt: skip


def velocity(parts: Parts) -> str:
    result = parts["velocity"].result
    found: dict[tuple[str, float], dict[float, Row]] = {}
    for row in result["rows"]:
        found.setdefault((row["noise"], row["at_s"]), {})[row["rate_hz"]] = row
    rates = list(dict.fromkeys(row["rate_hz"] for row in result["rows"]))
    speed = sum(row["speed"] for row in result["rows"]) / len(result["rows"])
    head = [f"noise, pose for (mean speed {speed:.2f} m/s)"]
    for rate in rates:
        head += [f"{rate:g} Hz: {WAYS['HPSTM Live']}", *list(WAYS.values())[1:]]
    rows = [[f"{noise}, {when(at)}", *(cell for rate in rates for cell in _three(by_rate[rate]))]
            for (noise, at), by_rate in found.items()]  # fmt: skip
    cost = result["push_us"]
    return table(head, rows) + (
        f"\n\nA push takes {cost['without']:.0f} µs of processor time without velocities, {cost['with']:.0f} with them."
    )


def _three(row: Row) -> list[str]:
    """The errors of the three ways; the least is bold, none where two are alike."""
    texts = [f"{row[name]:.3f}" for name in WAYS]
    least = min(texts)
    return [bold(text) if text == least and texts.count(least) == 1 else text for text in texts]


def feet(parts: Parts) -> str:
    head = ["noise", "lock", "slide of planted feet, mm a frame: p50", "p90", "p99", "under 2 mm",
            "acceleration at release, m/s²: p50", "p99", "MPJPE", "from the pelvis", "legs", "legs in 1 sigma",
            "push, µs"]  # fmt: skip
    rows = []
    for row in parts["feet"].result["rows"]:
        slide = [f"{row[f'slide_mm_p{q}']:.1f}" for q in (50, 90, 99)]
        rows.append([
            row["noise"], "on" if row["foot_lock"] else "off", *slide, f"{row['under_2_mm']:.0%}",
            *(f"{row[f'release_m_s2_p{q}']:.0f}" for q in (50, 99)),
            *(f"{row[name]:.1f}" for name in ("world_mm", "root_mm", "legs_mm")), f"{row['covered']:.2f}",
            f"{row['push_us']:.0f}",
        ])  # fmt: skip
    return table(head, rows, 2)


def ablation(parts: Parts) -> str:
    stored = parts["ablation"]
    names = {
        "realistic": "now",
        "late": "-100 ms",
        "ahead": "+100 ms",
        "mild": "mild",
        "white10": "white 10 mm",
        "lost_arm": "lost arm",
        "clean": "clean",
    }  # COLUMNS of bench/accuracy/ablation.py, which imports torch
    rows = [[row["variant"], *(f"{row[f'{c}_out_mm']:.1f} / {row[f'{c}_out_accel']:.1f}" for c in names)]
            for row in stored.result["rows"]]  # fmt: skip
    if "twin" in stored.left_out:
        rows.append(["taught by the twin", stored.left_out["twin"], *[""] * (len(names) - 1)])
    s = stored.result["settings"]
    said = f"{s['steps']} steps of {s['batch']} x {s['frames']} frames each."
    return f"{table(['variant', *names.values()], rows)}\n\n{said}"
