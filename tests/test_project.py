"""The project itself: its dependencies, its wheel, its imports, its words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS: list[str] = [*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]


def plain(name: str) -> str:
    """A package name as registries compare it, without extras."""
    return re.sub(r"[-_.]+", "-", name.split("[")[0]).lower()


def parts(requirement: str) -> tuple[str, str]:
    """``"ray[tune]>=2.60"`` -> ``("ray[tune]", "2.60")``."""
    name, _, floor = requirement.partition(">=")
    return name.strip(), floor.strip()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version))


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_constraints_are_exact_public_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        # a local part such as +cpu exists on one index only: with it, nobody else could install
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    names = [plain(line.split("==")[0]) for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names)), "a package is pinned twice"


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    pinned = {plain(name): version for name, version in pins().items()}
    for requirement in REQUIREMENTS:
        name, floor = parts(requirement)
        assert floor, f"{requirement} has no floor"
        assert plain(name) in pinned, f"constraints.txt does not pin {name}"
        assert numbers(pinned[plain(name)]) >= numbers(floor), f"{name} is pinned below its floor {floor}"


def test_every_dependency_has_a_reason_and_every_reason_a_dependency() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|$", text, flags=re.MULTILINE)
    assert {name for name, _ in rows} == {parts(r)[0] for r in REQUIREMENTS}
    assert all(len(reason.strip()) > 8 for _, reason in rows)


def test_every_dependency_is_imported_where_its_reason_says() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    module = {"pyyaml": "yaml"}
    for name, where in re.findall(r"^\| `([^`]+)` \| ([^|]+) \| [^|]+ \|$", text.split("## Extras")[0], flags=re.MULTILINE):
        imported = re.compile(rf"^\s*(import|from) {module.get(name, plain(name))}\b", flags=re.MULTILINE)
        for folder in re.findall(r"`(\w+)/`", where):
            files = list((ROOT / "benchbed" / folder).rglob("*.py"))
            assert any(imported.search(f.read_text(encoding="utf-8")) for f in files), f"{folder}/ does not import {name}"


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#]+\.md)", index))
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert linked == pages


HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas", "duckdb", "pyarrow", "scipy", "plotly")


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from benchbed.cli import main\n"
        "sys.argv = ['benchbed', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "LOADED []"
    assert "sweep" in run.stdout


def test_imports_point_one_way() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def tracked() -> list[Path]:
    """Files of the project: what git knows, or, outside a checkout, what lies in its folders."""
    run = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if run.returncode == 0 and run.stdout:
        return [ROOT / name for name in run.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [p for p in ROOT.rglob("*.py") if ".venv" not in p.parts]


def test_no_path_of_one_machine_is_written_down() -> None:
    foreign = re.compile(r"(?<![A-Za-z0-9_.\-/}~])/(?:home/[a-z]+|Users/[a-z]+|root|work|workspace|mnt|media)/")
    kinds = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".sh", ".html", ".json", ""}
    found = []
    for path in tracked():
        if path.suffix not in kinds or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in foreign.finditer(text)]
    assert not found, found


def test_python_files_stay_readable() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in tracked() if p.suffix == ".py" and (n := len(p.read_text().splitlines())) > 450
    }
    assert not long, f"split these files: {long}"


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_make_sets_up_before_it_works(target: str) -> None:
    run = subprocess.run(
        ["make", "--dry-run", "--always-make", target, "VENV=.no-such-venv", f"PYTHON={sys.executable}"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    made = next(i for i, line in enumerate(lines) if "-m venv .no-such-venv" in line)
    installed = next(i for i, line in enumerate(lines) if "pip install" in line)
    worked = next(i for i, line in enumerate(lines) if re.search(r"benchbed demo|pytest|ruff check", line))
    assert made < installed < worked
    assert ("[dev]" in lines[installed]) == (target != "demo"), "the demo must not wait for the developers' tools"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["PYTHON="], "benchbed needs Python 3.11, 3.12 or 3.13, and none was found"),
        (["PYTHON=/no/such/python"], "benchbed needs Python 3.11, 3.12 or 3.13; /no/such/python is none that runs"),
    ],
)
def test_make_names_what_is_missing_in_one_line(options: list[str], words: str) -> None:
    run = subprocess.run(["make", "demo", "VENV=.no-such-venv", *options], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode != 0
    assert words in run.stderr
    assert not (ROOT / ".no-such-venv").exists()


def test_the_wheel_ships_what_an_installed_benchbed_looks_up(tmp_path: Path) -> None:
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stderr
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    expected = {
        f"benchbed/_shipped/{path.relative_to(ROOT).as_posix()}"
        for pattern in ("datasets/*", "search_spaces/*", "reports/*/benchmark", "reports/*/search_spaces/*", "reports/*/claims")
        for path in ROOT.glob(f"{pattern}.yaml")
    }
    assert expected
    assert {name for name in wheel.namelist() if "_shipped/" in name} == expected
    wheel.extractall(tmp_path / "site")
    look = (
        "import benchbed; from benchbed.data.card import load_card; from benchbed.search.space_file import find_space;"
        "from benchbed.sweep.lookup import find_benchmark;"
        "print(benchbed.__file__, load_card('bazaar').name, find_space('ease'), find_benchmark('demo'), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert run.returncode == 0, run.stderr
    found = run.stdout.splitlines()
    assert found[1] == "bazaar"
    assert all(line.startswith(str(tmp_path / "site")) for line in (found[0], *found[2:])), found
    scripts = next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert "benchbed = benchbed.cli:main" in wheel.read(scripts).decode()
