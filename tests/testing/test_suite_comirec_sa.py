"""ComiRec-SA under the suite, one class a variant, and one a way of batching."""

from __future__ import annotations

from benchbed.data.dataset import TrainingData
from benchbed.models.comirec_sa import ComiRecSA
from benchbed.testing import ModelSuite, made_up_data

SMALL = {"interests": 3, "embedding_size": 6, "attention_size": 5, "window": 6, "batch_size": 10, "learning_rate": 0.01}
CUTS = frozenset({"weight"})


class TestAuthors(ModelSuite):
    model = ComiRecSA
    parameters = {**SMALL, "n_negatives": 8}
    variations = {"attention_size": None}
    refused = CUTS


class TestPaper(ModelSuite):
    model = ComiRecSA
    parameters = {"variant": "paper", **SMALL, "n_negatives": 8}
    variations = {"attention_size": None}
    refused = CUTS


class TestArticle(ModelSuite):
    model = ComiRecSA
    parameters = {"variant": "article", **SMALL}
    variations = {"attention_size": None}
    refused = CUTS | {"n_negatives", "logq"}

    def data(self) -> TrainingData:
        """Enough items for the 1,280 negatives that another sampler would take."""
        return made_up_data(items=1300)


class TestEveryPrefix(ModelSuite):
    model = ComiRecSA
    parameters = {**SMALL, "n_negatives": 8, "batching": "every_prefix"}
    variations = {"attention_size": None}

    def targets_of_an_epoch(self, data: TrainingData) -> int:
        """Targets are the events from the fifth of a sequence on."""
        return int((data.train.items.lengths - 4).clip(0).sum())
