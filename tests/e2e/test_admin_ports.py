"""What an operator's tools read from the admin port of each role."""

import asyncio
import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import Lab, Rig
from tests.e2e.conftest import RestAs
from tests.envoy.edge_calls import Answer, call_to

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HANDLED = r'^grpc_server_handled_total\{grpc_code="NOT_FOUND",grpc_method="GetRun",[^}]*\} ([\d.e+]+)$'


async def get(address: str, path: str) -> Answer:
    return await asyncio.to_thread(call_to(address), "GET", path)


@pytest.mark.parametrize("role", ["control", "telemetry"])
async def test_a_role_says_how_it_is(rig: Rig, role: str) -> None:
    address = getattr(rig, f"{role}_admin")
    for path in ("/healthz", "/readyz"):
        answer = await get(address, path)
        assert (answer.status, answer.body) == (200, b"ok\n")
    assert json.loads((await get(address, "/version")).body) == {"version": PROJECT["version"]}
    assert (await get(address, "/nothing")).status == 404


async def test_metrics_count_calls_by_code(rig: Rig, lab: Lab, rest: RestAs) -> None:
    before = await handled(rig)
    await rest(lab.viewer).ask("GET", f"/runs/{lab.project_id}")
    assert await handled(rig) == before + 1


async def handled(rig: Rig) -> float:
    answer = await get(rig.control_admin, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = re.search(HANDLED, answer.body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_metrics_tell_no_secret(rig: Rig, lab: Lab) -> None:
    for address in (rig.control_admin, rig.telemetry_admin):
        body = (await get(address, "/metrics")).body.decode()
        for secret in (lab.owner.token, lab.owner.user_id, lab.owner.username, lab.project_id):
            assert secret not in body
