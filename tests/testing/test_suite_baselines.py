"""The models that are counted, under the suite."""

from __future__ import annotations

from benchbed.models.ease import EASE
from benchbed.models.ials import IALS
from benchbed.models.item_knn import ItemKNN
from benchbed.models.markov import Markov
from benchbed.models.popularity import Popularity
from benchbed.models.session_knn import SessionKNN
from benchbed.testing import ModelSuite, Vary


class TestPopularity(ModelSuite):
    model = Popularity


class TestMarkov(ModelSuite):
    model = Markov
    variations = {"decay": Vary(0.4, where={"order": 2})}


class TestItemKNN(ModelSuite):
    model = ItemKNN
    parameters = {"neighbours": 5}


class TestEASE(ModelSuite):
    model = EASE
    parameters = {"regularisation": 3.0}


class TestIALS(ModelSuite):
    model = IALS
    parameters = {"embedding_size": 6, "regularization": 0.05}


class TestSessionKNN(ModelSuite):
    model = SessionKNN
    parameters = {"neighbours": 4, "sample_size": 10}
