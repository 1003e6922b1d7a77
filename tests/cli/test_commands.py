"""The real command in a real shell: messages, exit codes, and the files left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import benchbed

HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas", "duckdb", "pyarrow")


def test_help_is_quick_because_it_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from benchbed.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "LOADED []" in said
    for verb in ("demo", "list", "prepare", "validate", "sweep", "status", "report"):
        assert verb in said


def test_version(tmp_path: Path) -> None:
    assert benchbed("--version", cwd=tmp_path).stdout.startswith("benchbed ")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("models", "gru4rec"),
        ("spaces", "gru4rec_official"),
        ("datasets", "bazaar"),
        ("splits", "user_disjoint"),
        ("metrics", "ndcg"),
        ("readers", "csv"),
        ("benchmarks", "demo"),
    ],
)
def test_list(kind: str, name: str, tmp_path: Path) -> None:
    assert name in benchbed("list", kind, cwd=tmp_path).stdout
    assert name in [row["name"] for row in json.loads(benchbed("list", kind, "--json", cwd=tmp_path).stdout)]


def test_five_mistakes_are_five_lines_and_exit_code_two(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "name: mine\n"
        "dataset: bazar\n"
        "split: {kind: user_disjont}\n"
        "evaluation: {seen_items: exclude, select_by: ndcg@7}\n"
        "models: [gru4rce]\n"
        "search: {trails: 3}\n"
    )
    said = benchbed("validate", "b.yaml", cwd=tmp_path)
    assert said.returncode == 2
    lines = [line for line in said.stderr.splitlines() if line.startswith("  b.yaml:")]
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5", "6"]
    for hint in ("'bazaar'?", "'user_disjoint'?", "'gru4rec'?", "'trials'?", "split.kind", "models[0]"):
        assert hint in said.stderr
    assert "Traceback" not in said.stderr


def test_validate_tells_the_kinds_apart(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    files = [root / "datasets/bazaar.yaml", root / "search_spaces/gru4rec.yaml", root / "reports/demo/benchmark.yaml"]
    files.append(root / "reports/bazaar-sparse/claims.yaml")
    said = benchbed("validate", *files, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    kinds = [line.rsplit("a valid ")[1] for line in said.stdout.splitlines() if not line.startswith("  note: ")]
    assert kinds == ["dataset card", "search space", "benchmark", "file of claims"]


@pytest.mark.parametrize("verb", ["sweep", "status", "report"])
def test_an_unknown_benchmark_gets_the_nearest_name(verb: str, tmp_path: Path) -> None:
    said = benchbed(verb, "dmeo", cwd=tmp_path)
    assert said.returncode == 2
    assert "'demo'" in said.stderr and "Traceback" not in said.stderr


def test_an_unknown_dataset_gets_the_nearest_name(tmp_path: Path) -> None:
    said = benchbed("prepare", "ml-10k", cwd=tmp_path)
    assert said.returncode == 2
    assert "'ml-100k'" in said.stderr


def card(folder: Path, rows: str, **more: str) -> None:
    (folder / "datasets").mkdir(exist_ok=True)
    (folder / "log.csv").write_text("user,item,when\n" + rows)
    (folder / "datasets/mine.yaml").write_text(
        "name: mine\n"
        "tables:\n"
        "  interactions:\n"
        "    reader: csv\n"
        "    files: [log.csv]\n"
        '    separator: ","\n'
        "    header: true\n"
        "    columns: {user: user, item: item, timestamp: when}\n" + "".join(f"{key}: {value}\n" for key, value in more.items())
    )


def test_prepare_counts_and_keeps_broken_rows(tmp_path: Path) -> None:
    card(tmp_path, "a,x,1\nb,y,later\na,y,2\n,z,3\n", max_rejected="0.9")
    said = benchbed("prepare", "mine", "--raw", ".", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "2 interactions" in said.stdout and "2 rows" in said.stdout
    import pyarrow.parquet as pq

    rejected = pq.read_table(tmp_path / ".benchbed/data/mine/rejected.parquet").to_pylist()
    assert [row["line"] for row in rejected] == [3, 5]


def test_too_many_broken_rows_stop_the_job(tmp_path: Path) -> None:
    card(tmp_path, "a,x,1\nb,y,later\na,y,2\n")
    said = benchbed("prepare", "mine", "--raw", ".", cwd=tmp_path)
    assert said.returncode == 2
    assert "log.csv:3" in said.stderr and "Traceback" not in said.stderr
    assert not (tmp_path / ".benchbed/data/mine/manifest.json").exists()


def test_the_workspace_is_where_the_option_or_the_variable_says(tmp_path: Path) -> None:
    card(tmp_path, "a,x,1\nb,y,2\n")
    assert benchbed("prepare", "mine", "--raw", ".", "--workspace", "one", cwd=tmp_path).returncode == 0
    assert benchbed("prepare", "mine", "--raw", ".", cwd=tmp_path, BENCHBED_HOME="two").returncode == 0
    for name in ("one", "two"):
        assert (tmp_path / name / "data/mine/manifest.json").exists()
    assert not (tmp_path / ".benchbed").exists()


def test_a_list_of_models_without_a_model_is_refused(tmp_path: Path) -> None:
    said = benchbed("sweep", "demo", "--models", " , ", cwd=tmp_path)
    assert said.returncode == 2
    assert "--models names no model" in said.stderr


def test_a_workspace_that_is_a_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = benchbed("prepare", "bazaar", "--workspace", "file", cwd=tmp_path)
    assert said.returncode == 2
    assert "cannot be made" in said.stderr and "Traceback" not in said.stderr


def test_ctrl_c_ends_any_command_with_exit_code_three(tmp_path: Path) -> None:
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background is born deaf to it
        "import benchbed.data.prepare as module\n"
        "from benchbed.cli import main\n"
        "module.prepare = lambda *given: (os.kill(os.getpid(), signal.SIGINT), time.sleep(20))\n"
        "main(['prepare', 'bazaar'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 3
    assert "The same command continues." in said.stderr


def test_a_share_of_several_gpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "name: mine\n"
        "dataset: bazaar\n"
        "split: {kind: leave_one_out}\n"
        "evaluation: {seen_items: exclude}\n"
        "models: [ease]\n"
        "resources: {cpu: 1, gpu: 1.5}\n"
    )
    said = benchbed("validate", "b.yaml", cwd=tmp_path)
    assert said.returncode == 2
    assert "b.yaml:6:21: resources.gpu: a trial gets a share of one GPU" in said.stderr
