"""Data of the benchmark: random walks rounded to two digits, sampled at 1 kHz with ±1 % of jitter in their times."""

import numpy as np
from numpy.typing import NDArray

PERIOD_NS = 1_000_000
JITTER_NS = PERIOD_NS // 100
DISTINCT = 64
AGE_NS = 86_400 * 10**9  # walks begin a day ago: the server takes no times of the future


class Walk:
    """One signal in series of equal length. Values repeat after 64 series, times never do."""

    def __init__(self, seed: int, samples: int, start_ns: int) -> None:
        random = np.random.default_rng(seed)
        steps = random.normal(0, 0.1, (DISTINCT, samples))
        self._values = (20 + np.cumsum(steps).reshape(DISTINCT, samples)).round(2)
        self._offsets_ns = PERIOD_NS * np.arange(samples) + random.integers(-JITTER_NS, JITTER_NS, (DISTINCT, samples))
        self._span_ns = PERIOD_NS * samples
        self._start_ns = start_ns

    def series(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Times (ns since 1970) and values of a series, counted from 0."""
        times_ns = self._offsets_ns[number % DISTINCT] + (self._start_ns + number * self._span_ns)
        return times_ns, self._values[number % DISTINCT]
