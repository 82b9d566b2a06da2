"""Draws the plots of docs/performance.md as SVG files that are legible on light and dark pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

_BLUE, _ORANGE, _GREY = "#4285d8", "#d9762b", "#808080"  # each with contrast on black and on white
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the font of the reader's system
    "svg.hashsalt": "lookalike",  # equal figures give equal files
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "axes.edgecolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "grid.color": _GREY,
    "grid.alpha": 0.25,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "legend.frameon": False,
}


def draw_clients(points: list[dict[str, Any]], path: Path) -> None:
    """Draw throughput and latency of uploads and searches over the number of clients."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        throughput, latency = figure.subplots(1, 2)
        clients = [point["clients"] for point in points]
        for kind, colour in (("uploads", _BLUE), ("searches", _ORANGE)):
            values = [point[kind] for point in points]
            throughput.plot(
                clients, [each["rate"] for each in values], "o-", color=colour, label=kind
            )
            for name, line in (("p50", "o-"), ("p95", "o:")):
                times = [each[f"{name}_ms"] for each in values]
                latency.plot(clients, times, line, color=colour, label=f"{kind}, {name}")
        throughput.set_title("Requests per second")
        throughput.set_ylim(0, 1.1 * throughput.get_ylim()[1])
        latency.set_title("Latency, ms")
        latency.set_yscale("log")
        for axes in (throughput, latency):
            _finish(axes, clients, "clients")
        _save(figure, path)


def draw_masters(points: list[dict[str, Any]], path: Path) -> None:
    """Draw the time of a search and the memory of the service over the number of masters."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        times, memory = figure.subplots(1, 2)
        masters = [point["masters"] for point in points]
        lines = (
            ("image_p50_ms", "with an image", _BLUE),
            ("master_p50_ms", "with a stored master", _ORANGE),
        )
        for key, label, colour in lines:
            times.plot(masters, [point[key] for point in points], "o-", color=colour, label=label)
        times.set_title("Search inside the service, median, ms")
        times.set_yscale("log")
        memory.plot(masters, [point["mb"] for point in points], "o-", color=_BLUE)
        memory.set_title("Resident memory, MB")
        memory.set_ylim(0, 1.1 * memory.get_ylim()[1])
        for axes in (times, memory):
            _finish(axes, masters, "masters")
        _save(figure, path)


def _finish(axes: Axes, places: list[int], label: str) -> None:
    """Set a logarithmic axis with a mark at each place, a grid and a legend."""
    axes.set_xscale("log")
    axes.set_xticks(
        places, [f"{place:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") for place in places]
    )
    axes.minorticks_off()
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(label)
    axes.grid(visible=True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})
