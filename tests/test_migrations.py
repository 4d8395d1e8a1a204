"""The schema that the migrations make, looked at from outside, and what the ingest transaction keeps in it."""

import random
import re
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from psycopg.conninfo import make_conninfo
from uuid_utils import uuid7

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.auth_pb2 import ApiToken
from rigmesh.v1.capture_service_pb2 import StopCaptureSessionRequest
from rigmesh.v1.capture_service_pb2_grpc import CaptureServiceStub
from rigmesh.v1.capture_session_pb2 import CaptureSession
from rigmesh.v1.conversion_profile_pb2 import ConversionProfile
from rigmesh.v1.experiment_pb2 import Experiment
from rigmesh.v1.project_pb2 import Member
from rigmesh.v1.run_pb2 import Run
from rigmesh.v1.run_service_pb2 import AttachSensorRequest
from rigmesh.v1.run_service_pb2_grpc import RunServiceStub
from rigmesh.v1.telemetry_pb2 import Channel
from services.db.migrate import FOLDER, migrate
from services.local.cluster import SUPERUSER
from tests.conftest import Lab, Rig
from tests.factory import make_run, make_sensor, make_session, rows
from tests.telemetry.device import opened

# Tables that no primary key would serve, and why.
KEYLESS = {
    "sample_blocks": "a key would be a second index; `ingest_lanes.received` keeps a batch from coming twice",
    "session_channels": "a channel outside of any session has no session's id; the key is UNIQUE NULLS NOT DISTINCT",
    "login_failures": "rows are only counted, and two may be equal",
}
ONE_ROW = {
    "events": """events (event_id, type, resource, resource_id, actor, request_id)
        VALUES (gen_random_uuid(), 't', 'r', 'i', 'a', 'q')""",
    "denied_attempts": """denied_attempts (actor, method, reason, resource_id, request_id)
        VALUES ('a', 'm', 'r', 'i', 'q')""",
}
APPEND_ONLY = list(ONE_ROW)
CHANGES = ["UPDATE {} SET actor = 'x'", "DELETE FROM {}", "TRUNCATE {}"]
ENUMS: dict[str, EnumTypeWrapper] = {
    "experiments.status": Experiment.Status,
    "runs.status": Run.Status,
    "capture_sessions.status": CaptureSession.Status,
    "conversion_profiles.status": ConversionProfile.Status,
    "project_members.role": Member.Role,
    "api_tokens.scopes": ApiToken.Scope,
    "channels.value_type": Channel.ValueType,
    "clocks.kind": pb.Clock.Kind,
}


def test_files_are_numbered_without_a_gap() -> None:
    names = sorted(file.name for file in FOLDER.iterdir())
    assert names
    for number, name in enumerate(names, start=1):
        assert re.fullmatch(rf"{number:04}_[a-z][a-z0-9_]*\.sql", name)


async def test_every_table_has_a_primary_key_or_a_reason_to_have_none(rig: Rig) -> None:
    found = await rows(
        rig,
        """SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid AND contype = 'p')""",
    )
    assert {row["relname"] for row in found} == set(KEYLESS)


async def test_blocks_lie_in_chunks_of_seven_days(rig: Rig) -> None:
    found = await rows(
        rig,
        """SELECT hypertable_name, column_name, extract(epoch FROM time_interval)::int AS seconds
        FROM timescaledb_information.dimensions""",
    )
    assert found == [{"hypertable_name": "sample_blocks", "column_name": "placed_at", "seconds": 7 * 86400}]


async def test_arrays_of_blocks_and_of_their_chunks_are_packed_with_lz4(rig: Rig, lab: Lab) -> None:
    await random_load(rig, lab, random.Random(7))
    found = await rows(
        rig,
        """SELECT attrelid::regclass::text AS relation, attname, attcompression
        FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
        WHERE (attrelid = 'sample_blocks'::regclass
            OR attrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'sample_blocks'::regclass))
        AND typcategory = 'A'""",
    )
    assert len({row["relation"] for row in found}) > 1
    assert {row["attname"] for row in found} == {"residuals_i4", "residuals_i8", "values_f8", "values_i8"}
    assert {row["attcompression"] for row in found} == {"l"}


@pytest.mark.parametrize("column", ENUMS)
async def test_the_database_allows_what_the_contract_names(rig: Rig, column: str) -> None:
    table, name = column.split(".")
    found = await rows(
        rig,
        """SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint
        WHERE contype = 'c' AND conrelid = %s::regclass
        AND conkey = ARRAY(SELECT attnum FROM pg_attribute WHERE attrelid = conrelid AND attname = %s)""",
        table,
        name,
    )
    [definition] = [row["definition"] for row in found]
    # Besides its values a CHECK may hold limits, which are numbers.
    named = {value for value, number in ENUMS[column].items() if number}
    assert set(re.findall(r"'(\w+)'", definition)) == named


@pytest.fixture
async def superuser(rig: Rig) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """What an attacker at the database has; all that it does is rolled back."""
    url = make_conninfo(rig.database_url, user=SUPERUSER)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection
        await connection.rollback()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("replication", ["origin", "replica", "local"])
async def test_what_happened_cannot_be_changed(
    superuser: psycopg.AsyncConnection[Any], table: str, change: str, replication: str
) -> None:
    await superuser.execute(f"INSERT INTO {ONE_ROW[table]}".encode())
    await superuser.execute(f"SET session_replication_role = {replication}".encode())
    with pytest.raises(psycopg.errors.RestrictViolation, match=f"{table} is append-only"):
        await superuser.execute(change.format(table).encode())


