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
    "ials": "benchbed.models.ials:IALS",
    "session_knn": "benchbed.models.session_knn:SessionKNN",
    "gru4rec": "benchbed.models.gru4rec:GRU4Rec",
    "comirec_sa": "benchbed.models.comirec_sa:ComiRecSA",
    "gru4recf": "benchbed.models.gru4recf:GRU4RecF",
    "sasrec": "benchbed.models.sasrec:SASRec",
    "mkr": "benchbed.models.mkr:MKR",
    "convncf": "benchbed.models.convncf:ConvNCF",
    "mf_bpr": "benchbed.models.mf_bpr:MFBPR",
    "oracle": "benchbed.models.oracle:Oracle",
}
"""Model name -> ``module:Class``."""

BASELINES: tuple[str, ...] = ("popularity", "markov", "item_knn", "ease", "ials")
"""Models that run in every benchmark unless it says ``baselines: none``; those that read an order only where there is one."""

SESSION_BASELINES: tuple[str, ...] = ("session_knn",)
"""Baselines of benchmarks on sessions, beside the others."""

UNORDERED_SPLITS = ("click_through",)
"""Kinds of split that draw rows at random, so that no order is left to learn from."""


def baselines_of(split: str) -> tuple[str, ...]:
    """The baselines that run on a kind of split.

    Examples
    --------
    >>> baselines_of("session")[-1], "markov" in baselines_of("click_through")
    ('session_knn', False)
    """
    if split in UNORDERED_SPLITS:
        return tuple(name for name in BASELINES if name != "markov")
    return (*BASELINES, *(SESSION_BASELINES if split == "session" else ()))


def is_baseline(name: str) -> bool:
    """Whether a model is a baseline of some kind of split."""
    return name in BASELINES or name in SESSION_BASELINES


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
