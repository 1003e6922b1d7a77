"""Before a sweep: the data are split and looked at, and every row's default model is made once.

So what the data lack is told before anything is recorded.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import torch

from benchbed.data.dataset import TrainingData
from benchbed.data.load import check_cases, load_training_data
from benchbed.data.prepare import Prepared
from benchbed.data.raw_cases import read_vocabulary
from benchbed.data.split.make import split_dataset
from benchbed.errors import ModelError
from benchbed.models.registry import model_class
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.planning import Material
from benchbed.sweep.preflight import Checked
from benchbed.sweep.suitability import keeps_trained_rows, refuse_untrained


def gather(benchmark: Benchmark, checked: Checked, prepared: Prepared, asked: Sequence[str] | None = None) -> Material:
    """Split a dataset as a benchmark says, and see whether there is something to validate, to test, and to hold in memory.

    Parameters
    ----------
    benchmark, checked, prepared
        The question, what preflight found, and the data.
    asked
        Rows that the user named beside the file.

    Raises
    ------
    DataError
        The data cannot be split so, or a part has no case.
    ModelError
        A model that was asked for cannot hold the catalogue.
    """
    splits = {seed: split_dataset(prepared, benchmark.split, seed) for seed in benchmark.split.seeds}
    for split in splits.values():
        check_cases(split, benchmark.evaluation)
        n_items = read_vocabulary(split.folder, benchmark.evaluation.candidates).n_items
        checked = checked.without(_too_large(benchmark, checked, asked, n_items))
    return Material(benchmark, checked, prepared, splits)


def _too_large(benchmark: Benchmark, checked: Checked, asked: Sequence[str] | None, n_items: int) -> dict[str, str]:
    """Baselines that nobody asked for by name and that cannot hold the catalogue; what was asked for is refused instead."""
    found = {}
    for name in checked.chosen:
        try:
            model_class(checked.spaces[name].model).check(n_items)
        except ModelError as error:
            if name in benchmark.models or name in (asked or ()):
                raise
            found[name] = error.message
    return found


def rehearse(material: Material, rows: Sequence[str]) -> None:
    """Make the default model of some rows on the data of the first split, and throw it away.

    Raises
    ------
    ModelError
        All of :func:`refusals`.
    """
    found = refusals(material, rows)
    if len(found) == 1:
        raise found[0]
    if found:
        advice = dict.fromkeys(error.advice for error in found if error.advice)
        raise ModelError("\n".join(error.message for error in found), advice="\n  ".join(advice) or None)


def refusals(material: Material, rows: Sequence[str]) -> list[ModelError]:
    """What the models of some rows say against the data.

    A field of features that is not there, more negatives than items, users without a vector, and the like.
    """
    first, *others = material.splits.values()
    data = load_training_data(first.folder, material.benchmark.evaluation)
    spaces = material.checked.spaces
    found = refuse_untrained(rows, spaces, data)
    if not found and any(keeps_trained_rows(spaces[row]) for row in rows):
        # Which users have no training event may differ between the splits.
        for split in others:
            found = refuse_untrained(rows, spaces, load_training_data(split.folder, material.benchmark.evaluation))
            if found:
                break
    found += [told for row in rows if (told := _nothing_to_learn_from(row, model_class(spaces[row].model).needs, data))]
    with torch.random.fork_rng(devices=[]):
        for row in rows:
            space = spaces[row]
            kind = model_class(space.model)
            try:
                kind(kind.Config.model_validate(space.defaults), data)
            except ModelError as error:
                named = error.message.startswith(f"{row} ")
                found.append(error if named else ModelError(f"{row}: {error.message}", advice=error.advice))
    return found


def _nothing_to_learn_from(row: str, needs: Container[str], data: TrainingData) -> ModelError | None:
    """A refusal where the card promises what a model needs, and its tables turn out to hold nothing of use."""
    if "item_features" in needs and not any(len(each.values.values) for each in data.item_features.values()):
        return ModelError(
            f"{row} learns from features of the items, and no candidate of this dataset has a value in any.",
            advice="Check the file of tables.items, and whether it spells items as the log does.",
        )
    return None
