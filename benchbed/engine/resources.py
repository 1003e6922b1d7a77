"""What a trial gets, and whether the cluster has it."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchbed.errors import ResourceError
from benchbed.search.assignment import Shape


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its CPU cores and GPUs."""

    cpu: float
    gpu: float


def nodes() -> list[Node]:
    """The machines that are alive."""
    import ray

    return [
        Node(float(node["Resources"].get("CPU", 0)), float(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"]
    ]


def automatic_shape(machines: Sequence[Node]) -> Shape:
    """One core a trial, and a share of a GPU where there are GPUs: one trial for each core that goes with it, at most four.

    Examples
    --------
    >>> automatic_shape([Node(cpu=16, gpu=1)]), automatic_shape([Node(cpu=8, gpu=0)])
    (Shape(cpu=1, gpu=0.25), Shape(cpu=1, gpu=0))
    """
    with_gpu = [node for node in machines if node.gpu >= 1]
    if not with_gpu:
        return Shape(1, 0)
    sharing = min(int(node.cpu // node.gpu) for node in with_gpu)
    return Shape(1, 1 / max(1, min(4, sharing)))


def roomier(shape: Shape, machines: Sequence[Node]) -> Shape:
    """The shape of the one retry after the memory ran out: a whole GPU, or twice the cores (and so fewer neighbours).

    Examples
    --------
    >>> roomier(Shape(1, 0.25), [Node(4, 1)]), roomier(Shape(2, 0), [Node(2, 0)])
    (Shape(cpu=1, gpu=1), Shape(cpu=2, gpu=0))
    """
    if shape.gpu > 0:
        return Shape(shape.cpu, max(1, shape.gpu))
    largest = max((node.cpu for node in machines), default=shape.cpu)
    return Shape(max(shape.cpu, min(2 * shape.cpu, largest)), 0)


def capacity(shape: Shape, machines: Sequence[Node]) -> int:
    """How many trials of a shape run at the same time.

    Examples
    --------
    >>> capacity(Shape(1, 0.25), [Node(16, 1), Node(2, 1)])
    6
    """
    total = 0
    for node in machines:
        fits = [math.floor(node.cpu / shape.cpu + 1e-9)] if shape.cpu > 0 else []
        if shape.gpu > 0:
            fits.append(math.floor(node.gpu / shape.gpu + 1e-9))
        total += min(fits, default=0)
    return total


def check_fits(shape: Shape, machines: Sequence[Node]) -> None:
    """Refuse what no machine can give: Ray would only wait for it.

    Raises
    ------
    ResourceError
        Naming what there is.
    """
    if capacity(shape, machines) > 0:
        return
    there = "; ".join(sorted({f"{node.cpu:g} CPU and {node.gpu:g} GPU" for node in machines})) or "nothing"
    raise ResourceError(
        f"A trial asks for {shape.cpu:g} CPU and {shape.gpu:g} GPU, and no machine has them (there is: {there}).",
        advice="Lower `resources` in the benchmark file, or write `resources: auto`.",
    )


def check_shared(folder: Path) -> None:
    """Make sure that every machine of the cluster sees the sweep's folder: checkpoints and results go there.

    Raises
    ------
    ResourceError
        Naming the machines that do not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    machines = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    if len(machines) < 2:
        return
    marker = folder / f".seen-{uuid.uuid4().hex}"
    marker.touch()
    try:
        asked = {
            node["NodeManagerHostname"]: ray.remote(os.path.exists)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(str(marker))
            for node in machines
        }
        blind = sorted(name for name, answer in asked.items() if not ray.get(answer, timeout=120))
    finally:
        marker.unlink(missing_ok=True)
    if blind:
        raise ResourceError(
            f"These machines of the cluster do not see {folder}: {', '.join(blind)}.",
            advice="Put the workspace on storage that every node mounts under the same path: --workspace or BENCHBED_HOME.",
        )
