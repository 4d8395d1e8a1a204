"""Whose sample is it: sessions named in Open, found by it, or none; and what each scope may reach."""

from typing import Any

import pytest

from rigmesh.v1 import telemetry_ingest_pb2 as pb
from rigmesh.v1.capture_service_pb2 import StopCaptureSessionRequest
from rigmesh.v1.capture_service_pb2_grpc import CaptureServiceStub
from rigmesh.v1.project_pb2 import Member
from rigmesh.v1.project_service_pb2 import UpdateMemberRequest
from rigmesh.v1.project_service_pb2_grpc import ProjectServiceStub
from rigmesh.v1.telemetry_ingest_service_pb2 import AppendTelemetryRequest, GetIngestCursorRequest
from rigmesh.v1.telemetry_ingest_service_pb2_grpc import TelemetryIngestServiceStub
from tests.factory import make_run, make_sensor, make_session, rows
from tests.refusals import refused
from tests.sign_in import PASSWORD, sign_in
from tests.telemetry.device import opened, regular


async def stop(bench: Any, session_id: str) -> None:
    captures = bench.lab.editor.stub(CaptureServiceStub)
    await captures.StopCaptureSession(StopCaptureSessionRequest(run_id=bench.run_id, capture_session_id=session_id))


async def ingest_token(bench: Any, project_id: str) -> str:
    editor = bench.lab.editor
    _, token = await sign_in(editor.channel, editor.username, PASSWORD, ["INGEST"], project_id)
    return token


async def test_samples_without_a_session_belong_to_the_primary_project(bench: Any) -> None:
    await stop(bench, bench.capture_session_id)
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, answer):
        assert [channel.capture_session_id for channel in answer.channels] == [""]
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [1.0])]))
        await device.acked(1)
    assert len(await bench.stored("ax")) == 1


async def test_several_running_sessions_must_be_told_apart(bench: Any) -> None:
    second = await make_session(bench.lab, bench.run_id)
    with refused("FAILED_PRECONDITION", "AMBIGUOUS_SESSION") as refusal:
        async with opened(bench.address, bench.token, bench.bind("ax")):
            pass
    named = refusal.info.metadata["capture_session_ids"].split(",")
    assert named == [bench.capture_session_id, second.capture_session_id]
    async with opened(bench.address, bench.token, bench.bind("ax"), capture_session_id=second.capture_session_id) as (
        _,
        answer,
    ):
        assert answer.channels[0].capture_session_id == second.capture_session_id


async def test_samples_after_the_stop_are_late_and_raise_the_revision(bench: Any, rig: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax"), capture_session_id=bench.capture_session_id) as (
        device,
        _,
    ):
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [1.0])]))
        await device.acked(1)
        await stop(bench, bench.capture_session_id)
        await device.send(batch=pb.Batch(seq=2, series=[regular(1, bench.now_ns + 1, [2.0, 3.0])]))
        ack = await device.acked(2)
    assert (ack.totals.committed, ack.totals.late) == (3, 2)
    (row,) = await rows(
        rig,
        "SELECT data_revision, late FROM capture_sessions JOIN session_channels USING (capture_session_id) "
        "WHERE capture_session_id = %s",
        bench.capture_session_id,
    )
    assert row == {"data_revision": 1, "late": 2}


async def test_a_draft_session_takes_no_samples_and_keeps_them_in_quarantine(bench: Any, rig: Any) -> None:
    draft = await make_session(bench.lab, bench.run_id, start=False)
    async with opened(bench.address, bench.token, bench.bind("ax"), capture_session_id=draft.capture_session_id) as (
        device,
        _,
    ):
        series = regular(1, bench.now_ns, [1.0])
        await device.send(batch=pb.Batch(seq=1, series=[series]))
        reject = await device.expect("reject")
        assert reject.reason == "SESSION_CLOSED"
        await device.acked(1)
    (row,) = await rows(rig, "SELECT payload, samples FROM quarantine WHERE quarantine_id = %s", reject.quarantine_id)
    assert (pb.Series.FromString(row["payload"]), row["samples"]) == (series, 1)


async def test_a_sensor_reaches_neither_foreign_sessions_nor_other_sensors(bench: Any) -> None:
    lonely = await make_sensor(bench.lab)
    foreign = [pb.ChannelBinding(alias=1, sensor_id=bench.sensor_id, signal="ax")]
    async with opened(bench.address, lonely.token, foreign) as (device, answer):
        assert not answer.channels
        assert (await device.expect("reject")).reason == "SENSOR_NOT_FOUND"
    async with opened(bench.address, lonely.token, bench.bind("ax"), capture_session_id=bench.capture_session_id) as (
        device,
        _,
    ):
        assert (await device.expect("reject")).reason == "SENSOR_NOT_ATTACHED"
    with refused("NOT_FOUND", "NOT_FOUND"):
        async with opened(bench.address, bench.token, [], capture_session_id=lonely.sensor_id):
            pass


