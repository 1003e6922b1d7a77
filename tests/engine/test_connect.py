from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchbed.engine.attempt import TrialError
from benchbed.engine.connect import cluster, halting_on_signals
from benchbed.engine.resources import Node, automatic_shape, capacity, check_fits
from benchbed.errors import NotStarted, ResourceError
from benchbed.search.assignment import Shape


def test_a_ray_client_address_is_refused_with_advice():
    with pytest.raises(ResourceError, match="--address auto"), cluster("ray://head:10001"):
        pass


def test_ray_that_does_not_start_is_told_without_a_traceback(monkeypatch):
    def late(**_):
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", late)
    with pytest.raises(NotStarted, match="Ray did not start: The current node timed out") as caught, cluster():
        pass
    assert "tries again" in caught.value.advice and caught.value.exit_code == 3


@pytest.mark.parametrize(("address", "said"), [("127.0.0.1:1", "Nothing answers"), ("head", "HOST:PORT")])
def test_no_cluster_at_an_address_is_the_users_mistake(address, said):
    with pytest.raises(ResourceError, match=said), cluster(address):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_halts_and_leaves_the_handlers_as_they_were(number):
    halt, before = threading.Event(), signal.getsignal(number)
    with halting_on_signals(halt):
        os.kill(os.getpid(), number)
        assert halt.is_set()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("local_ray", [False, True])
def test_the_second_signal_ends_the_process_at_once(local_ray):
    code = (
        "import contextlib, os, signal, sys, threading, time\n"
        "from benchbed.engine.connect import cluster, halting_on_signals\n"
        "with cluster() if sys.argv[1] == 'True' else contextlib.nullcontext(), halting_on_signals(threading.Event()):\n"
        "    if 'ray' in sys.modules: print('PIDS', *[p.process.pid for l in sys.modules['ray']._private.worker._global_node"
        ".all_processes.values() for p in l], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(30)\n"
        "    finally:\n"
        "        print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(local_ray)], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 3 and "went on" not in done.stdout, done.stderr
    until = time.monotonic() + 10
    # Ray may write lines of its own on the same stream.
    left = [int(word) for line in done.stdout.splitlines() if line.startswith("PIDS") for word in line.split()[1:]]
    assert bool(left) is local_ray
    while left and time.monotonic() < until:
        left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        time.sleep(0.1)
    assert not left


def test_automatic_shapes_share_gpus_by_the_cores_that_go_with_them():
    assert automatic_shape([Node(8, 0)]) == Shape(1, 0)
    assert automatic_shape([Node(8, 2), Node(32, 0)]) == Shape(1, 0.25)
    assert automatic_shape([Node(2, 1)]) == Shape(1, 0.5)
    assert automatic_shape([Node(1, 4)]) == Shape(1, 1)


def test_a_trial_must_fit_one_machine_not_the_sum_of_them():
    machines = [Node(2, 0), Node(2, 1)]
    check_fits(Shape(2, 1), machines)
    with pytest.raises(ResourceError, match=r"asks for 3 CPU .* 2 CPU and 0 GPU; 2 CPU and 1 GPU"):
        check_fits(Shape(3, 0), machines)
    assert capacity(Shape(1, 0), machines) == 4


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TrialError("error", "wrong", "trace"), "error"),
        (TrialError("out_of_memory", "full", "trace"), "out_of_memory"),
        (None, "worker_died"),
    ],
)
def test_why_an_attempt_ended(error, kind):
    from benchbed.engine.bridge import why_it_ended

    assert why_it_ended(error)[0] == kind


def test_why_an_attempt_ended_in_rays_words():
    from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayTaskError

    from benchbed.engine.bridge import why_it_ended

    assert why_it_ended(ActorDiedError())[0] == "worker_died"
    assert why_it_ended(NodeDiedError("the node has died"))[0] == "node_lost"
    assert why_it_ended(OutOfMemoryError("killed"))[0] == "out_of_memory"
    wrapped = RayTaskError("step", "trace", TrialError("out_of_memory", "full", "inner"))
    assert why_it_ended(wrapped) == ("out_of_memory", "full", "inner")
    assert why_it_ended(RayTaskError("step", "trace", ValueError("wrong")))[0] == "error"


class FakeTorch:
    """As much of torch as a device needs."""

    def __init__(self):
        self.threads, self.fractions = None, []
        self.cuda = self

    def set_num_threads(self, number):
        self.threads = number

    def set_per_process_memory_fraction(self, share, device):
        self.fractions.append((share, device))

    def is_available(self):
        raise AssertionError("what torch sees says nothing about what was granted")


@pytest.mark.parametrize(
    ("shape", "granted", "device", "fractions"),
    [
        (Shape(2, 0), [0, 1], "cpu", []),
        (Shape(1, 0.25), [3], "cuda:0", [(0.25, 0)]),
        (Shape(1, 2), [0, 1], "cuda:0", [(1.0, 0)]),
    ],
)
def test_the_device_is_what_was_granted(monkeypatch, shape, granted, device, fractions):
    import ray

    from benchbed.engine.trainable import granted_device

    torch = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: granted)
    assert granted_device(shape) == device
    assert torch.fractions == fractions and torch.threads == int(shape.cpu)


def test_a_gpu_that_was_not_granted_is_an_error(monkeypatch):
    import ray

    from benchbed.engine.trainable import granted_device

    monkeypatch.setattr(ray, "get_gpu_ids", list)
    with pytest.raises(RuntimeError, match="granted none"):
        granted_device(Shape(1, 1))