@pytest.fixture
async def application(rig: Rig) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection as the servers' own role, where it is another than the owner of the tables."""
    role = f"application_{str(uuid7())[-12:]}"
    url = make_conninfo(rig.database_url, user=SUPERUSER)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        try:
            assert await migrate(rig.database_url, make_conninfo(rig.database_url, user=role)) == []
            await connection.execute(f"SET SESSION AUTHORIZATION {role}".encode())
            yield connection
        finally:
            await connection.execute(b"RESET SESSION AUTHORIZATION")
            await connection.execute(f"DROP OWNED BY {role}".encode())
            await connection.execute(f"DROP ROLE {role}".encode())


async def test_the_application_writes_what_happened_and_cannot_change_it(
    application: psycopg.AsyncConnection[Any],
) -> None:
    async with application.transaction(force_rollback=True):
        for table in APPEND_ONLY:
            await application.execute(f"INSERT INTO {ONE_ROW[table]}".encode())
    refused = [change.format(table) for table in APPEND_ONLY for change in CHANGES]
    refused += [f"DROP TABLE {table}" for table in APPEND_ONLY]
    refused += [f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in APPEND_ONLY]
    refused += ["UPDATE schema_migrations SET checksum = ''", "CREATE TABLE own (n int)", "TRUNCATE runs"]
    refused += ["SET session_replication_role = replica"]
    for statement in refused:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await application.execute(statement.encode())


async def random_load(rig: Rig, lab: Lab, chance: random.Random) -> str:
    """Batches of any kind into a session, after its end, and into none; some twice. Returns the sensor's id."""
    run, sensor = await make_run(lab, "RUNNING"), await make_sensor(lab)
    runs, captures = lab.editor.stub(RunServiceStub), lab.editor.stub(CaptureServiceStub)
    bindings = [pb.ChannelBinding(alias=alias, signal=signal) for alias, signal in enumerate(("x", "y", "n"), 1)]
    await send(rig, sensor.token, bindings, "before", chance)
    await runs.AttachSensor(AttachSensorRequest(run_id=run.run_id, sensor_id=sensor.sensor_id))
    session = await make_session(lab, run.run_id)
    await send(rig, sensor.token, bindings, "during", chance)
    await captures.StopCaptureSession(
        StopCaptureSessionRequest(run_id=run.run_id, capture_session_id=session.capture_session_id)
    )
    await send(rig, sensor.token, bindings, "after", chance, capture_session_id=session.capture_session_id)
    return sensor.sensor_id


async def send(rig: Rig, token: str, bindings: Any, producer: str, chance: random.Random, **fields: Any) -> None:
    batches = [
        pb.Batch(seq=seq, series=[any_series(chance) for _ in range(chance.randint(1, 4))]) for seq in range(1, 31)
    ]
    again = chance.sample(batches, 10)
    async with opened(rig.telemetry, token, bindings, producer=producer, **fields) as (device, _):
        for batch in [*batches, *again]:
            await device.send(batch=batch)
        assert not (await device.finish(len(batches))).missing


def any_series(chance: random.Random) -> pb.Series:
    """Doubles or integers, sometimes of the wrong kind for the channel, NaN, out of order, or of a bad time."""
    alias, count = chance.randint(1, 3), chance.randint(1, 40)
    start_ns = chance.choice([1_700_000_000 * 10**9, 1_500_000_000 * 10**9, -5]) + chance.randint(0, 10**12)
    if alias == 3 or chance.random() < 0.05:
        values = {"integers": pb.Integers(values=[chance.randint(-(2**63), 2**63 - 1) for _ in range(count)])}
    else:
        some = [float("nan"), float("inf"), -0.0, chance.uniform(-1e9, 1e9), chance.uniform(-1, 1)]
        values = {"doubles": pb.Doubles(values=[chance.choice(some) for _ in range(count)])}
    if chance.random() < 0.5:
        return pb.Series(alias=alias, regular=pb.Regular(start_ns=start_ns, period_ns=1_000_003), **values)
    deltas = [chance.randint(-(10**6), 10**9) for _ in range(count)]
    return pb.Series(alias=alias, irregular=pb.Irregular(start_ns=start_ns, delta_ns=deltas), **values)


@pytest.mark.parametrize("seed", range(3))
async def test_totals_of_a_session_are_what_its_blocks_hold(rig: Rig, lab: Lab, seed: int) -> None:
    sensor_id = await random_load(rig, lab, random.Random(seed))
    columns = "n, late, v_min, v_max, first_at, last_at"
    kept = f"SELECT signal, capture_session_id, {columns} FROM session_channels JOIN channels USING (channel_id)"
    held = """SELECT signal, capture_session_id, sum(n)::bigint AS n,
            coalesce(sum(n) FILTER (WHERE late), 0)::bigint AS late, min(v_min) AS v_min, max(v_max) AS v_max,
            min(placed_at) AS first_at, max(placed_at + span_ns / 1000 * interval '1 microsecond') AS last_at
        FROM sample_blocks JOIN channels USING (channel_id)"""
    of_sensor = " WHERE sensor_id = %s"
    totals = await rows(rig, f"{kept}{of_sensor} ORDER BY 1, 2", sensor_id)
    blocks = await rows(rig, f"{held}{of_sensor} GROUP BY 1, 2 ORDER BY 1, 2", sensor_id)
    assert len(blocks) == 6
    assert [{**row, "last_at": None} for row in totals] == [{**row, "last_at": None} for row in blocks]
    for total, block in zip(totals, blocks, strict=True):
        # A block's own begin is rounded down to a microsecond.
        assert abs((total["last_at"] - block["last_at"]).total_seconds()) <= 2e-6
    assert any(row["late"] for row in totals)
