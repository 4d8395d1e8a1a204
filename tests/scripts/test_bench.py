import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rigmesh.v1.run_service_pb2 import AttachSensorRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from scripts.benchmarks.cases import CASES, select
from scripts.benchmarks.ingest import committed_samples
from scripts.benchmarks.load import Load, send
from scripts.benchmarks.rig import BenchError, require_disk
from tests.factory import make_run, make_sensor, make_session

BENCH_S = 60.0


@pytest.fixture
def parent() -> Iterator[Path]:
    """Where a bench makes its folder."""
    with tempfile.TemporaryDirectory(prefix="rigmesh-test-") as folder:
        Path(folder).chmod(0o755)  # so that the user who runs PostgreSQL can enter it
        yield Path(folder)


async def bench(parent: Path, *arguments: str) -> Process:
    environment = os.environ | {"TMPDIR": str(parent)}
    command = [sys.executable, "-m", "scripts.benchmarks", *arguments]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)


async def test_a_case_comes_with_its_ceiling_and_nothing_is_left(parent: Path, tmp_path: Path) -> None:
    """The rate is what the JSON, the table and the ratio agree on."""
    file = tmp_path / "figures.json"
    process = await bench(parent, "--case", "ingest_200", "--runs", "2", "--seconds", "0.2", "--json", str(file))
    async with asyncio.timeout(BENCH_S):
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    ceiling, ingest = json.loads(file.read_text())
    assert (ceiling["case"], ingest["case"]) == ("ceiling_block_copy_200", "ingest_200")
    assert ceiling.keys() == ingest.keys() == {"case", "value", "unit", "baseline", "ratio", "runs"}
    assert (ceiling["baseline"], ceiling["ratio"]) == (None, None)
    assert (ingest["baseline"], ingest["unit"]) == ("ceiling_block_copy_200", "samples/s")
    assert ingest["ratio"] == ingest["value"] / ceiling["value"]
    assert len(ingest["runs"]) == 2
    assert min(ingest["runs"]) <= ingest["value"] <= max(ingest["runs"])
    assert "ingest_200" in output.decode()
    assert list(parent.iterdir()) == []


async def test_nothing_is_left_after_sigterm(parent: Path) -> None:
    process = await bench(parent, "--case", "ingest_200")
    async with asyncio.timeout(BENCH_S):
        while not list(parent.glob("*/admin-credentials.json")):  # noqa: ASYNC110 another process sets no event
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert await process.communicate() == (b"bench: 2 measurements of 4 s, 3 times over\n", b"")
    assert process.returncode == 130
    assert list(parent.iterdir()) == []


async def test_a_figure_is_what_the_database_has(rig: Any, lab: Any) -> None:
    """Samples that were acknowledged and are not there are no figure."""
    run, sensor = await make_run(lab, "RUNNING"), await make_sensor(lab)
    await lab.editor.stub(RunServiceStub).AttachSensor(
        AttachSensorRequest(run_id=run.run_id, sensor_id=sensor.sensor_id)
    )
    session_id = (await make_session(lab, run.run_id)).capture_session_id
    load = Load(f"http://{rig.telemetry}", (sensor.token,), session_id, series_samples=50, seconds=0.1)
    sent = await asyncio.to_thread(send, load)
    assert sent.samples > 0
    async with await psycopg.AsyncConnection.connect(rig.database_url) as db:
        assert await committed_samples(db, session_id, sent) == sent.samples
        with pytest.raises(BenchError, match=f"but the database has {sent.samples}"):
            await committed_samples(db, session_id, replace(sent, samples=sent.samples + 50))


def test_too_little_disk_is_refused(parent: Path) -> None:
    with pytest.raises(BenchError, match=r"GiB free and the benchmark needs 1048576: .* TMPDIR"):
        require_disk(parent, 1 << 50)


def test_cases_are_selected_with_their_baselines() -> None:
    assert select([]) == list(CASES)
    assert [case.name for case in select(["ingest_1000_vs_rows"])] == ["ceiling_row_copy", "ingest_1000_vs_rows"]
    with pytest.raises(ValueError, match="no case ingest_7; there are ceiling_block_copy_1000, "):
        select(["ingest_7"])
