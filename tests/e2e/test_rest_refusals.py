"""What REST callers are told when the answer is no."""

import json
from typing import Any

import pytest
from uuid_utils import uuid7

from tests.conftest import Lab, Rig
from tests.e2e.conftest import Recording, RestAs
from tests.e2e.rest import Rest, error_of
from tests.envoy.edge_calls import Answer
from tests.factory import make_project, make_run, make_sensor, make_session

ABSENT = str(uuid7())


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.reason


async def test_an_unknown_id_is_not_found_with_all_details(rest: RestAs, lab: Lab) -> None:
    answer = await rest(lab.viewer).ask("GET", f"/runs/{ABSENT}", x_request_id="look-7")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body)["code"] == 5
    info = error_of(answer, "ErrorInfo")
    assert (info["reason"], info["domain"]) == ("NOT_FOUND", "rigmesh")
    assert info["metadata"] == {"resource": "run", "id": ABSENT}
    assert error_of(answer, "RequestInfo")["request_id"] == "look-7"


async def test_a_viewer_reads_and_cannot_write(rest: RestAs, lab: Lab) -> None:
    run, sensor = await make_run(lab, "RUNNING"), await make_sensor(lab)
    viewer, at_run = rest(lab.viewer), f"/runs/{run.run_id}"
    assert (await viewer.get(at_run))["run_id"] == run.run_id
    changes: list[tuple[str, str, Any]] = [
        ("POST", "/experiments", {"project_id": lab.project_id, "name": "x"}),
        ("POST", f"/experiments/{run.experiment_id}/runs", {"name": "x"}),
        ("PATCH", at_run, {"name": "x"}),
        ("POST", f"{at_run}/capture-sessions", {}),
        ("POST", f"{at_run}/sensors", {"sensor_id": sensor.sensor_id}),
        ("POST", "/sensors", {"project_ids": [lab.project_id], "name": "x"}),
        ("POST", f"/sensors/{sensor.sensor_id}/token:rotate", {}),
        ("POST", f"/projects/{lab.project_id}/members", {"user_id": lab.outsider.user_id, "role": "VIEWER"}),
        ("DELETE", f"/projects/{lab.project_id}/members/{lab.editor.user_id}", None),
    ]
    for method, path, body in changes:
        assert told(await viewer.ask(method, path, body)) == (403, "ROLE_TOO_LOW"), path


async def test_an_outsider_is_told_as_if_there_were_nothing(rest: RestAs, lab: Lab) -> None:
    run, sensor = await make_run(lab, "RUNNING"), await make_sensor(lab)
    session = await make_session(lab, run.run_id)
    outsider = rest(lab.outsider)
    paths = {
        "/projects/{}": lab.project_id,
        "/projects/{}/members": lab.project_id,
        "/experiments/{}": run.experiment_id,
        "/experiments?project_id={}": lab.project_id,
        "/experiments/{}/runs": run.experiment_id,
        "/runs/{}": run.run_id,
        "/runs?project_id={}": lab.project_id,
        "/runs/{}/capture-sessions": run.run_id,
        "/sensors/{}": sensor.sensor_id,
        "/sensors?project_id={}": lab.project_id,
        "/sensors/{}/conversion-profiles": sensor.sensor_id,
        "/channels?run_id={}": run.run_id,
        "/channels?sensor_id={}": sensor.sensor_id,
        "/telemetry/query?run_id={}": run.run_id,
        "/telemetry/latest?capture_session_id={}": session.capture_session_id,
        "/telemetry/series?channels={}/ax": sensor.sensor_id,
        "/telemetry/stream?channels={}/ax": sensor.sensor_id,
    }
    for path, resource_id in paths.items():
        foreign = await outsider.ask("GET", path.format(resource_id), x_request_id="same")
        absent = await outsider.ask("GET", path.format(ABSENT), x_request_id="same")
        assert told(foreign) == (404, "NOT_FOUND"), path
        assert foreign.body.replace(resource_id.encode(), ABSENT.encode()) == absent.body, path


@pytest.mark.parametrize("path", ["/projects", "/runs/x", "/telemetry/query", "/telemetry/stream?run_id=x"])
async def test_nobody_is_told_nothing(edge: str, path: str) -> None:
    assert told(await Rest(edge).ask("GET", path)) == (401, "UNAUTHENTICATED")


