"""Conversion profiles over the wire: create, get, list, publish, and who may."""

import asyncio
import math

import grpc
import psycopg
import pytest
from uuid_utils import uuid7

from rigmesh.v1.conversion_profile_pb2 import ConversionProfile
from rigmesh.v1.conversion_profile_service_pb2 import (
    CreateConversionProfileRequest,
    GetConversionProfileRequest,
    ListConversionProfilesRequest,
    PublishConversionProfileRequest,
)
from rigmesh.v1.conversion_profile_service_pb2_grpc import ConversionProfileServiceStub
from services.conversion_profiles.rules import CONVERSION_PROFILE
from tests.factory import events_of, make_profile, make_project, make_sensor, rows
from tests.refusals import reason_of, refused


def create(caller, sensor, **fields):
    request = CreateConversionProfileRequest(sensor_id=sensor.sensor_id, conversion_profile=ConversionProfile(**fields))
    return caller.stub(ConversionProfileServiceStub).CreateConversionProfile(request)


def get(caller, profile):
    request = GetConversionProfileRequest(
        sensor_id=profile.sensor_id, conversion_profile_id=profile.conversion_profile_id
    )
    return caller.stub(ConversionProfileServiceStub).GetConversionProfile(request)


def publish(caller, profile):
    request = PublishConversionProfileRequest(
        sensor_id=profile.sensor_id, conversion_profile_id=profile.conversion_profile_id
    )
    return caller.stub(ConversionProfileServiceStub).PublishConversionProfile(request)


def linear(signal="x", unit="", scale=1.0, offset=0.0):
    return {"signal": signal, "unit": unit, "linear": {"scale": scale, "offset": offset}}


async def test_what_is_created_is_read_back(rig, lab):
    """To the last bit of every number."""
    sensor = await make_sensor(lab)
    conversions = [
        linear("ax", "m/s2", 9.80665, 0.1),
        linear("gx", "°/s", 180 / math.pi, 1e-300),
        linear("tiny", "", 5e-324, -1.7976931348623157e308),
        linear("whole", "", 3.0, 7.0),
    ]
    created = await create(lab.editor, sensor, name="bench 3", conversions=conversions)
    assert (created.status, created.version, created.name) == (ConversionProfile.DRAFT, 1, "bench 3")
    assert created.conversions == ConversionProfile(conversions=conversions).conversions
    assert not created.HasField("published_at")
    assert await get(lab.viewer, created) == created
    [event] = await events_of(rig, created.conversion_profile_id)
    assert (event["type"], event["before"]) == ("conversion_profile.created", None)
    assert str(event["project_id"]) == lab.project_id


async def test_versions_have_no_gaps(lab):
    """Twenty at once: 1, 2, 3, … for this sensor alone."""
    sensor = await make_sensor(lab)
    await make_profile(lab, (await make_sensor(lab)).sensor_id)
    calls = (create(lab.editor, sensor, conversions=[linear()]) for _ in range(20))
    assert sorted(profile.version for profile in await asyncio.gather(*calls)) == list(range(1, 21))


async def test_list_is_newest_first_in_pages(lab):
    """Pages join without gap or overlap."""
    sensor = await make_sensor(lab)
    for _ in range(5):
        await make_profile(lab, sensor.sensor_id, publish=False)
    stub, versions, token = lab.viewer.stub(ConversionProfileServiceStub), [], ""
    while token or not versions:
        request = ListConversionProfilesRequest(sensor_id=sensor.sensor_id, page_size=2, page_token=token)
        answer = await stub.ListConversionProfiles(request)
        versions += [profile.version for profile in answer.conversion_profiles]
        token = answer.next_page_token
    assert versions == [5, 4, 3, 2, 1]


async def test_publish_replaces_the_active_version(rig, lab):
    """DRAFT → ACTIVE and ACTIVE → DEPRECATED in one step, each with an event."""
    sensor = await make_sensor(lab)
    old = await make_profile(lab, sensor.sensor_id)
    assert old.status == ConversionProfile.ACTIVE
    new = await make_profile(lab, sensor.sensor_id)
    replaced = await get(lab.viewer, old)
    assert (new.status, replaced.status) == (ConversionProfile.ACTIVE, ConversionProfile.DEPRECATED)
    assert replaced.published_at == old.published_at
    types = [event["type"] for event in await events_of(rig, old.conversion_profile_id)]
    assert types == [f"conversion_profile.{verb}" for verb in ("created", "published", "deprecated")]
    event = (await events_of(rig, new.conversion_profile_id))[-1]
    assert (event["before"]["status"], event["after"]["status"]) == ("DRAFT", "ACTIVE")
    assert event["after"]["published_at"]


