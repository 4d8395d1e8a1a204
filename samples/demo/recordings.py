"""The sample recordings as arrays."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rigmesh_client import Channel

FOLDER = Path(__file__).parent.parent / "shoulder_imu"
SIGNALS = ("ax", "ay", "az", "wx", "wy", "wz")
PERIOD_NS = 20_000_000
PAUSE_NS = 10**9

CHANNELS = [Channel(signal, "g" if signal.startswith("a") else "rad/s", PERIOD_NS) for signal in SIGNALS]


@dataclass(frozen=True)
class Recording:
    """One recording, placed on the time axis."""

    name: str
    subject: int
    start_ns: int
    values: dict[str, NDArray[np.float64]]

    @property
    def rows(self) -> int:
        """Instants; there is a sample of each signal at each."""
        return len(self.values["ax"])

    @property
    def time_ns(self) -> NDArray[np.int64]:
        """Its own times: sample k is 20 ms · k after the start."""
        return self.start_ns + PERIOD_NS * np.arange(self.rows, dtype=np.int64)


def load(end_ns: int) -> list[Recording]:
    """All recordings, one after the other with a second between them, the last one ending shortly before `end_ns`."""
    entries = json.loads((FOLDER / "manifest.json").read_text())
    length_ns = sum(entry["rows"] * PERIOD_NS + PAUSE_NS for entry in entries)
    start_ns = end_ns - length_ns
    recordings = []
    for entry in entries:
        columns = _columns(FOLDER / entry["file"])
        recordings.append(Recording(entry["file"].split(".")[0], entry["subject"], start_ns, columns))
        start_ns += entry["rows"] * PERIOD_NS + PAUSE_NS
    return recordings


def _columns(file: Path) -> dict[str, NDArray[np.float64]]:
    with gzip.open(file, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", skiprows=1).T
    return dict(zip(SIGNALS, table[1:], strict=True))