async def test_a_malformed_field_is_named(rest: RestAs, lab: Lab) -> None:
    viewer, editor = rest(lab.viewer), rest(lab.editor)
    asked = [
        (await viewer.ask("GET", "/runs/no-uuid"), "run_id"),
        (await viewer.ask("GET", "/projects?page_size=-1"), "page_size"),
        (await viewer.ask("GET", "/telemetry/query?channels=x"), "channels[0]"),
        (await viewer.ask("GET", "/telemetry/series?channels=a&channels=a"), "channels"),
        (await editor.ask("POST", "/experiments", {"project_id": lab.project_id}), "experiment.name"),
        (await editor.ask("POST", "/projects", {"name": "a\0b"}), "project.name"),
    ]
    for answer, field in asked:
        assert told(answer) == (400, "INVALID_FIELDS"), field
        fields = [one["field"] for one in error_of(answer, "BadRequest")["field_violations"]]
        assert field in fields


async def test_json_of_the_wrong_kind_is_malformed(rest: RestAs, lab: Lab) -> None:
    editor = rest(lab.editor)
    for body in (b'{"name": 1}', b'{"name": "a"', b"[]", b'{"name": "\xff"}', b'{"name": "\\ud800"}'):
        answer = await editor.ask("POST", "/projects", body)
        assert answer.status == 400, body
        assert answer.reason in {"MALFORMED_REQUEST", "INVALID_FIELDS"}


@pytest.mark.parametrize("name", ["project_id", "projectId", "project%5Fid", "project%5fid", "project_%69d"])
async def test_the_query_leads_to_no_other_project(rest: RestAs, lab: Lab, rig: Rig, name: str) -> None:
    """The transcoder lets the query override the path; whatever is then addressed must be the caller's to see."""
    foreign = await make_project(rig, **{lab.outsider.user_id: "OWNER"})
    viewer = rest(lab.viewer)
    for path in (f"/projects/{lab.project_id}", f"/projects/{lab.project_id}/members"):
        assert (await viewer.ask("GET", f"{path}?{name}={foreign}")).status in {400, 404}
        for order in (f"{name}={lab.project_id}&{name}={foreign}", f"{name}={foreign}&{name}={lab.project_id}"):
            answer = await viewer.ask("GET", f"{path}?{order}")
            assert answer.status in {400, 404} or foreign.encode() not in answer.body
    for path in ("/experiments", "/runs", "/sensors", "/channels"):
        assert (await viewer.ask("GET", f"{path}?{name}={foreign}")).status in {400, 404}


@pytest.mark.parametrize("name", ["run_id", "runId", "run%5Fid"])
async def test_the_query_changes_no_other_run(rest: RestAs, lab: Lab, name: str) -> None:
    """An outsider's own run in the path, another project's in the query."""
    target = await make_run(lab, "RUNNING")
    intruder = rest(lab.outsider)
    project = await intruder.post("/projects", name="mine")
    experiment = await intruder.post("/experiments", project_id=project["project_id"], name="mine")
    own = await intruder.post(f"/experiments/{experiment['experiment_id']}/runs", name="mine")
    for method, path in (("PATCH", ""), ("POST", "/capture-sessions"), ("POST", "/sensors")):
        answer = await intruder.ask(method, f"/runs/{own['run_id']}{path}?{name}={target.run_id}", {"name": "taken"})
        assert answer.status in {400, 404}, path
    run = await rest(lab.viewer).get(f"/runs/{target.run_id}")
    assert run["name"] == target.name
    assert not (await rest(lab.viewer).get(f"/runs/{target.run_id}/capture-sessions"))["capture_sessions"]


async def test_a_sensor_reads_nothing_and_a_user_sends_nothing(rest: RestAs, lab: Lab, recording: Recording) -> None:
    device = rest(recording.token)
    assert told(await device.ask("GET", f"/runs/{recording.run_id}")) == (401, "UNAUTHENTICATED")
    body = {"upload_id": "u", "batch": {"seq": "1"}}
    assert told(await rest(lab.editor).ask("POST", "/telemetry", body)) == (403, "SCOPE_MISSING")
    assert told(await device.ask("GET", "/telemetry/cursor?producer=none")) == (404, "NOT_FOUND")