async def test_a_project_token_carries_the_sensors_of_its_project(bench: Any) -> None:
    token = await ingest_token(bench, bench.lab.project_id)
    other = await make_sensor(bench.lab)
    channels = [
        pb.ChannelBinding(alias=1, sensor_id=bench.sensor_id, signal="ax"),
        pb.ChannelBinding(alias=2, sensor_id=other.sensor_id, signal="ax"),
        pb.ChannelBinding(alias=3, signal="ax"),
    ]
    async with opened(bench.address, token, channels) as (device, answer):
        assert [channel.capture_session_id for channel in answer.channels] == [bench.capture_session_id, ""]
        assert (await device.expect("reject")).reason == "SENSOR_NOT_FOUND"
        await device.send(batch=pb.Batch(seq=1, series=[regular(1, bench.now_ns, [4.0])]))
        await device.acked(1)
    assert await bench.stored("ax") == [(bench.now_ns, 4.0)]


async def test_a_project_token_ends_with_the_right_to_edit(bench: Any) -> None:
    token = await ingest_token(bench, bench.lab.project_id)
    members = bench.lab.owner.stub(ProjectServiceStub)
    async with opened(bench.address, token, []) as (device, _):
        await members.UpdateMember(
            UpdateMemberRequest(
                project_id=bench.lab.project_id, user_id=bench.lab.editor.user_id, member=Member(role=Member.VIEWER)
            )
        )
        with refused("PERMISSION_DENIED", "ROLE_TOO_LOW"):
            await device.next()


async def test_a_batch_over_its_limits_is_refused_whole(bench: Any) -> None:
    week_ns = 7 * 86_400 * 10**9
    many = [regular(1, bench.now_ns, [0.0] * 65_537, 1)]
    wide = [regular(1, bench.now_ns - i * week_ns, [0.0]) for i in range(17)]
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        for seq, (series, reason) in enumerate([(many, "TOO_MANY_SAMPLES"), (wide, "TIME_SPAN_TOO_WIDE")], 1):
            await device.send(batch=pb.Batch(seq=seq, series=series))
            reject = await device.expect("reject")
            assert (reject.reason, reject.HasField("alias")) == (reason, False)
            await device.acked(seq)
    assert await bench.stored("ax") == []


async def test_aliases_are_bound_once(bench: Any) -> None:
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        again = [pb.ChannelBinding(alias=1, signal="ay"), pb.ChannelBinding(alias=2, signal="az")]
        await device.send(bind=pb.Bind(channels=again))
        assert [channel.signal for channel in (await device.expect("bound")).channels] == ["az"]
        reject = await device.expect("reject")
        assert (reject.reason, reject.alias, reject.seq) == ("ALIAS_TAKEN", 1, 0)


async def test_losses_are_kept_once_however_often_they_are_told(bench: Any, rig: Any) -> None:
    loss = pb.Loss(alias=1, count=7, from_ns=1, to_ns=9, reason="buffer full")
    async with opened(bench.address, bench.token, bench.bind("ax")) as (device, _):
        for _ in range(2):
            await device.send(loss=loss)
        await device.send(loss=pb.Loss(alias=5, count=1))
        assert (await device.expect("reject")).reason == "UNKNOWN_ALIAS"
        await device.finish(0)
    kept = await rows(
        rig,
        "SELECT count, reason FROM channel_losses JOIN channels USING (channel_id) WHERE sensor_id = %s",
        bench.sensor_id,
    )
    assert kept == [{"count": 7, "reason": "buffer full"}]


async def test_an_upload_of_parts_in_any_order_is_stored_once(bench: Any, rig: Any) -> None:
    ingest = TelemetryIngestServiceStub(rig.telemetry_channel)
    credential = (("authorization", f"Bearer {bench.token}"),)
    for seq in (2, 1, 2, 1):
        batch = pb.Batch(seq=seq, series=[regular(1, bench.now_ns + seq, [float(seq)])])
        answer = await ingest.AppendTelemetry(
            AppendTelemetryRequest(upload_id="night", channels=bench.bind("ax"), batch=batch), metadata=credential
        )
    assert (answer.ack.committed_through, answer.ack.totals.deduplicated) == (2, 1)
    assert [value for _, value in await bench.stored("ax")] == [1.0, 2.0]
    cursor = await ingest.GetIngestCursor(GetIngestCursorRequest(upload_id="night"), metadata=credential)
    assert [(r.first, r.last) for r in cursor.ranges] == [(1, 2)]
    with refused("NOT_FOUND", "NOT_FOUND"):
        await ingest.GetIngestCursor(GetIngestCursorRequest(upload_id="day"), metadata=credential)


@pytest.mark.parametrize("person", ["viewer", "editor"])
async def test_a_token_without_the_ingest_scope_is_refused(bench: Any, person: str) -> None:
    with refused("PERMISSION_DENIED", "SCOPE_MISSING"):
        async with opened(bench.address, getattr(bench.lab, person).token, []):
            pass


async def test_another_run_of_the_project_may_be_named_only_when_attached(bench: Any) -> None:
    run = await make_run(bench.lab, "RUNNING")
    session = await make_session(bench.lab, run.run_id)
    async with opened(bench.address, bench.token, bench.bind("ax"), capture_session_id=session.capture_session_id) as (
        device,
        _,
    ):
        assert (await device.expect("reject")).reason == "SENSOR_NOT_ATTACHED"
