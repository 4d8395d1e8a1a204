"""Measures cases in rounds, so that what the machine's neighbours do hits a case and its ceiling alike."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from scripts.benchmarks.cases import Case, Probe
from scripts.benchmarks.rig import Rig

WARM_UP_S = 0.5


@dataclass(frozen=True)
class Result:
    """What `--json` writes of a case. `value` is the median of the runs, `ratio` the one to the baseline's value."""

    case: str
    value: float
    unit: str
    baseline: str | None
    ratio: float | None
    runs: list[float]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


async def measure(
    rig: Rig, cases: Sequence[Case], runs: int, seconds: float, advance: Callable[[], None]
) -> list[Result]:
    """So many rounds after a short one that does not count; `advance` is called after each probe of each round."""
    values: dict[str, list[float]] = {case.name: [] for case in cases}
    for round_seconds in (min(WARM_UP_S, seconds), *[seconds] * runs):
        figures: dict[Probe, dict[str, float]] = {}
        for case in cases:
            if case.probe not in figures:
                await rig.db.execute("CHECKPOINT")  # else one measurement pays for what the one before wrote
                figures[case.probe] = await case.probe(rig, round_seconds)
                advance()
            values[case.name].append(figures[case.probe][case.figure])
    medians = {name: median(figures[1:]) for name, figures in values.items()}
    return [_result(case, values[case.name][1:], medians) for case in cases]


def probes(cases: Sequence[Case]) -> int:
    """How many probes a round has."""
    return len({case.probe for case in cases})


def _result(case: Case, runs: list[float], medians: dict[str, float]) -> Result:
    value = medians[case.name]
    ratio = value / medians[case.baseline] if case.baseline else None
    return Result(case.name, value, case.unit, case.baseline, ratio, runs)
