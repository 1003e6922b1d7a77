"""What MKR learns from: labelled pairs and triples as device tensors, and batches of them by index arithmetic alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import Graph, IntArray, Labelled, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.models.counter import Outside


@dataclass(frozen=True)
class Triples:
    """The graph in rows of MKR's tables: items come first, an item's entity has the item's own row.

    Attributes
    ----------
    items
        (T,) rows of heads in the table of items.
    heads, tails
        (T,) rows in the table of entities.
    relations
        (T,) from 0.
    item_rows
        (n_items + 1,) rows of items in the table of entities: their own, but for items that share one entity.
    n_entities
        Last row of the table of entities.
    n_relations
        Relations that occur.
    left_out
        Triples of the graph whose head is no candidate item.
    """

    items: Tensor
    heads: Tensor
    relations: Tensor
    tails: Tensor
    item_rows: Tensor
    n_entities: int
    n_relations: int
    left_out: int

    def __len__(self) -> int:
        return len(self.heads)

    def to(self, device: str | torch.device) -> Triples:
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("items", "heads", "relations", "tails", "item_rows")}
        return replace(self, **moved)


def no_triples(n_items: int) -> Triples:
    """A graph that is not read: every item has an entity of its own, and there is nothing to learn of it."""
    none = torch.zeros(0, dtype=torch.int64)
    return Triples(none, none, none, none, torch.arange(n_items + 1), n_items, 0, 0)


def read_triples(graph: Graph, n_items: int, *, any_head: bool = False, shuffle_tails: bool = False) -> Triples:
    """Number entities behind items, and keep the triples that can be learnt from.

    An item without a link gets an entity of its own. Items that are linked to one entity share its row, and its triples count
    for each of them. Entities and relations that no kept triple names have no row.

    Parameters
    ----------
    graph
        As the dataset has it.
    n_items
        Candidates.
    any_head
        Keep triples whose head is no candidate item.
    shuffle_tails
        Triples of one relation exchange their tails, at random by a seed that is always the same: how often an entity is
        a tail of a relation stays, of what it is one does not.

    Examples
    --------
    >>> entity = np.array([0, 3, 0, 1])  # item 1 is entity 3, item 2 has none, item 3 is entity 1
    >>> graph = Graph(np.array([3, 1, 2]), np.array([1, 1, 1]), np.array([2, 3, 1]), 3, 1, entity)
    >>> read_triples(graph, 3).heads.tolist(), read_triples(graph, 3).tails.tolist(), read_triples(graph, 3).left_out
    ([1, 3], [4, 1], 1)
    """
    row = np.zeros(graph.n_entities + 1, np.int64)
    linked = np.flatnonzero(graph.item_entity[1 : n_items + 1]) + 1
    entity_of = graph.item_entity[linked]
    row[entity_of[::-1]] = linked[::-1]  # the first of several items gives the row
    heads, relations, tails = graph.heads, graph.relations, graph.tails
    if shuffle_tails:
        tails = _exchanged(relations, tails)
    of_item = row[heads] > 0
    left_out = 0 if any_head else int((~of_item).sum())
    if not any_head:
        heads, relations, tails = heads[of_item], relations[of_item], tails[of_item]
    others = np.unique(np.concatenate([heads, tails]))
    others = others[row[others] == 0]
    row[others] = n_items + 1 + np.arange(len(others))
    item_rows = np.arange(n_items + 1)
    item_rows[linked] = row[entity_of]
    named, relation = np.unique(relations, return_inverse=True)
    items, triple = _items_of(row[heads], item_rows, n_items)
    return Triples(
        torch.as_tensor(items),
        torch.as_tensor(row[heads][triple]),
        torch.as_tensor(relation.astype(np.int64)[triple]),
        torch.as_tensor(row[tails][triple]),
        torch.as_tensor(item_rows),
        n_items + len(others),
        len(named),
        left_out,
    )


def _items_of(head_rows: IntArray, item_rows: IntArray, n_items: int) -> tuple[IntArray, IntArray]:
    """The rows of the item table that stand for each head, and which triple each is of; a head that is no item is its own."""
    order = np.argsort(item_rows[1:], kind="stable") + 1
    sharing = item_rows[order]
    first = np.searchsorted(sharing, head_rows, "left")
    count = np.where(head_rows <= n_items, np.searchsorted(sharing, head_rows, "right") - first, 1)
    triple = np.repeat(np.arange(len(head_rows)), count)
    within = np.arange(len(triple)) - np.repeat(np.cumsum(count) - count, count)
    place = np.minimum(first[triple] + within, max(len(order) - 1, 0))
    return np.where(head_rows[triple] <= n_items, order[place], head_rows[triple]), triple


def _exchanged(relations: IntArray, tails: IntArray) -> IntArray:
    rng = np.random.default_rng(0)
    mixed = rng.permutation(len(tails))
    to, taken = np.argsort(relations, kind="stable"), mixed[np.argsort(relations[mixed], kind="stable")]
    exchanged = tails.copy()
    exchanged[to] = tails[taken]
    return exchanged


@dataclass(frozen=True)
class PairBatch:
    """Labelled pairs: rows of users, items, labels 0 or 1 (float); ``n_targets`` of them are targets of the split."""

    users: Tensor
    items: Tensor
    labels: Tensor
    n_targets: int


@dataclass(frozen=True)
class TripleBatch:
    """Places of triples in the graph. Triples are no targets of the split."""

    places: Tensor
    n_targets: int = 0


class DrawnPairs:
    """Every training event once an epoch, beside it an item that the user has not met in training.

    What a user has met is read of training alone: leaving out more would tell what comes in validation or test.

    Parameters
    ----------
    data
        Training data; users are numbered by their rows.
    batch_size
        Pairs of a batch, half of them positive; an odd one is rounded down.
    device
        Where batches are made.
    """

    def __init__(self, data: TrainingData, batch_size: int, device: str | torch.device) -> None:
        rows = Histories.of(np.arange(len(data.train.items)), data.train.items, device)
        self.users, self.items, self.positives = rows.rows, rows.items, batch_size // 2
        self._outside = Outside(rows, data.n_items)
        kept = (self._outside.room[self.users] > 0).nonzero().squeeze(1)
        self._pairable = None if len(kept) == len(self.users) else kept
        self._room = self._outside.room[self.users]

    def __call__(self, generator: torch.Generator) -> Iterator[PairBatch]:
        """One epoch."""
        device = self.items.device
        order = torch.randperm(len(self.items), generator=generator).to(device)
        users, items, room = self.users[order], self.items[order], self._room[order]
        # Who has met every item has no negative: number 0 is looked up in vain and left out below.
        numbers = (torch.rand(len(order), device=device, dtype=torch.float64) * room).long().clamp_(min=0)
        numbers = torch.minimum(numbers, (room - 1).clamp(min=0))
        drawn = self._outside.pick(users, numbers)
        ones, zeros = torch.ones(self.positives, device=device), torch.zeros(self.positives, device=device)
        for start in range(0, len(order), self.positives):
            part = slice(start, start + self.positives)
            who, met, other = users[part], items[part], drawn[part]
            beside, n = who, len(who)
            if self._pairable is not None:
                there = room[part] > 0
                beside, other = who[there], other[there]
            labels = torch.cat([ones[:n], zeros[: len(other)]])
            yield PairBatch(torch.cat([who, beside]), torch.cat([met, other]), labels, n)


class GivenPairs:
    """The labelled rows of a click-through split, shuffled as one.

    Parameters
    ----------
    labelled
        Rows; users are numbers of the dataset. Those of items outside the candidates, and of users without a positive row,
        are passed over.
    users
        (n_users,) the dataset's number of every row of the user table.
    batch_size, device
        As of :class:`DrawnPairs`; all pairs count as targets.
    """

    def __init__(self, labelled: Labelled, users: IntArray, batch_size: int, device: str | torch.device) -> None:
        order = np.argsort(users, kind="stable")
        place = np.minimum(np.searchsorted(users[order], labelled.users), max(len(users) - 1, 0))
        known = (users[order][place] == labelled.users) & (labelled.items > 0)
        self.users = torch.as_tensor(order[place[known]]).to(device)
        self.items = torch.as_tensor(labelled.items[known]).to(device)
        self.labels = torch.as_tensor(labelled.labels[known], dtype=torch.get_default_dtype()).to(device)
        self.batch_size = batch_size

    def __call__(self, generator: torch.Generator) -> Iterator[PairBatch]:
        """One epoch."""
        order = torch.randperm(len(self.items), generator=generator).to(self.items.device)
        users, items, labels = self.users[order], self.items[order], self.labels[order]
        for start in range(0, len(order), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield PairBatch(users[part], items[part], labels[part], len(items[part]))


def pairs(data: TrainingData, negatives: str, batch_size: int, device: str | torch.device) -> DrawnPairs | GivenPairs:
    """The labelled pairs of an epoch.

    Raises
    ------
    ModelError
        ``given`` negatives, and the split lists none.
    """
    if negatives == "drawn":
        return DrawnPairs(data, batch_size, device)
    if data.labelled is None:
        raise ModelError(
            "negatives: given takes the labelled rows of a click-through split, and this split has none.",
            advice="Set negatives: drawn, or split.kind: click_through.",
        )
    return GivenPairs(data.labelled, data.train.users, batch_size, device)


def triple_batches(n_triples: int, batch_size: int, generator: torch.Generator, device: torch.device) -> Iterator[TripleBatch]:
    """Every triple once."""
    order = torch.randperm(n_triples, generator=generator).to(device)
    for part in torch.split(order, batch_size):
        yield TripleBatch(part)
