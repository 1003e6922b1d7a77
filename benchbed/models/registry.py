"""Which models there are. Names are known without importing torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchbed.errors import UnknownNameError

if TYPE_CHECKING:
    from benchbed.models.base import Recommender

MODELS: dict[str, str] = {
    "popularity": "benchbed.models.popularity:Popularity",
    "markov": "benchbed.models.markov:Markov",
    "item_knn": "benchbed.models.item_knn:ItemKNN",
    "ease": "benchbed.models.ease:EASE",
    "gru4rec": "benchbed.models.gru4rec:GRU4Rec",
    "comirec_sa": "benchbed.models.comirec_sa:ComiRecSA",
    "gru4recf": "benchbed.models.gru4recf:GRU4RecF",
    "sasrec": "benchbed.models.sasrec:SASRec",
    "oracle": "benchbed.models.oracle:Oracle",
}
"""Model name -> ``module:Class``."""

BASELINES: tuple[str, ...] = ("popularity", "markov", "item_knn", "ease")
"""Models that run in every benchmark unless it says ``baselines: none``."""


def model_class(name: str) -> type[Recommender]:
    """The class of a model.

    Raises
    ------
    UnknownNameError
        No model has that name.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    module, _, attribute = MODELS[name].partition(":")
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found
