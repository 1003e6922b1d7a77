"""Checkpoints: everything that decides the rest of a run, in one file that is either whole or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchbed.workspace import replacing

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the newest state of a run; the one before it stays whole until this one is."""
    with replacing(folder / CHECKPOINT) as temporary:
        torch.save(state, temporary)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest state, on the processor, or None when there is none. Loads tensors and plain values only, no code."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def write_best(folder: Path, weights: dict[str, Tensor]) -> None:
    """Keep the weights of the best epoch so far."""
    with replacing(folder / BEST) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, temporary)


def read_best(folder: Path) -> dict[str, Tensor]:
    """The weights of the best epoch."""
    return load_file(folder / BEST)
