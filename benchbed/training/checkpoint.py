"""Checkpoints: everything that decides the rest of a run, in one file that is either whole or absent.

The weights of the best epoch lie beside it in a file of their own, which the checkpoint names: a kill between the two writes
leaves the file of an epoch that does not count, and nobody reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchbed.workspace import replacing

CHECKPOINT = "checkpoint.pt"
UNREADABLE = ".unreadable"
"""Added to the name of a checkpoint that cannot be read; it is kept for people to look at."""


def write_checkpoint(folder: Path, state: dict[str, Any], best: int | None = None) -> None:
    """Write the newest state of a run; the one before it stays whole until this one is.

    ``best`` is the epoch whose weights belong to it, None where there are none; those of others are removed afterwards.
    """
    with replacing(folder / CHECKPOINT) as temporary:
        torch.save({**state, "best": best}, temporary)
    for path in folder.glob("best-*.safetensors"):
        if best is None or path.name != best_file(best):
            path.unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest state, on the processor, or None when there is none. Loads tensors and plain values only, no code.

    A state that cannot be read, or whose best weights cannot, counts as none: the file is renamed and the run begins anew.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["best"] is not None:
            read_best(folder, state["best"])
    except MemoryError:
        raise
    except Exception:  # a broken file raises whatever its bytes happen to mean
        path.replace(path.with_name(CHECKPOINT + UNREADABLE))
        return None
    return state


def best_file(epoch: int) -> str:
    """Name of the weights of an epoch that was the best so far."""
    return f"best-{epoch}.safetensors"


def write_best(folder: Path, epoch: int, weights: dict[str, Tensor]) -> None:
    """Keep the weights of the best epoch so far."""
    with replacing(folder / best_file(epoch)) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, temporary)


def read_best(folder: Path, epoch: int) -> dict[str, Tensor]:
    """The weights of the best epoch."""
    return load_file(folder / best_file(epoch))
