"""The cases: the explicit list, in the order of the table. A case and its ceiling are measured one after the other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from scripts.benchmarks import ingest
from scripts.benchmarks.ceilings import block_copy, row_copy
from scripts.benchmarks.echo import echo
from scripts.benchmarks.rig import Rig

Probe = Callable[[Rig, float], Awaitable[dict[str, float]]]
"""Measures for some seconds; returns figures by name."""


@dataclass(frozen=True)
class Case:
    """A line of the table. Cases that share a probe are measured by one call of it."""

    name: str
    unit: str
    baseline: str | None
    probe: Probe
    figure: str = "rate"


BLOCK_COPY = {size: partial(block_copy, series_samples=size) for size in (200, 1000, 5000)}
INGEST = {size: partial(ingest.rate, series_samples=size) for size in (200, 1000, 5000)}
INGEST_1000_SIX = partial(ingest.rate, series_samples=1000, signals=6)
INGEST_1000_ENVOY = partial(ingest.rate, series_samples=1000, through_envoy=True)
ACK_LATENCY = partial(ingest.ack_latency, series_samples=1000)
RATE = "samples/s"

CASES = (
    Case("ceiling_block_copy_1000", RATE, None, BLOCK_COPY[1000]),
    Case("ingest_1000", RATE, "ceiling_block_copy_1000", INGEST[1000]),
    Case("ceiling_row_copy", RATE, None, row_copy),
    Case("ingest_1000_vs_rows", RATE, "ceiling_row_copy", INGEST[1000]),
    Case("ingest_1000_six", RATE, "ceiling_block_copy_1000", INGEST_1000_SIX),
    Case("ingest_1000_envoy", RATE, "ceiling_block_copy_1000", INGEST_1000_ENVOY),
    Case("ceiling_block_copy_200", RATE, None, BLOCK_COPY[200]),
    Case("ingest_200", RATE, "ceiling_block_copy_200", INGEST[200]),
    Case("ceiling_block_copy_5000", RATE, None, BLOCK_COPY[5000]),
    Case("ingest_5000", RATE, "ceiling_block_copy_5000", INGEST[5000]),
    Case("ceiling_grpc_echo", "messages/s", None, echo),
    Case("ack_latency_p50", "ms", None, ACK_LATENCY, "p50"),
    Case("ack_latency_p99", "ms", None, ACK_LATENCY, "p99"),
)


def select(names: list[str]) -> list[Case]:
    """The named cases with their ceilings, all if none is named. ValueError: there is no such case."""
    by_name = {case.name: case for case in CASES}
    if unknown := sorted(set(names) - by_name.keys()):
        raise ValueError(f"no case {', '.join(unknown)}; there are {', '.join(by_name)}")
    wanted = set(names or by_name)
    wanted |= {baseline for name in wanted if (baseline := by_name[name].baseline)}
    return [case for case in CASES if case.name in wanted]
