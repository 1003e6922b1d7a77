"""What the split and the evaluation of a benchmark need, and its dataset card does not promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchbed.data.card import Card
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import nearest
from benchbed.evaluation.protocol import Protocol


@dataclass(frozen=True)
class Unmet:
    """A key that asks for more than the card has."""

    path: tuple[str, ...]
    message: str
    suggestion: str | None = None


def unmet(split: SplitSpec | None, evaluation: Protocol | None, card: Card) -> list[Unmet]:
    """All that is asked of a dataset and that its card does not have; times come first, for other advice follows from them.

    Parameters
    ----------
    split, evaluation
        Blocks of a benchmark; None where a block has mistakes of its own.
    card
        Of its dataset.
    """
    found: list[Unmet] = []
    if split is not None:
        found += [*_times(split, card), *_columns(split, card)]
    if evaluation is not None:
        found += [*_candidates(split, evaluation, card), *_negatives(evaluation, card), *_feature(evaluation, card)]
    return found


def _times(split: SplitSpec, card: Card) -> Iterator[Unmet]:
    if card.tables.interactions.columns.timestamp is not None:
        return
    none = f"the dataset '{card.name}' has no timestamps"
    if split.kind == "temporal":
        advice = "take leave_one_out or user_disjoint, which need an order and no times"
        yield Unmet(("split", "kind"), f"{none}, and a temporal split divides by time: {advice}")
        return
    if split.kind == "session" and split.test_days is not None:
        yield Unmet(("split", "test_days"), f"{none}, and days are counted by time: take test_share, or by: 'column: NAME'")
    by_chance = split.kind == "click_through" or (split.test is not None and "ties" in split.model_fields_set)
    if split.ties == "hash" and not by_chance:
        chance = "" if split.test is None else "; say `ties: hash` to leave to chance which other event validates"
        yield Unmet(
            ("split", "ties"),
            f"{none}, so that nothing says which event of a user came first: say `ties: file` where the log is in order, or "
            f"`ties: 'column: NAME'`{chance}",
        )


def _columns(split: SplitSpec, card: Card) -> Iterator[Unmet]:
    """Columns that the split reads: numbers that the card keeps under ``extra``."""
    kinds = {name: each.kind for name, each in card.tables.interactions.columns.extra.items()}
    for key in ("by", "test", "ties"):
        said = getattr(split, key)
        if said is None or not said.startswith("column:"):
            continue
        name = said.partition(":")[2].strip()
        if name not in kinds:
            there = f"there are: {', '.join(kinds)}" if kinds else "it has none"
            yield Unmet(
                ("split", key),
                f"the dataset '{card.name}' keeps no column '{name}' ({there}); name it in the card under "
                "tables.interactions.columns.extra",
                nearest(name, kinds),
            )
        elif kinds[name] == "text":
            yield Unmet(
                ("split", key),
                f"the column '{name}' of the dataset '{card.name}' is text, where '10' comes before '9': declare it in the "
                f"card as extra: {{{name}: {{column: ..., kind: number}}}}",
            )


def _candidates(split: SplitSpec | None, evaluation: Protocol, card: Card) -> Iterator[Unmet]:
    """A catalogue is larger than the vocabulary only by what other tables know of."""
    if evaluation.candidates != "catalogue" or split is None or split.kind == "click_through":
        return
    tables = card.tables
    if tables.items is None and tables.links is None and tables.negatives is None:
        yield Unmet(
            ("evaluation", "candidates"),
            f"the dataset '{card.name}' has no table of items, links or negatives, so that no item is known without events: "
            "catalogue changes nothing, leave it out",
        )


def _negatives(evaluation: Protocol, card: Card) -> Iterator[Unmet]:
    if evaluation.negatives == "shipped" and card.tables.negatives is None:
        yield Unmet(
            ("evaluation", "negatives"),
            f"the dataset '{card.name}' has no negatives of its own (tables.negatives): say how many are drawn for each case, "
            "as in `negatives: 99`",
        )


def _feature(evaluation: Protocol, card: Card) -> Iterator[Unmet]:
    """The categories that diversity is measured by."""
    said = evaluation.diversity
    if said is None:
        return
    features = dict(card.tables.items.features) if card.tables.items is not None else {}
    known = [name for name, each in features.items() if each.kind != "text" and getattr(each, "bins", 0) is not None]
    if said.feature in known:
        return
    why = "is text, or a number without bins" if said.feature in features else "is not among them"
    listed = f"categorical item features: {', '.join(known)}" if known else "no categorical item feature"
    message = f"the dataset '{card.name}' has {listed}" + (f"; '{said.feature}' {why}" if known or features else "")
    yield Unmet(("evaluation", "diversity", "feature"), message, nearest(said.feature, known))
