"""What an operator does with grpcurl, on the same port as everything else."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rigmesh_edge.descriptors import role, services
from tests.conftest import Lab, Rig
from tests.e2e.conftest import Recording

GRPCURL = Path(sys.executable).with_name("grpcurl")
HEALTH = "grpc.health.v1.Health"
ANSWER_S = 20.0


async def grpcurl(*arguments: str, token: str = "", frames: Any = ()) -> tuple[int, str, str]:
    """Exit code and what it printed; `frames` are messages for standard input."""
    credential = ["-H", f"authorization: Bearer {token}"] if token else []
    data = ["-d", "@"] if frames else []
    process = await asyncio.create_subprocess_exec(
        *[str(GRPCURL), "-plaintext", *credential, *data, *arguments],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    text = "\n".join(json.dumps(frame) for frame in frames)
    out, problem = await asyncio.wait_for(process.communicate(text.encode()), ANSWER_S)
    return process.returncode or 0, out.decode(), problem.decode()


def messages(text: str) -> list[Any]:
    """JSON values one after the other, as grpcurl prints them."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        message, end = decoder.raw_decode(text)
        found.append(message)
        text = text[end:].lstrip()
    return found


async def test_list_shows_every_service(edge: str, rig: Rig) -> None:
    code, out, problem = await grpcurl(edge, "list")
    assert code == 0, problem
    assert {service.full_name for service in services()} | {HEALTH} <= set(out.split())
    code, out, _ = await grpcurl(rig.telemetry, "list")
    assert "rigmesh.v1.TelemetryIngestService" in out.split()


async def test_every_rpc_can_be_described(edge: str) -> None:
    for service in services():
        code, out, problem = await grpcurl(edge, "describe", service.full_name)
        assert code == 0, problem
        for method in service.methods:
            assert f"rpc {method.name} (" in out
    code, out, problem = await grpcurl(edge, "describe", "rigmesh.v1.Run")
    assert code == 0, problem
    assert "RUNNING" in out


async def test_a_call_with_a_token(edge: str, lab: Lab) -> None:
    code, out, problem = await grpcurl(edge, "rigmesh.v1.ProjectService/ListProjects", token=lab.viewer.token)
    assert code == 0, problem
    assert lab.project_id in out
    code, _, problem = await grpcurl(edge, "rigmesh.v1.ProjectService/ListProjects")
    assert code != 0
    assert "Unauthenticated" in problem


async def test_a_stream_from_standard_input(edge: str, recording: Recording) -> None:
    series = {"alias": 1, "regular": {"start_ns": str(time.time_ns()), "period_ns": "1000"}}
    frames = [
        {"open": {"producer": "by-hand", "channels": [{"alias": 1, "signal": "ax", "unit": "g"}]}},
        {"batch": {"seq": "1", "series": [series | {"doubles": {"values": [1.0, 2.0]}}]}},
        {"finish": {"last_seq": "1"}},
    ]
    method = "rigmesh.v1.TelemetryIngestService/TelemetryIngest"
    code, out, problem = await grpcurl(edge, method, token=recording.token, frames=frames)
    assert code == 0, problem
    kinds = [next(iter(message)) for message in messages(out)]
    assert kinds == ["opened", "ack", "finished"]
    finished = messages(out)[-1]["finished"]
    assert (finished["committed_through"], finished["totals"]["committed"]) == ("1", "2")


@pytest.mark.parametrize("service", ["", *(service.full_name for service in services())])
async def test_health_of_each_process_and_of_its_services(edge: str, rig: Rig, service: str) -> None:
    address = rig.telemetry if role(service) == "telemetry" else edge
    code, out, problem = await grpcurl(address, f"{HEALTH}/Check", frames=[{"service": service}])
    assert code == 0, problem
    assert json.loads(out) == {"status": "SERVING"}
