"""GRU4Rec under the suite, one class a variant."""

from __future__ import annotations

import pytest

from benchbed.models.gru4rec import GRU4Rec
from benchbed.testing import ModelSuite

SMALL = {"embedding_size": 6, "hidden_size": 7, "batch_targets": 40, "window": 4, "burn_in": 2}


@pytest.mark.fidelity("G4", "G18", "G20", "G24")
class TestWindows(ModelSuite):
    model = GRU4Rec
    parameters = SMALL
