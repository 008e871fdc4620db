"""What every bench picture begins and ends with: the machine named, one ink, a legend below. matplotlib, no screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#263238"


def titled_figure(title: str, machine: str, size: tuple[float, float]) -> Figure:
    """An empty figure of ``size`` inches, the machine named under its title."""
    figure = Figure(figsize=size, dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}\n{machine}", fontsize=9, color=INK)
    return figure


def save_with_legend(figure: Figure, axes: Any, path: Path) -> Path:
    """Writes the figure with the legend of ``axes`` below it; makes the folder, returns the path."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
