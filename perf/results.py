"""Run every claim of claims.txt and write RESULTS.md: `python perf/results.py [--peer-python PATH] [--only WORD]`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchbed.workspace import replacing

HERE = Path(__file__).resolve().parent


def claims(text: str, peer: str | None) -> list[list[str]]:
    """The commands of claims.txt as lists of arguments."""
    lines = [line.strip() for line in text.splitlines()]
    option = f"--peer-python {shlex.quote(peer)}" if peer else ""
    return [shlex.split(line.replace("{peer}", option)) for line in lines if line and not line.startswith("#")]


def measure(command: list[str]) -> dict[str, Any]:
    """Run one claim; the JSON line that it printed last, or what went wrong. Where a peer lies on this machine is not told."""
    words = ["PATH" if before == "--peer-python" else word for before, word in zip(["", *command], command, strict=False)]
    shown = " ".join(words)
    print(f"\n$ python perf/{shown}", flush=True)
    process = subprocess.Popen([sys.executable, str(HERE / command[0]), *command[1:]], stdout=subprocess.PIPE, text=True)
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    failure = {"what": shown, "command": shown, "failed": f"ended with code {process.wait()}"}
    if process.returncode:
        return failure
    try:
        return {"what": shown, **json.loads(last), "command": shown}
    except (json.JSONDecodeError, TypeError):
        return {**failure, "failed": "printed no JSON line at its end"}


def machine() -> str:
    """One line on what the numbers were measured with."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    parts = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in ("torch", "numpy", "benchbed"))]
    return f"{datetime.date.today()}, {cpu}, {os.cpu_count()} cores, {', '.join(parts)}"


def page(found: list[dict[str, Any]]) -> str:
    """The text of RESULTS.md."""
    lines = ["# Measured speed", "", f"Written by `make perf`: {machine()}.", ""]
    lines += ["| what | ours | peer | ratio | command |", "|---|---|---|---|---|"]
    for row in found:
        values = ["failed", row["failed"], ""] if "failed" in row else [_short(row.get(k)) for k in ("ours", "peer", "ratio")]
        lines.append(f"| {row['what']} | {' | '.join(values)} | `python perf/{row['command']}` |")
        lines += [f"| {line} | |" for line in _beside(row)]
    lines += ["", "Every line as printed:", "", "```json", *(json.dumps(row, sort_keys=True) for row in found), "```", ""]
    return "\n".join(lines)


def _beside(row: dict[str, Any]) -> Iterator[str]:
    """What was measured in the same runs."""
    name = row["what"].split()[0]
    for key, words in (("ranking", "one full ranking (seconds as above)"), ("peak_mb", "peak memory of the process (MB)")):
        sides = [row.get(f"{key}_{side}") for side in ("ours", "peer")]
        if sides[0] is not None:
            ratio = sides[1] / sides[0] if sides[1] else None
            yield f"{name}, {words} | " + " | ".join(_short(value) for value in (*sides, ratio))
    if "ranking_bf16" in row:
        what = f"the ranking with `scoring: bf16`, {row['bf16_users_changed']} of {row['users']} users with other metrics"
        ratio = row["ranking_peer"] / row["ranking_bf16"] if "ranking_peer" in row else None
        yield f"{name}, {what} | " + " | ".join(
            _short(value) for value in (row["ranking_bf16"], row.get("ranking_peer"), ratio)
        )
    if "fold_in" in row:
        what = f"fold-in of {row['fold_in_users']} of {row['users']} users, which our protocol adds to a ranking (CPU seconds)"
        yield f"{name}, {what} | {_short(row['fold_in'][1])} | - | -"


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Exit code 1 when a claim could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="the python of an environment that has the peer")
    parser.add_argument("--only", default="", help="only the commands that hold this word; RESULTS.md then stays as it is")
    chosen = parser.parse_args()
    commands = claims((HERE / "claims.txt").read_text(encoding="utf-8"), chosen.peer_python)
    found = [measure(command) for command in commands if chosen.only in " ".join(command)]
    if not found:
        print(
            "no claim to measure: perf/claims.txt names none" + (f" with '{chosen.only}'" if chosen.only else ""),
            file=sys.stderr,
        )
        return 1
    if not chosen.only:
        with replacing(HERE / "RESULTS.md") as temporary:
            temporary.write_text(page(found), encoding="utf-8")
        print(f"\n{HERE / 'RESULTS.md'}")
    return int(any("failed" in row for row in found))


if __name__ == "__main__":
    raise SystemExit(main())
