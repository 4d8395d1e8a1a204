"""`./scripts/bench`: the product against the ceilings of this machine, as a table and as JSON."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import grpc
import psycopg
from rich.console import Console
from rich.progress import Progress

from rigmesh_client import RigmeshError
from samples.demo.server import ServerError
from scripts.benchmarks.cases import CASES, Case, select
from scripts.benchmarks.measuring import Result, measure, probes
from scripts.benchmarks.report import print_table
from scripts.benchmarks.rig import BenchError, started, temporary_folder
from services.local.folder import CannotStartError

LONGEST_S = 360.0


def main() -> int:
    """Exit code 0: every case has its figure, whatever it is."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.runs < 1 or arguments.seconds <= 0:
        parser.error("--runs and --seconds must be above 0")
    try:
        cases = select(arguments.case)
        console = Console(highlight=False)
        console.print(f"bench: {probes(cases)} measurements of {arguments.seconds:g} s, {arguments.runs} times over")
        with temporary_folder() as folder:
            results = asyncio.run(_bench(console, folder, cases, arguments.runs, arguments.seconds))
        print_table(console, results)
        if arguments.json:
            arguments.json.write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n")
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except TimeoutError:
        return _fail(f"not done within {LONGEST_S:.0f} s: choose some of it with --case, or fewer --runs")
    except grpc.aio.AioRpcError as error:
        return _fail(f"{error.code().name}: {error.details()}")
    except (BenchError, CannotStartError, OSError, RigmeshError, ServerError, ValueError, psycopg.Error) as error:
        return _fail(str(error))
    return 0


async def _bench(console: Console, folder: Path, cases: list[Case], runs: int, seconds: float) -> list[Result]:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that the folder goes, too
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("measuring", total=probes(cases) * (runs + 1))
        async with asyncio.timeout(LONGEST_S), started(folder) as rig:
            return await measure(rig, cases, runs, seconds, lambda: progress.advance(bar))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench", description="Measures Rigmesh against the ceilings of this machine, all in one run."
    )
    names = ", ".join(case.name for case in CASES)
    parser.add_argument("--case", nargs="+", action="extend", default=[], metavar="NAME", help=f"of {names}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument("--runs", type=int, default=3, help="how often each case is measured (default: 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each time (default: 4)")
    return parser


def _fail(text: str) -> int:
    sys.stderr.write(f"bench: FAILED: {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
