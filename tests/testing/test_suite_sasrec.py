"""SASRec under the suite, one class a variant."""

from __future__ import annotations

from benchbed.models.sasrec import SASRec
from benchbed.testing import ModelSuite

SMALL = {"embedding_size": 6, "heads": 2, "blocks": 1, "window": 5, "batch_targets": 40, "learning_rate": 0.01}


class TestAuthors(ModelSuite):
    model = SASRec
    parameters = SMALL


class TestPaper(ModelSuite):
    model = SASRec
    parameters = {"variant": "paper", **SMALL}


class TestFull(ModelSuite):
    model = SASRec
    parameters = {"variant": "full", **SMALL}
