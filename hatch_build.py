"""Build hook: the wheel carries the YAML files that an installed benchbed looks up by name.

``datasets/``, ``search_spaces/``, and the benchmarks of ``reports/`` with their own search spaces and claims go under
``benchbed/_shipped/``. An editable install reads them from the checkout, so it gets no copies that would go stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = (
    "datasets/*.yaml",
    "search_spaces/*.yaml",
    "reports/*/benchmark.yaml",
    "reports/*/search_spaces/*.yaml",
    "reports/*/claims.yaml",
)


class ShippedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Force-includes the shipped YAML files into a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files; ``version`` is the kind of wheel, "standard" or "editable"."""
        if version == "editable":
            return
        root = Path(self.root)
        for pattern in SHIPPED:
            for path in sorted(root.glob(pattern)):
                build_data["force_include"][str(path)] = f"benchbed/_shipped/{path.relative_to(root).as_posix()}"
