"""What the demo prints at its end."""

import shlex
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from samples.demo.recordings import SIGNALS, Recording
from samples.demo.study import Study


@dataclass(frozen=True)
class Row:
    """A recording that was streamed and read back."""

    recording: Recording
    sent_bytes: int
    seconds: float
    ax: NDArray[np.float64]
    """Physical, as read back."""


def print_table(console: Console, rows: list[Row]) -> None:
    """One line a recording."""
    table = Table(
        title="Streamed over gRPC, read back over REST: every time and value identical",
        box=SIMPLE,
        collapse_padding=True,
    )
    table.add_column("recording", no_wrap=True)
    for heading in ("samples", "bytes", "seconds", "ax first", "ax last", "ax mean"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        figures = (f"{value:.3f}" for value in (row.seconds, row.ax[0], row.ax[-1], row.ax.mean()))
        samples = row.recording.rows * len(SIGNALS)
        table.add_row(row.recording.name, f"{samples:,}", f"{row.sent_bytes:,}", *figures)
    table.caption = "ax in m/s2, as converted from g by the profile"
    console.print(table)


def print_commands(console: Console, address: str, token: str, study: Study) -> None:
    """Three commands to paste: REST, gRPC, SSE."""
    bearer = shlex.quote(f"authorization: Bearer {token}")
    name, run_id = next(iter(study.run_ids.items()))
    selection = f"capture_session_id={study.session_ids[name]}"
    rest = f"curl -H {bearer} 'http://{address}/api/v1/runs/{run_id}'"
    request = shlex.quote(f'{{"project_id": "{study.project_id}"}}')
    method = "rigmesh.v1.TelemetryService/ListChannels"
    grpcurl = f".venv/bin/grpcurl -plaintext -H {bearer} -d {request} {address} {method}"
    live = f"http://{address}/api/v1/telemetry/stream?{selection}&start_at=1970-01-01T00:00:00Z"
    sse = f"curl -N -H {bearer} '{live}'"
    for title, command in (("One run over REST", rest), ("Channels over gRPC", grpcurl), ("Samples, live (SSE)", sse)):
        console.print(f"\n[bold]{title}[/bold]")
        # never wrapped: it is to be copied
        console.print(command, soft_wrap=True, markup=False)
