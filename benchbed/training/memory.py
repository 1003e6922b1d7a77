"""Peak memory of a run, also in a process that served other runs before."""

from __future__ import annotations

from pathlib import Path

import torch


class PeakMemory:
    """Peak since it was made: of the GPU's allocator on a GPU, of the whole process elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM; Linux only
        except OSError:
            return

    def megabytes(self) -> float:
        """Peak in units of 2^20 bytes."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        return float(status.partition("VmHWM:")[2].split()[0]) / 2**10
