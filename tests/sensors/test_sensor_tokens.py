"""Rotation of a sensor's token."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from rigmesh.v1.sensor_service_pb2 import RotateSensorTokenRequest
from rigmesh.v1.sensor_service_pb2_grpc import SensorServiceStub
from rigmesh.v1.telemetry_ingest_service_pb2 import DESCRIPTOR
from services.errors import Unauthenticated
from services.rpc.auth import Credential, authenticate
from services.rpc.contract import rpcs
from services.rpc.tokens import parse_token
from tests.factory import events_of, make_project, make_sensor, rows
from tests.refusals import refused

INGEST = next(rpcs(DESCRIPTOR.services_by_name["TelemetryIngestService"]))


async def rotate(caller, sensor, **fields):
    request = RotateSensorTokenRequest(sensor_id=sensor.sensor_id, **fields)
    return await caller.stub(SensorServiceStub).RotateSensorToken(request)


async def alive(rig, *sensors):
    """Which of the tokens in these answers are let in."""
    async with await psycopg.AsyncConnection.connect(rig.database_url) as db:
        return [await lets_in(db, sensor.token) for sensor in sensors]


async def lets_in(db, token):
    try:
        await authenticate(db, INGEST, Credential(token=parse_token(token)))
    except Unauthenticated:
        return False
    return True


async def expiry(rig, sensor):
    """When a token ends, counted from now."""
    query = "SELECT expires_at - now() AS left FROM sensor_tokens WHERE public_id = %s"
    [row] = await rows(rig, query, parse_token(sensor.token).public_id)
    return row["left"]


async def test_old_token_overlaps_by_a_day(rig, lab):
    """The default; the new one has no end."""
    first = await make_sensor(lab)
    second = await rotate(lab.editor, first)
    assert second.token != first.token
    assert await alive(rig, first, second) == [True, True]
    assert timedelta(hours=23, minutes=59) < await expiry(rig, first) <= timedelta(hours=24)
    assert await expiry(rig, second) is None


async def test_overlap_of_zero_ends_the_old_token_at_once(rig, lab):
    """For a token that leaked."""
    first = await make_sensor(lab)
    second = await rotate(lab.editor, first, overlap=timedelta(0))
    assert await alive(rig, first, second) == [False, True]


async def test_at_most_two_are_alive(rig, lab):
    """The third ends the first, whatever was left of its overlap."""
    first = await make_sensor(lab)
    second = await rotate(lab.editor, first, overlap=timedelta(days=7))
    third = await rotate(lab.editor, first, overlap=timedelta(hours=1))
    assert await alive(rig, first, second, third) == [False, True, True]
    assert timedelta(minutes=59) < await expiry(rig, second) <= timedelta(hours=1)


async def test_overlap_never_prolongs(rig, lab):
    """A token that ends sooner anyway still does."""
    first = await make_sensor(lab)
    soon = "UPDATE sensor_tokens SET expires_at = now() + interval '5 minutes' WHERE sensor_id = %s"
    await rows(rig, soon, first.sensor_id)
    await rotate(lab.editor, first)
    assert await expiry(rig, first) <= timedelta(minutes=5)


async def test_a_revoked_token_stays_dead(rig, lab):
    """It does not count as the newest either."""
    first = await make_sensor(lab)
    second = await rotate(lab.editor, first)
    public_id = parse_token(second.token).public_id
    await rows(rig, "UPDATE sensor_tokens SET revoked_at = now() WHERE public_id = %s", public_id)
    third = await rotate(lab.editor, first)
    assert await alive(rig, first, second, third) == [True, False, True]


async def test_many_rotations_at_once(rig, lab):
    """All are answered; two tokens are alive in the end."""
    first = await make_sensor(lab)
    answers = await asyncio.gather(*(rotate(lab.editor, first) for _ in range(10)))
    assert len({answer.token for answer in answers}) == 10
    assert sum(await alive(rig, first, *answers)) == 2


async def test_rotation_is_an_event_without_token(rig, lab):
    """It tells that and when, nothing more."""
    first = await make_sensor(lab)
    second = await rotate(lab.editor, first)
    event = (await events_of(rig, first.sensor_id))[-1]
    assert (event["type"], str(event["project_id"])) == ("sensor.token_rotated", lab.project_id)
    assert "token" not in event["before"] | event["after"]
    assert event["before"]["updated_at"] < event["after"]["updated_at"]
    assert second.updated_at.ToNanoseconds() > first.updated_at.ToNanoseconds()


async def test_rotation_answered_twice_by_its_key(rig, lab):
    """A lost answer can be had again: the same token, encrypted meanwhile."""
    first = await make_sensor(lab)
    stub, request = lab.editor.stub(SensorServiceStub), RotateSensorTokenRequest(sensor_id=first.sensor_id)
    key = (("idempotency-key", f"rotate-{first.sensor_id}"),)
    answers = [await stub.RotateSensorToken(request, metadata=key) for _ in range(2)]
    assert answers[0] == answers[1]
    query = "SELECT response FROM idempotency_keys WHERE key = %s"
    [row] = await rows(rig, query, key[0][1])
    assert answers[0].token.split("_")[2].encode() not in row["response"]


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
async def test_overlap_has_limits(lab, overlap):
    """0 to 7 days."""
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await rotate(lab.editor, await make_sensor(lab), overlap=overlap)
    assert refusal.fields == ["overlap"]


async def test_only_editors_of_the_primary_project_rotate(rig, lab):
    """An editor of another project of the sensor is a viewer here."""
    sensor = await make_sensor(lab)
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await rotate(lab.viewer, sensor)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await rotate(lab.outsider, sensor)
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR", lab.outsider.user_id: "EDITOR"})
    shared = await make_sensor(lab, project_ids=[lab.project_id, second])
    with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
        await rotate(lab.outsider, shared)
