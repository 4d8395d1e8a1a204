"""The table at the end; 80 columns wide."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from scripts.benchmarks.measuring import Result


def print_table(console: Console, results: Sequence[Result]) -> None:
    """One line a case: median, lowest and highest run, ratio to the baseline."""
    table = Table(box=SIMPLE, collapse_padding=True, pad_edge=False, show_edge=False)
    table.add_column("case", no_wrap=True)
    for heading in ("median", "spread", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("to", no_wrap=True)
    for result in results:
        scale, unit = _scale(result)
        low, high = min(result.runs) / scale, max(result.runs) / scale
        ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
        table.add_row(
            result.case, f"{result.value / scale:.2f} {unit}", f"{low:.2f}-{high:.2f}", ratio, result.baseline
        )
    table.caption = "M/s: million samples a second; k/s: thousand messages a second"
    console.print(table)


def _scale(result: Result) -> tuple[float, str]:
    return {"samples/s": (1e6, "M/s"), "messages/s": (1e3, "k/s"), "ms": (1, "ms")}[result.unit]
