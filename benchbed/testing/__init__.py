"""Conformance suites that others can inherit. Needs pytest; nothing else of benchbed imports this package."""

import pytest

# Failed checks then show both sides.
pytest.register_assert_rewrite("benchbed.testing.model_suite", "benchbed.testing.user_checks", "benchbed.testing.checks")

from benchbed.testing.made_up import made_up_data  # noqa: E402  # after the lines above, or it has no effect
from benchbed.testing.model_suite import ModelSuite  # noqa: E402
from benchbed.testing.variations import Vary  # noqa: E402

__all__ = ["ModelSuite", "Vary", "made_up_data"]
