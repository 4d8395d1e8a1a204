"""The tree keeps to what was agreed: who may import whom, how long things are, and what must not be in it."""

import ast
import re
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from services.app import CONTROL_SERVICES
from services.settings import Settings

ROOT = Path(__file__).parents[1]
FOLDERS = ("services", "envoy/rigmesh_edge", "sdk/rigmesh_client", "scripts", "samples", "tests")
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 50

# What a part of `services` may import beside itself. A slice is a folder with a service in it.
GROUND = {"background", "errors", "files", "instance_key", "listing", "logs", "passwords", "settings", "state_machine"}
SLICES = {file.parent.name for file in ROOT.glob("services/*/service.py")} | {"telemetry"}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "db": GROUND,
    "rpc": GROUND | {"db"},
    **{name: GROUND | {"db", "rpc"} for name in SLICES},
    "admin": GROUND | {"db"},
    "app": GROUND | {"db", "rpc", "admin"} | SLICES,
    # The first administrator is made by the slice that owns users.
    "local": GROUND | {"db", "users", "rigmesh_edge"},
    "__main__": GROUND | {"app", "local"},
}
NAMELESS = {"utils", "util", "common", "helpers", "helper", "base", "misc"}

# Where packages come from is the machine's business, and so is where this checkout lies.
REGISTRIES = r"https?://[^\s<>]*(?:/simple\b|registry|proxy)|index-url\s*[=\s]\s*http"
MACHINES = r"(?<![\w./$}~-])/(?:home|Users|root|work|workspace|mnt)/\w"
UNFINISHED = r"\b(?:TODO|FIXME|XXX|HACK)\b"


def module_name(file: Path) -> str:
    """As it is imported: the part of its path below the folder that is on the import path."""
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] in ("envoy", "sdk") else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}


def imported(name: str) -> set[str]:
    """Every module that a module names in an import, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {one if one in FILES else str(node.module) for one in whole}
    return found


IMPORTS = {name: imported(name) for name in FILES}


def part(module: str) -> str:
    """The part of `services` that a module belongs to, else its package."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "services" else first


OURS = {"services", "rigmesh_edge", "rigmesh_client", "samples", "scripts", "tests", "gateway"}


def ours(name: str) -> set[str]:
    """What a module imports of this project, generated code aside."""
    return {module for module in IMPORTS[name] if module.partition(".")[0] in OURS}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("services.")])
def test_services_import_downwards_and_slices_never_each_other(name: str) -> None:
    own = part(name)
    assert {part(module) for module in ours(name)} <= MAY_IMPORT[own] | {own}


def test_the_client_imports_the_generated_code_only() -> None:
    for name in FILES:
        if name.startswith("rigmesh_client"):
            assert {part(module) for module in ours(name)} <= {"rigmesh_client"}, name


def test_the_edge_imports_the_settings_only() -> None:
    for name in FILES:
        if name.startswith("rigmesh_edge"):
            assert {module for module in ours(name) if part(module) != "rigmesh_edge"} <= {"services.settings"}, name


def test_nothing_that_runs_imports_samples_scripts_or_tests() -> None:
    for name in FILES:
        if name.partition(".")[0] in {"services", "rigmesh_edge", "rigmesh_client"}:
            assert not {part(module) for module in ours(name)} & {"samples", "scripts", "tests"}, name


@pytest.mark.parametrize("name", [name for name in FILES if re.fullmatch(r"services\.\w+\.(rules|queries)", name)])
def test_inside_a_slice_too(name: str) -> None:
    """service → queries → rules; and rules know nothing of the database."""
    package, _, kind = name.rpartition(".")
    above = {f"{package}.service"} | ({f"{package}.queries"} if kind == "rules" else set())
    assert not IMPORTS[name] & above
    if kind == "rules":
        assert not {module for module in IMPORTS[name] if module.startswith(("services.db", "psycopg"))}


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: {module for module in IMPORTS[name] if module in FILES and module != name} for name in FILES}
    assert list(TopologicalSorter(graph).static_order())


def test_modules_say_what_they_hold() -> None:
    assert not {name for name in FILES if NAMELESS & set(name.split("."))}


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the project, written by hand or generated; not those that others wrote."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        if file.is_file() and file != Path(__file__) and not name.startswith("proto/third_party/"):
            content = file.read_bytes()
            if b"\0" not in content:
                yield Path(name), content.decode()


def test_files_are_short() -> None:
    written = {".py", ".sh", ".lua", ".yaml", ".sql", ".proto", ""}
    long = {
        str(name): lines
        for name, text in texts()
        if name.suffix in written and name.name != "LICENSE" and not name.is_relative_to("proto/gen")
        if (lines := text.count("\n")) > MAX_FILE_LINES
    }
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{name}.{node.name}": lines
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINES, UNFINISHED], ids=["registries", "machines", "unfinished"])
def test_the_tree_names_none_of(pattern: str) -> None:
    found = [f"{name}: {match[0]}" for name, text in texts() for match in re.finditer(pattern, text)]
    assert not found


def test_tests_use_no_mocks() -> None:
    assert not {name for name in FILES if any(module.startswith(("unittest", "mock")) for module in IMPORTS[name])}


class Sleeps(ast.NodeVisitor):
    """Finds sleeps that wait for nothing: allowed is only a pause in a loop that a deadline bounds.

    A deadline is `asyncio.timeout` around the loop, or a clock read in the loop's condition.
    """

    def __init__(self) -> None:
        self.bounds: list[str] = []
        self.found: list[int] = []

    def _inside(self, node: ast.AST, *bounds: str) -> None:
        self.bounds += bounds
        self.generic_visit(node)
        del self.bounds[len(self.bounds) - len(bounds) :]

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        timed = any("asyncio.timeout" in ast.unparse(item.context_expr) for item in node.items)
        self._inside(node, *(["deadline"] if timed else []))

    def visit_While(self, node: ast.While) -> None:
        clocked = "monotonic()" in ast.unparse(node.test)
        self._inside(node, "loop", *(["deadline"] if clocked else []))

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func).rpartition(".")[2] == "sleep" and {"loop", "deadline"} - set(self.bounds):
            self.found.append(node.lineno)
        self.generic_visit(node)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("tests.")])
def test_tests_wait_for_something(name: str) -> None:
    sleeps = Sleeps()
    sleeps.visit(TREES[name])
    assert not sleeps.found


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    assert Settings.model_fields[name].description


def test_every_slice_has_tests() -> None:
    modules = [getattr(slice_, "__name__", type(slice_).__module__) for _, slice_ in CONTROL_SERVICES]
    served = {part(module) for module in modules} | {"telemetry"}
    assert served == SLICES
    for name in served:
        assert list((ROOT / "tests" / name).glob("test_*.py")), name