@pytest.mark.parametrize("state", ["SCHEDULED", "ACTIVE", "DEPRECATED"])
async def test_only_a_draft_is_published(rig, lab, state):
    """Refused with the ways out of the table; the version that holds goes on holding."""
    sensor = await make_sensor(lab)
    profile = await make_profile(lab, sensor.sensor_id, publish=state != "SCHEDULED")
    if state == "DEPRECATED":
        await make_profile(lab, sensor.sensor_id)
    elif state == "SCHEDULED":
        change = "UPDATE conversion_profiles SET status = 'SCHEDULED' WHERE conversion_profile_id = %s"
        await rows(rig, change, profile.conversion_profile_id)
    statuses = "SELECT version, status FROM conversion_profiles WHERE sensor_id = %s ORDER BY version"
    before = await rows(rig, statuses, sensor.sensor_id)
    with refused("FAILED_PRECONDITION", "ILLEGAL_TRANSITION") as refusal:
        await publish(lab.editor, profile)
    allowed = ",".join(CONVERSION_PROFILE.allowed(state))
    expected = {"resource": "conversion_profile", "from": state, "to": "ACTIVE", "allowed": allowed}
    assert refusal.info.metadata == expected
    assert await rows(rig, statuses, sensor.sensor_id) == before


async def test_many_publications_at_once(rig, lab):
    """Of ten versions, all are published and one is ACTIVE; of one version, one publication wins."""
    sensor = await make_sensor(lab)
    drafts = [await make_profile(lab, sensor.sensor_id, publish=False) for _ in range(10)]
    await asyncio.gather(*(publish(lab.editor, draft) for draft in drafts))
    query = "SELECT status, count(*) FROM conversion_profiles WHERE sensor_id = %s GROUP BY 1 ORDER BY 1"
    counts = [tuple(row.values()) for row in await rows(rig, query, sensor.sensor_id)]
    assert counts == [("ACTIVE", 1), ("DEPRECATED", 9)]
    last = await make_profile(lab, sensor.sensor_id, publish=False)
    results = await asyncio.gather(*(publish(lab.editor, last) for _ in range(5)), return_exceptions=True)
    refusals = [reason_of(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert refusals == ["ILLEGAL_TRANSITION"] * 4


@pytest.mark.parametrize(
    ("conversions", "field"),
    [
        ([], "conversion_profile.conversions"),
        ([linear("x"), linear("x")], "conversion_profile.conversions"),
        ([{"signal": "x"}], "conversion_profile.conversions[0].kind"),
        ([linear(scale=0.0)], "conversion_profile.conversions[0].linear.scale"),
        ([linear(scale=math.inf)], "conversion_profile.conversions[0].linear.scale"),
        ([linear(offset=math.nan)], "conversion_profile.conversions[0].linear.offset"),
        ([linear("no space")], "conversion_profile.conversions[0].signal"),
    ],
)
async def test_conversions_that_make_no_sense(lab, conversions, field):
    """The field is named."""
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS") as refusal:
        await create(lab.editor, await make_sensor(lab), conversions=conversions)
    assert refusal.fields == [field]


async def test_version_of_another_sensor(lab):
    """The sensor and the version must belong together."""
    profile = await make_profile(lab, (await make_sensor(lab)).sensor_id, publish=False)
    profile.sensor_id = (await make_sensor(lab)).sensor_id
    for call in (get, publish):
        with refused("NOT_FOUND", "NOT_FOUND") as refusal:
            await call(lab.editor, profile)
        assert refusal.info.metadata["resource"] == "conversion_profile"


async def test_who_may(rig, lab):
    """Viewers of any project of the sensor read; only the primary project's editors write."""
    second = await make_project(rig, **{lab.editor.user_id: "EDITOR", lab.outsider.user_id: "EDITOR"})
    shared = await make_sensor(lab, project_ids=[lab.project_id, second])
    profile = await make_profile(lab, shared.sensor_id, publish=False)
    assert await get(lab.viewer, profile) == await get(lab.outsider, profile) == profile
    for caller in (lab.viewer, lab.outsider):
        with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
            await create(caller, shared, conversions=[linear()])
        with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
            await publish(caller, profile)
    own = await make_profile(lab, (await make_sensor(lab)).sensor_id)
    with refused("NOT_FOUND", "NOT_FOUND"):
        await get(lab.outsider, own)
    with refused("NOT_FOUND", "NOT_FOUND"):
        own.sensor_id = str(uuid7())
        await get(lab.editor, own)


@pytest.mark.parametrize("change", ["status = 'ACTIVE'", "published_at = now()", "status = 'RETIRED'"])
async def test_database_refuses_what_the_code_forgot(rig, lab, change):
    """States without their timestamp, a timestamp without its state, unknown states."""
    draft = await make_profile(lab, (await make_sensor(lab)).sensor_id, publish=False)
    with pytest.raises(psycopg.errors.CheckViolation):
        await rows(
            rig,
            f"UPDATE conversion_profiles SET {change} WHERE conversion_profile_id = %s",
            draft.conversion_profile_id,
        )


async def test_database_keeps_one_active_version(rig, lab):
    """The unique index stands behind the code."""
    sensor = await make_sensor(lab)
    await make_profile(lab, sensor.sensor_id)
    draft = await make_profile(lab, sensor.sensor_id, publish=False)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await rows(
            rig,
            "UPDATE conversion_profiles SET status = 'ACTIVE', published_at = now() WHERE conversion_profile_id = %s",
            draft.conversion_profile_id,
        )
