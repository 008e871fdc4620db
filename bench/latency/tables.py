"""What follows from a latency bench: ratios to the offline model and to the limit, the targets, and the tables."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.report import PERCENTILE_COLUMNS, Percentiles, machine_line, percentile_table

Result = dict[str, Any]


class Target(NamedTuple):
    """A bound on a number, on one core: ``must`` is asked for, ``goal`` is where it should go."""

    what: str
    unit: str
    must: float
    goal: float
    more_is_better: bool = False

    def verdict(self, value: float) -> str:
        """ "goal", "met" or "missed"."""
        sign = 1 if self.more_is_better else -1
        if sign * value >= sign * self.goal:
            return "goal"
        return "met" if sign * value >= sign * self.must else "missed"


STEP = Target("step of one actor, p50", "ms", 0.150, 0.080)
OFFLINE = Target("offline window / step, p50", "times", 150, 300, more_is_better=True)
LIMIT = Target("step / limit of this core", "times", 5, 2.5)
MEMORY = Target("memory with one actor, peak", "MiB", 200, 120)


def ran(result: Result) -> dict[str, Any]:
    """The rows of the runtimes that ran, by name."""
    return {name: row for name, row in result["runtimes"].items() if "batches" in row}


def alone(row: dict[str, Any], what: str) -> Percentiles:
    """Percentiles of a runtime's "push" or "step" of one actor."""
    found: Percentiles = row["batches"][0][what]["percentiles"]
    return found


def ratios(result: Result) -> list[dict[str, Any]]:
    """How many times as long (p50) a window of the offline model takes, for each of its runtimes and of ours."""
    return [
        {"offline": theirs, "runtime": name}
        | {f"by_{what}": timed["percentiles"].p50 / alone(row, what).p50 for what in ("push", "step")}
        for theirs, timed in result["offline"]["runtimes"].items()
        for name, row in ran(result).items()
    ]


def targets(result: Result) -> list[dict[str, Any]]:
    """Each target with what the fastest runtime reached, the offline model on its fastest runtime first."""
    rows = ran(result)
    if not rows:
        return []
    name = min(rows, key=lambda name: alone(rows[name], "step").p50)
    row = rows[name]
    reached = [(STEP, name, alone(row, "step").p50), (LIMIT, name, row["batches"][0]["step_by_limit"])]
    theirs = sorted((one for one in ratios(result) if one["runtime"] == name), key=lambda one: one["by_step"])
    reached += [(OFFLINE, f"{name}, offline in {one['offline']}", one["by_step"]) for one in theirs]
    if row["peak_mib"] is not None:
        reached.append((MEMORY, name, row["peak_mib"]))
    return [
        {"what": target.what, "of": of, "value": value, "unit": target.unit, "must": target.must,
         "goal": target.goal, "verdict": target.verdict(value)}
        for target, of, value in reached
    ]  # fmt: skip


def show(result: Result, screen: Console) -> None:
    """Prints the tables and what follows from them."""
    screen.print(_latencies(result))
    for name, row in ran(result).items():
        screen.print(_stages(name, row))
    screen.print(_limits(result))
    _say_the_rest(result, screen)
    for one in result["ratios"]:
        screen.print(
            f"offline window in {one['offline']} / {one['runtime']}: [bold]{one['by_step']:.0f} times[/] the step, "
            f"{one['by_push']:.0f} times the push (p50)"
        )
    if result["targets"]:
        screen.print(_targets(result))


def _latencies(result: Result) -> Table:
    settings = result["settings"]
    where = f"on core {settings['core']}" if settings["core"] is not None else "not bound to a core"
    threads = f"{settings['threads']} thread{'s' * (settings['threads'] != 1)}"
    table = percentile_table(f"One frame of {settings['joints']} joints, {threads} {where}", {}, "")
    table.caption = machine_line(result["machine"])
    for name, row in ran(result).items():
        for batch in row["batches"]:
            many = f", each of {batch['actors']} actors" if batch["actors"] > 1 else ""
            table.add_row(f"[bold]{name}: push{many}[/]", *batch["push"]["percentiles"].cells())
            table.add_row(f"{name}: step{many}", *batch["step"]["percentiles"].cells())
    offline = result["offline"]
    for name, timed in offline["runtimes"].items():
        what = f"offline window of {offline['window']} in {name}, {offline['parameters'] / 1e6:.1f} M parameters"
        table.add_row(what, *timed["percentiles"].cells())
    return table


def _stages(name: str, row: dict[str, Any]) -> Table:
    table = percentile_table(f"{name}: stages of one actor's pose", {}, "cut stages are differences: no tails")
    for stage, timed in row["stages"].items():
        if isinstance(timed, Percentiles):
            table.add_row(stage, *timed.cells())
        else:
            table.add_row(stage, f"{timed['p50']:.3f}", f"{timed['p90']:.3f}", *[""] * (len(PERCENTILE_COLUMNS) - 2))
    return table


def _limits(result: Result) -> Table:
    core = result["core"]
    rates = f"{core['flops_per_s'] / 1e9:.0f} GFLOP/s, {core['memory_bytes_per_s'] / 1e9:.0f} GB/s from memory"
    table = Table(title=f"What a step needs at least of this core, which does {rates}", title_justify="left",
                  title_style="bold")  # fmt: skip
    for column in (
        "us",
        "actors",
        "weights MB",
        "GB/s",
        "read",
        "MFLOP",
        "compute",
        "limit",
        "step p50",
        "step / limit",
    ):
        table.add_column(column, justify="left" if column == "us" else "right", no_wrap=True)
    for name, row in ran(result).items():
        for batch in row["batches"]:
            limit = batch["limit"]
            us = (limit["read_ms"], limit["compute_ms"], limit["limit_ms"], batch["step"]["percentiles"].p50)
            read, compute, least, step = (f"{1e3 * ms:.1f}" for ms in us)
            megabytes, rate = f"{limit['weight_bytes'] / 1e6:.2f}", f"{limit['bytes_per_s'] / 1e9:.1f}"
            table.add_row(name, str(batch["actors"]), megabytes, rate, read, f"{limit['flops'] / 1e6:.2f}", compute,
                          least, step, f"{batch['step_by_limit']:.2f}")  # fmt: skip
    return table


def _say_the_rest(result: Result, screen: Console) -> None:
    for name, row in result["runtimes"].items():
        if "unavailable" in row:
            screen.print(f"{name}: {row['unavailable']}", markup=False)
        else:
            peak = "" if row["peak_mib"] is None else f", {row['peak_mib']:.0f} MiB resident at most with one actor"
            screen.print(f"{name}: first pose {row['start_s']:.2f} s after the process began to load{peak}")
    if result["not_split"]:
        screen.print(result["not_split"], markup=False)
    for key in ("left_out", "onnx_left_out"):
        if key in result["offline"]:
            screen.print(f"the offline model was left out: {result['offline'][key]}", markup=False)


def _targets(result: Result) -> Table:
    table = Table(title="Targets, of the fastest runtime", title_justify="left", title_style="bold")
    for column in ("what", "of", "reached", "must", "goal", ""):
        table.add_column(column, justify="right" if column in ("reached", "must", "goal") else "left")
    colours = {"goal": "bold green", "met": "green", "missed": "red"}
    for one in result["targets"]:
        numbers = (f"{one[key]:.3g} {one['unit']}" for key in ("value", "must", "goal"))
        table.add_row(one["what"], one["of"], *numbers, f"[{colours[one['verdict']]}]{one['verdict']}[/]")
    return table
