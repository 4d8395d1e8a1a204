"""CaptureService."""

from rigmesh.v1.capture_service_pb2 import (
    CreateCaptureSessionRequest,
    GetCaptureSessionRequest,
    ListCaptureSessionsRequest,
    ListCaptureSessionsResponse,
    StartCaptureSessionRequest,
    StopCaptureSessionRequest,
)
from rigmesh.v1.capture_session_pb2 import CaptureSession
from services.captures import queries, rules
from services.db.page import open_page
from services.rpc.call import Call


async def CreateCaptureSession(request: CreateCaptureSessionRequest, call: Call) -> CaptureSession:
    start = request.start or not request.HasField("start")
    run = await queries.lock_run(call.db, request.run_id)
    rules.check_run(run.status, start=start)
    pinned = list(request.capture_session.pinned_profile_ids)
    profiles = await queries.select_profiles(call.db, run.project_id, pinned)
    rules.check_pins(pinned, profiles)
    session = await queries.insert_session(call.db, run, request.capture_session, start=start)
    await queries.insert_pins(call.db, session, profiles.values())
    _emit(call, after=session)
    return session


async def GetCaptureSession(request: GetCaptureSessionRequest, call: Call) -> CaptureSession:
    return await queries.select_session(call.db, request.run_id, request.capture_session_id)


async def ListCaptureSessions(request: ListCaptureSessionsRequest, call: Call) -> ListCaptureSessionsResponse:
    page = open_page(request, call.key("page"))
    rows = await queries.select_sessions(call.db, request, page)
    sessions, next_page_token = page.cut(rows, lambda session: session.ordinal_number)
    return ListCaptureSessionsResponse(capture_sessions=sessions, next_page_token=next_page_token)


async def StartCaptureSession(request: StartCaptureSessionRequest, call: Call) -> CaptureSession:
    # The run comes first: whoever ends it locks it before it looks at its sessions.
    run = await queries.lock_run(call.db, request.run_id)
    session = await _move(call, request, CaptureSession.RUNNING)
    rules.check_run(run.status, start=True)
    return session


async def StopCaptureSession(request: StopCaptureSessionRequest, call: Call) -> CaptureSession:
    return await _move(call, request, request.outcome or CaptureSession.SUCCEEDED)


async def _move(
    call: Call,
    request: StartCaptureSessionRequest | StopCaptureSessionRequest,
    target: CaptureSession.Status.ValueType,
) -> CaptureSession:
    transition = rules.CAPTURE_SESSION.to(CaptureSession.Status.Name(target))
    before = await queries.select_session(call.db, request.run_id, request.capture_session_id, lock=True)
    after = await queries.update_status(call.db, before.capture_session_id, transition)
    if after is None:
        raise rules.CAPTURE_SESSION.illegal(CaptureSession.Status.Name(before.status), transition.target)
    _emit(call, before=before, after=after)
    return after


def _emit(call: Call, *, before: CaptureSession | None = None, after: CaptureSession) -> None:
    call.emit("capture_session", after.capture_session_id, project_id=after.project_id, before=before, after=after)
