"""The demo says "identical" only of what is."""

import itertools
import json

import numpy as np
import pytest

from samples.demo.readback import Columns, differences
from samples.demo.recordings import FOLDER, PERIOD_NS, SIGNALS, Recording, load
from samples.demo.study import scale

END_NS = 1_700_000_000 * 10**9


def read_back(recording: Recording) -> tuple[Columns, Columns]:
    """Raw and physical as a faithful server answers."""
    raw = {signal: (recording.time_ns, values.copy()) for signal, values in recording.values.items()}
    physical = {signal: (times, scale(signal) * values) for signal, (times, values) in raw.items()}
    return raw, physical


def test_recordings_are_whole_and_do_not_overlap() -> None:
    recordings = load(END_NS)
    rows = {entry["file"].split(".")[0]: entry["rows"] for entry in json.loads((FOLDER / "manifest.json").read_text())}
    assert {recording.name: recording.rows for recording in recordings} == rows
    assert all(tuple(recording.values) == SIGNALS for recording in recordings)
    for before, after in itertools.pairwise(recordings):
        assert before.time_ns[-1] < after.time_ns[0]
    assert recordings[-1].time_ns[-1] < END_NS


def test_recordings_have_the_period_that_the_files_say() -> None:
    for recording in load(END_NS):
        elapsed_s = np.loadtxt(FOLDER / f"{recording.name}.csv.gz", delimiter=",", skiprows=1, usecols=0)
        assert np.array_equal(np.round(elapsed_s * 1e9), np.arange(recording.rows) * PERIOD_NS)


def test_a_faithful_answer_has_no_differences() -> None:
    for recording in load(END_NS):
        assert differences(recording, *read_back(recording)) == []


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("column", [0, 1])
def test_one_changed_bit_is_found(view: int, column: int) -> None:
    recording = load(END_NS)[0]
    answers = read_back(recording)
    answers[view]["wy"][column].view(np.int64)[7] ^= 1
    assert differences(recording, *answers)


def test_a_missing_sample_or_signal_is_found() -> None:
    recording = load(END_NS)[0]
    raw, physical = read_back(recording)
    times, values = raw["az"]
    assert differences(recording, raw | {"az": (times[:-1], values[:-1])}, physical)
    del raw["az"]
    assert differences(recording, raw, physical)
