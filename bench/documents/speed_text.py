"""The places of docs/performance.md and of what follows from it, from the latency and service benches."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from bench.documents.cells import Row, bold, table
from bench.documents.results import Stored

Parts = Mapping[str, Stored]
STAGES = ("decode", "checks, layout, fill", "features", "encoder", "pose head + FK", "encode")
RUNTIMES = {"onnx": "ONNX Runtime"}  # of the offline model
NAMES = {"tcp+curve": "tcp, CURVE", "ipc+curve": "ipc, CURVE"}
OURS, BARE = "HPSTM Live", "bare ZeroMQ"  # of bench/service/wire.py, which imports psutil
SERVERS = (2, 3, 4, 8)


def latency(parts: Parts) -> str:
    result = parts["latency"].result
    rows, stages = [], []
    for name, row in result["runtimes"].items():
        if "batches" not in row:
            rows.append([name, f"not here: {row['unavailable']}", *[""] * 6])
            continue
        for batch in row["batches"]:
            many = f"each of {batch['actors']} actors" if batch["actors"] > 1 else "one actor"
            push = "`push_many`" if batch["actors"] > 1 else "`PoseFilter.push`"
            rows.append([name, f"{push}, {many}", *_us(batch["push"]["percentiles"]), ""])
            rows.append([name, f"the step in it, {many}", *_us(batch["step"]["percentiles"]),
                         f"{batch['step_by_limit']:.1f}"])  # fmt: skip
        if set(STAGES) <= row["stages"].keys():
            stages.append([name, *(f"{1e3 * row['stages'][stage]['p50']:.0f}" for stage in STAGES)])
    offline = result["offline"]
    for name, timed in offline["runtimes"].items():
        name = RUNTIMES.get(name, name)
        what = f"offline model, window of {offline['window']}, {offline['parameters'] / 1e6:.1f} M parameters"
        rows.append([name, what, *_us(timed["percentiles"]), ""])
    head = ["runtime", "µs", "p50", "p90", "p99", "p99.9", "max", "× limit"]
    text = [table(head, rows, 2)]
    if stages:
        text.append(table(["p50, µs", *STAGES], stages))
    return "\n\n".join([*text, _ratios(result), _limit(result)])


def _us(percentiles: Row) -> list[str]:
    return [f"{1e3 * percentiles[name]:.0f}" for name in ("p50", "p90", "p99", "p99_9", "max")]


def _ratios(result: Row) -> str:
    """How much longer the offline model takes for each frame."""
    said = [
        f"{one['by_step']:.0f} times as long as the {one['runtime']} step ({one['by_push']:.0f} times a push) in "
        f"{RUNTIMES.get(one['offline'], one['offline'])}"
        for one in result["ratios"]
        if one["runtime"] == "native"
    ]
    why = result["offline"].get("left_out") or result["offline"].get("onnx_left_out")
    text = f"Recomputing the offline model for each frame takes {', '.join(said)}." if said else ""
    return f"{text} The offline model was left out: {why}.".strip() if why else text


def _limit(result: Row) -> str:
    """What "× limit" stands against."""
    first = next((row["batches"][0]["limit"] for row in result["runtimes"].values() if "batches" in row), None)
    if first is None:
        return ""
    return (
        "× limit: the step against what this core needs at least to read the weights "
        f"({first['weight_bytes'] / 1e6:.2f} MB "
        f"at {first['bytes_per_s'] / 1e9:.0f} GB/s: {1e3 * first['read_ms']:.0f} µs) or to do the arithmetic "
        f"({first['flops'] / 1e6:.2f} MFLOP at the {result['core']['flops_per_s'] / 1e9:.0f} GFLOP/s of its matrix "
        f"product: {1e3 * first['compute_ms']:.0f} µs), whichever is longer."
    )


def wire(parts: Parts) -> str:
    result = parts["wire"].result
    bare = {(row["transport"], row["rate_hz"]): row["latency"] for row in result["rows"] if row["what"] == BARE}
    ours = [row for row in result["rows"] if row["what"] == OURS]
    rows = []
    for row in ours:
        p, other = row["latency"], bare[row["transport"], row["rate_hz"]]
        rows.append([
            NAMES.get(row["transport"], row["transport"]), f"{row['rate_hz']:g}", bold(f"{p['p50']:.2f}"),
            f"{p['p90']:.2f}", bold(f"{p['p99']:.2f}"), f"{p['p99_9']:.2f}", f"{p['max']:.2f}",
            f"{row['jitter_ms']['std']:.2f}", f"{other['p50']:.2f} / {other['p99']:.2f}", str(row["lost"]),
        ])  # fmt: skip
    head = ["over", "Hz", "p50", "p90", "p99", "p99.9", "max", "jitter, std", "bare ZeroMQ, p50 / p99", "lost"]
    example = next((row for row in ours if (row["transport"], row["rate_hz"]) == ("tcp", 60)), ours[0])
    spent = ", ".join(f"{name.replace('→', 'to')} {one['p50']:.2f}" for name, one in example["stages"].items())
    starts = result["start_s"]
    return table(head, rows) + (
        f"\n\nOf {example['transport']} at {example['rate_hz']:g} Hz (p50): {spent}. The server is ready "
        f"{sorted(starts)[len(starts) // 2]:.2f} s after its start and has {result['resident_mib']:.0f} MiB resident "
        "with one actor."
    )


def live(parts: Parts) -> str:
    rows = [[f"{row['rate_hz']:g}", *(f"{row['latency'][name]:.2f}" for name in ("p50", "p90", "p99", "max")),
             f"{row['latency']['count']}", str(row["overtaken"])]
            for row in parts["live"].result["rows"]]  # fmt: skip
    return table(["Hz", "p50, ms", "p90", "p99", "max", "frames", "overtaken"], rows)


def crowds(parts: Parts) -> str:
    rows = []
    for part in ("crowds-one", "crowds"):
        result = parts[part].result
        for row in result["rows"]:
            most = row["most"]
            cells = ["**0**", "", "", ""]
            if most is not None:
                more = "+" if most["actors"] == result["settings"]["limit"] else ""
                p = most["latency"]
                cells = [bold(f"{most['actors']}{more}"), f"{p['p50']:.1f}", f"{p['p99']:.1f}",
                         f"{1e3 * most['frame_ms']:.0f}"]  # fmt: skip
            rows.append([row["way"], str(result["settings"]["threads"]), f"{row['rate_hz']:g}", *cells])
    return table(["through", "threads", "Hz", "actors", "p50, ms", "p99, ms", "µs a frame"], rows)


def most_actors(stored: Stored, way: str) -> dict[float, int]:
    """By frame rate [Hz]."""
    return {row["rate_hz"]: row["most"]["actors"] if row["most"] else 0
            for row in stored.result["rows"] if row["way"] == way}  # fmt: skip


def several(parts: Parts) -> str:
    """The table of docs/many-actors.md: arithmetic on what one server carries."""
    rows = [[f"{rate:g}", str(one), *(str(with_servers(one, n)) for n in SERVERS)]
            for rate, one in most_actors(parts["crowds"], "server, tcp").items()]  # fmt: skip
    return table(["Hz", "one server", "2 servers, one may die", *map(str, SERVERS[1:])], rows)


def with_servers(one: int, servers: int) -> int:
    """The most actors of which each server carries its share while another is away: the mean and two standard
    deviations of the binomial are at most what ``one`` server carries."""
    share = 1.0 / (servers - 1)
    actors = 0
    while (actors + 1) * share + 2 * sqrt((actors + 1) * share * (1 - share)) <= one:
        actors += 1
    return actors


def soak(parts: Parts) -> str:
    result = parts["soak"].result
    settings, push, memory = result["settings"], result["push_us"], result["resident_mib"]
    early, late = result["against_fresh"][0], result["against_fresh"][-1]
    return (
        f"{settings['hours']:.3g} h at {settings['rate_hz']:g} Hz in {result['took_s'] / 60:.1f} minutes: "
        f"{result['pushes']:,} pushes, {push['early']:.0f} µs of processor time each in the second tenth of it, "
        f"{push['late']:.0f} µs in the last; {memory['early']:.1f} and {memory['late']:.1f} MiB resident, the bench's "
        f"own making of motion included. From a fresh filter that saw the last {late['tail_s']:g} s alone, a joint "
        f"differed by {early['max_mm']:.3f} mm at most after {early['after_s']:g} s, and by {late['max_mm']:.3f} mm at "
        "the end."
    )
