"""From login to the samples read back, as a browser does it: REST alone, with a cookie."""

import json
import time
from typing import Any

import pytest

from tests.conftest import Lab
from tests.e2e.conftest import RestAs
from tests.e2e.rest import Rest
from tests.envoy.edge_calls import Answer
from tests.sign_in import PASSWORD

VALUES = [1.5, "NaN", "Infinity", "-Infinity", 5e-324, 1.7976931348623157e308, 0.1, -0.0]
INTEGERS = ["-9223372036854775808", "9223372036854775807", "0"]


async def login(edge: str, username: str, password: str = PASSWORD) -> Answer:
    return await Rest(edge).ask("POST", "/auth/login", {"username": username, "password": password})


@pytest.fixture
async def browser(edge: str, lab: Lab) -> Rest:
    """The owner of the project, signed in."""
    answer = await login(edge, lab.owner.username)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    return Rest(edge, {"cookie": cookie, "x-csrf-token": json.loads(answer.body)["csrf_token"]})


async def test_the_cookie_arrives_with_its_attributes(edge: str, lab: Lab) -> None:
    pair, *attributes = (await login(edge, lab.owner.username)).headers["set-cookie"].split("; ")
    assert pair.startswith("__Host-sid=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    assert not [attribute for attribute in attributes if attribute.lower().startswith("domain")]


async def test_a_change_needs_the_token_of_its_own_session(edge: str, lab: Lab, browser: Rest) -> None:
    other = json.loads((await login(edge, lab.editor.username)).body)["csrf_token"]
    again = json.loads((await login(edge, lab.owner.username)).body)["csrf_token"]
    wanted = {"name": "by browser"}
    for token in ("", other, again):
        answer = await browser.having(**{"x-csrf-token": token}).ask("POST", "/projects", wanted)
        assert (answer.status, answer.reason) == (403, "CSRF_TOKEN_INVALID")
    cookie_alone = Rest(edge, {"cookie": browser.headers["cookie"]})
    assert (await cookie_alone.ask("POST", "/projects", wanted)).reason == "CSRF_TOKEN_INVALID"
    assert (await cookie_alone.ask("GET", "/projects")).status == 200
    assert (await browser.ask("POST", "/projects", wanted)).status == 200


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
async def test_a_change_from_another_site_is_refused(browser: Rest, site: str, status: int) -> None:
    answer = await browser.ask("POST", "/projects", {"name": "by another site"}, **{"sec-fetch-site": site})
    assert answer.status == status


async def test_after_logout_the_cookie_is_worth_nothing(browser: Rest) -> None:
    answer = await browser.ask("POST", "/auth/logout", {})
    assert answer.status == 200
    assert answer.headers["set-cookie"].startswith("__Host-sid=; ")
    assert "Expires=Thu, 01 Jan 1970 00:00:00 GMT" in answer.headers["set-cookie"]
    assert (await browser.ask("GET", "/auth/me")).status == 401


async def prepared(browser: Rest, project_id: str) -> tuple[str, dict[str, Any]]:
    """A run that is running, and a sensor of it with a published profile for "ax"."""
    experiment = await browser.post("/experiments", project_id=project_id, name="grip", tags=["a"])
    run = await browser.post(f"/experiments/{experiment['experiment_id']}/runs", name="first", params={"load": 2.5})
    path = f"/runs/{run['run_id']}"
    running = await browser.patch(f"{path}?update_mask=status,description", status="RUNNING", description="d", name="x")
    assert (running["status"], running["description"], running["name"]) == ("RUNNING", "d", "first")
    sensor = await browser.post("/sensors", project_ids=[project_id], name="imu", labels={"side": "left"})
    profiles = f"/sensors/{sensor['sensor_id']}/conversion-profiles"
    conversions = [{"signal": "ax", "unit": "m/s2", "linear": {"scale": 2.0, "offset": 1.0}}]
    profile = await browser.post(profiles, name="v1", conversions=conversions)
    assert profile["status"] == "DRAFT"
    published = await browser.post(f"{profiles}/{profile['conversion_profile_id']}:publish")
    assert (published["status"], published["version"]) == ("ACTIVE", 1)
    attached = await browser.post(f"{path}/sensors", sensor_id=sensor["sensor_id"])
    assert attached["run_id"] == run["run_id"]
    return path, sensor


def upload(capture_session_id: str, start_ns: int) -> dict[str, Any]:
    """Both kinds of values, one series regular and one not."""
    deltas = ["0", "7", "1000000"]
    return {
        "upload_id": "upload-1",
        "capture_session_id": capture_session_id,
        "channels": [{"alias": 1, "signal": "ax", "unit": "g"}, {"alias": 2, "signal": "n"}],
        "batch": {
            "seq": "1",
            "series": [
                {
                    "alias": 1,
                    "regular": {"start_ns": str(start_ns), "period_ns": "1000"},
                    "doubles": {"values": VALUES},
                },
                {
                    "alias": 2,
                    "irregular": {"start_ns": str(start_ns), "delta_ns": deltas},
                    "integers": {"values": INTEGERS},
                },
            ],
        },
    }


async def test_the_whole_path_by_rest_alone(browser: Rest, rest: RestAs, lab: Lab) -> None:
    path, sensor = await prepared(browser, lab.project_id)
    session = await browser.post(f"{path}/capture-sessions", name="one")
    assert (session["status"], session["ordinal_number"], session["data_revision"]) == ("RUNNING", 1, "0")
    start_ns, device = time.time_ns(), rest(sensor["token"])
    appended = await device.post("/telemetry", **upload(session["capture_session_id"], start_ns))
    assert appended["rejects"] == []
    assert appended["ack"]["totals"]["committed"] == str(len(VALUES) + len(INTEGERS))
    cursor = await device.get("/telemetry/cursor", upload_id="upload-1")
    assert cursor == {"epoch": "1", "ranges": [{"first": "1", "last": "1"}]}
    await read_back(browser, path.rpartition("/")[2], sensor["sensor_id"], start_ns)
    stopped = await browser.post(f"{path}/capture-sessions/{session['capture_session_id']}/stop", outcome="FAILED")
    assert stopped["status"] == "FAILED"
    draft = await browser.ask("POST", f"{path}/capture-sessions?start=false", {})
    assert json.loads(draft.body)["status"] == "DRAFT"
    second = json.loads(draft.body)["capture_session_id"]
    assert (await browser.post(f"{path}/capture-sessions/{second}/start"))["status"] == "RUNNING"
    assert (await browser.post(f"{path}/capture-sessions/{second}/stop"))["status"] == "SUCCEEDED"


async def read_back(browser: Rest, run_id: str, sensor_id: str, start_ns: int) -> None:
    """Every way to read gives what was sent."""
    ax, n = f"{sensor_id}/ax", f"{sensor_id}/n"
    async with browser.events("/telemetry/query", run_id=run_id, view="RAW") as events:
        *messages, last = await events.rest()
    chunks = {message["chunk"]["channel"]: message["chunk"] for message in messages}
    assert list(map(repr, chunks[ax]["values"])) == list(map(repr, VALUES))
    assert chunks[ax]["time_ns"] == [str(start_ns + number * 1000) for number in range(len(VALUES))]
    assert chunks[n]["integers"] == INTEGERS
    assert chunks[n]["time_ns"] == [str(start_ns + offset) for offset in (0, 7, 1_000_007)]
    assert last["end"] == {"cause": "COMPLETE", "samples": str(len(VALUES) + len(INTEGERS)), "chunks": "2"}
    [series] = (await browser.get("/telemetry/series", channels=[ax]))["series"]
    assert (series["unit"], series["samples"], series["min"][0]) == ("m/s2", str(len(VALUES)), 4.0)
    [latest] = (await browser.get("/telemetry/latest", channels=[n], view="RAW"))["samples"]
    assert latest["newest"]["integer"] == INTEGERS[-1]
    assert latest["newest"]["time_ns"] == str(start_ns + 1_000_007)
    channels = (await browser.get("/channels", sensor_id=sensor_id))["channels"]
    assert [(one["signal"], one["samples"]) for one in channels] == [("ax", "8"), ("n", "3")]


async def test_an_id_in_the_body_that_differs_from_the_path_is_refused(rest: RestAs, lab: Lab) -> None:
    owner = rest(lab.owner)
    experiment = await owner.post("/experiments", project_id=lab.project_id, name="grip")
    runs = [await owner.post(f"/experiments/{experiment['experiment_id']}/runs", name=name) for name in "ab"]
    first, second = (run["run_id"] for run in runs)
    answer = await owner.ask("PATCH", f"/runs/{first}", {"run_id": second, "name": "changed"})
    assert (answer.status, answer.reason) == (400, "INVALID_FIELDS")
    assert (await owner.patch(f"/runs/{first}", run_id=first, name="changed"))["name"] == "changed"
    assert (await owner.get(f"/runs/{second}"))["name"] == "b"


async def test_the_same_key_gets_the_same_body(rest: RestAs, lab: Lab) -> None:
    keyed = rest(lab.owner).having(**{"idempotency-key": f"key-{time.time_ns()}"})
    first = await keyed.ask("POST", "/projects", {"name": "once"})
    second = await keyed.ask("POST", "/projects", {"name": "once"})
    assert (first.status, first.body) == (second.status, second.body) == (200, second.body)
    answer = await keyed.ask("POST", "/projects", {"name": "twice"})
    assert (answer.status, answer.reason) == (400, "IDEMPOTENCY_KEY_REUSED")
