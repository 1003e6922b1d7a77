"""MKR: recommendation and the knowledge graph learnt in turn, sharing what items and entities are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import ModelConfig
from benchbed.models.fold_in import FoldIn
from benchbed.models.mkr_config import MKRConfig
from benchbed.models.mkr_data import (
    DrawnPairs,
    GivenPairs,
    PairBatch,
    TripleBatch,
    no_triples,
    pairs,
    read_triples,
    triple_batches,
)
from benchbed.models.mkr_parts import (
    Layers,
    Rows,
    Units,
    glorot,
    graph_loss,
    recommendation_loss,
    triple_scores,
)
from benchbed.models.mkr_probe import Probe

BLOCK_NUMBERS = 2**22
"""With an mlp output: numbers of a hidden layer that are held at once while all items are scored."""


class MKR(FoldIn):
    """score(u, i) = u' . v', behind layers on the user and cross-and-compress units on the item and its entity.

    Every epoch learns from labelled pairs of user and item. In epochs 0, k, 2k, ... (``kge_interval``) all triples of the graph
    follow: from head and relation the tail is predicted, and the units and both tables of the item learn from that too.

    Triples whose head is no candidate item are left out and counted (``triples_left_out``); an item without a link has an
    entity of its own. Where no triple is left, or with ``kge_interval: 0``, the recommendation part trains alone.

    Where it differs from the authors' code: items without a link stay; users' rows are folded in; nothing is chosen on the
    test set. From RecBole's, in variant ``recbole``: RecBole's mlp is ``output: mlp_sigmoid``, and entities that are no items
    rest in steps of recommendation (there Adam's momentum moves them on).

    References
    ----------
    Wang et al., WWW 2019, and the authors' code (hwwang55/MKR); RecBole's network is the ``recbole`` variant.
    """

    name = "mkr"
    Config = MKRConfig
    reference = "Wang et al. (WWW 2019); code of the authors, the article's graph loss, or RecBole's network."
    needs = frozenset({"graph"})
    logits = True
    labelled_only: ClassVar[Mapping[str, Any]] = {"negatives": "given"}
    fold_in_dtype: ClassVar[torch.dtype | None] = torch.float64
    epochs_begun: Tensor

    def __init__(self, config: MKRConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        size, initial, n_items = config.embedding_size, config.initial, data.n_items
        triples = no_triples(n_items)
        if config.kge_interval and data.graph is not None:
            triples = read_triples(data.graph, n_items, any_head=config.heads == "entities", shuffle_tails=config.shuffle_tails)
        learnt = len(triples) > 0
        self.users = glorot(self.n_users, size, initial=initial)
        self.items = Rows(n_items, triples.n_entities if config.heads == "entities" else n_items, size, initial)
        self.entities = Rows(n_items, triples.n_entities, size, initial)
        self.units = Units(config.low_layers, size, initial, scalars=config.unit_biases == "scalars", entities=learnt)
        low, high = [size] * (config.low_layers + 1), [2 * size] * config.high_layers
        self.user_layers = self._layers(low)
        linear_end = config.output == "mlp"
        self.pair_layers = None if config.output == "inner_product" else self._layers([*high, 1], linear_end=linear_end)
        if learnt:
            self.relations = glorot(triples.n_relations, size, initial=initial)
            self.graph_layers = self._layers(low)
            self.triple_layers = self._layers([*high, size], linear_end=config.kge_form == "relation")
        self.register_buffer("epochs_begun", torch.zeros((), dtype=torch.int64))
        self._triples, self._task = triples, "recommendation"
        self._pairs: DrawnPairs | GivenPairs | None = None
        self._probe: Probe | None = None

    def _layers(self, sizes: list[int], *, linear_end: bool = False) -> Layers:
        c = self.config
        return Layers(sizes, c.initial, c.activation, c.dropout, linear_end=linear_end)

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The preset, whether its form was changed, and what else makes it another model."""
        assert isinstance(config, MKRConfig)
        return config.label

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """See :meth:`Recommender.bind`."""
        super().bind(data, device)
        self._triples = self._triples.to(device)
        self._pairs = pairs(data, self.config.negatives, self.config.batch_size, device)
        self._probe = Probe(data, device)

    # Training

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """An Adam a task, each over what its loss reaches, what both reach in both; or one Adam over everything."""
        rate, config = self.config.learning_rate, self.config
        if config.kge_rate is None or not len(self._triples):
            return [torch.optim.Adam(self.parameters(), lr=rate, fused=True)]
        recommends = {self.users, *self.user_layers.parameters()}
        recommends |= set(self.pair_layers.parameters()) if self.pair_layers else set()
        graph = {self.relations, *self.graph_layers.parameters(), *self.triple_layers.parameters()}
        graph |= {table.others for table in (self.items, self.entities) if table.others is not None}
        every = list(self.parameters())
        return [
            TaskAdam([p for p in every if p not in graph], rate, lambda: self._task == "recommendation"),
            TaskAdam([p for p in every if p not in recommends], rate * config.kge_rate, lambda: self._task == "graph"),
        ]

    def batches(self, generator: torch.Generator) -> Iterator[PairBatch | TripleBatch]:
        """See :meth:`Recommender.batches`; all pairs, and after them all triples where it is an epoch of the graph."""
        assert self._pairs is not None, "bind() comes first"
        epoch, interval = int(self.epochs_begun), self.config.kge_interval
        self.epochs_begun += 1
        yield from self._pairs(generator)
        if interval and epoch % interval == 0 and len(self._triples):
            yield from triple_batches(len(self._triples), self.config.batch_size, generator, self.device)

    def loss(self, batch: PairBatch | TripleBatch) -> Tensor:
        """Of pairs: mean logistic loss with the penalty. Of triples: minus the sum of their scores, and the penalty B times."""
        if isinstance(batch, PairBatch):
            self._task = "recommendation"
            return self._recommendation_loss(batch)
        self._task = "graph"
        return self._graph_loss(batch)

    def _recommendation_loss(self, batch: PairBatch) -> Tensor:
        users = self.user_layers(F.embedding(batch.users, self.users))
        items = self.item_features(batch.items)
        logits = self.pair_logits(users, items)
        weights = [*self.user_layers.penalised(), *self.units.penalised()]
        weights += self.pair_layers.penalised() if self.pair_layers else []
        return recommendation_loss(
            logits, batch.labels, self.config.l2, [users, items], weights if self.config.penalty == "weights" else []
        )

    def _graph_loss(self, batch: TripleBatch) -> Tensor:
        t, config = self._triples, self.config
        negatives = config.kge_negatives if t.n_entities > 1 else 0  # a single entity has no other to be corrupted by
        places = batch.places
        tails = t.tails[places][:, None]
        if negatives:
            # Uniform over all entities but the true tail: those from the tail on move up by one.
            drawn = torch.randint(1, t.n_entities, (len(places), negatives), device=places.device)
            tails = torch.cat([tails, drawn + (drawn >= tails)], 1)
        heads = self.units.entity(self.items(t.items[places]), self.entities(t.heads[places]))
        vectors = self.tail_features(self.entities(tails))
        scores = triple_scores(vectors, self.predicted_tails(heads, F.embedding(t.relations[places], self.relations))[:, None])
        weights = [*self.graph_layers.penalised(), *self.triple_layers.penalised(), *self.units.penalised()]
        return graph_loss(
            scores[:, 0],
            scores[:, 1:] if negatives else None,
            config.l2,
            [heads, vectors[:, 0]],
            weights if config.penalty == "weights" else [],
        )

    # The network

    def item_features(self, items: Tensor) -> Tensor:
        """(B,) items -> (B, d) v', behind the units."""
        entities = F.embedding(self._triples.item_rows[items], self.entities.items)
        return self.units.item(F.embedding(items, self.items.items), entities)

    def pair_logits(self, users: Tensor, items: Tensor) -> Tensor:
        """(..., d) users and items behind their layers -> (...) logits."""
        if self.pair_layers is None:
            return (users * items).sum(-1)
        logits: Tensor = self.pair_layers(torch.cat([users, items], -1))
        return logits.squeeze(-1)

    def tail_features(self, tails: Tensor) -> Tensor:
        """(..., d) rows of entities -> (..., d) what predictions are compared with."""
        if self.config.kge_form == "relation":
            return tails
        features: Tensor = self.graph_layers(tails)
        return features

    def predicted_tails(self, heads: Tensor, relations: Tensor) -> Tensor:
        """(B, d) heads behind the units and (B, d) rows of relations -> (B, d) between 0 and 1."""
        if self.config.kge_form == "relation":
            relations = self.graph_layers(relations)
        return torch.sigmoid(self.triple_layers(torch.cat([heads, relations], -1)))

    # Fold-in and scores

    @property
    def user_table(self) -> Tensor:
        """See :attr:`FoldIn.user_table`: the rows before any layer."""
        return self.users

    def item_side(self) -> Tensor:
        """(n_items + 1, d) v' of all items; row 0 means nothing."""
        return self.item_features(torch.arange(self.n_items + 1, device=self.device))

    def fold_in(self, histories: Histories, *, trained: bool = True) -> Tensor:
        """See :meth:`FoldIn.fold_in`; with ``negatives: given`` and no steps, who has no row gets the mean row.

        A click-through split divides rows, not users: the only events of some are in validation and test. The authors' code
        scores these by the first values of a row; the mean of the trained ones says at least what users have in common.
        """
        if self.fold_in_steps == 0 and self.config.negatives == "given":
            return self.start_rows(histories.users, trained=trained)[0]
        return super().fold_in(histories, trained=trained)

    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: Any) -> Tensor:
        """The summed logistic loss over the batch size, and the penalty of the user's vector once a labelled pair.

        That is what a user's row is given by the batches of an epoch.
        """
        config = self.config
        users: Tensor = self.user_layers(rows)[owner]
        wanted = F.softplus(-self.pair_logits(users, side[positives].to(users.dtype))).sum()
        unwanted = F.softplus(self.pair_logits(users, side[negatives].to(users.dtype))).sum()
        # Half of the sum of squares, for the positive and the negative pair.
        return (wanted + unwanted) / config.batch_size + config.l2 * users.square().sum()

    def row_scores(self, rows: Tensor, items: Tensor | None, side: Any) -> Tensor:
        """See :meth:`FoldIn.row_scores`: one matrix product behind the user's layers, or blocks of pairs with an mlp."""
        users: Tensor = self.user_layers(rows)
        table: Tensor = side if items is None else side[items]
        if self.pair_layers is None:
            return users @ table.T
        width = max(1, BLOCK_NUMBERS // max(1, len(table) * 2 * table.shape[1]))
        blocks = [
            self.pair_logits(part[:, None].expand(-1, len(table), -1), table.expand(len(part), -1, -1))
            for part in torch.split(users, width)
        ]
        return torch.cat(blocks) if blocks else rows.new_zeros(0, len(table))

    def row_pair_scores(self, rows: Tensor, owner: Tensor, items: Tensor, side: Any) -> Tensor:
        """See :meth:`FoldIn.row_pair_scores`."""
        return self.pair_logits(self.user_layers(rows)[owner], side[items])

    # What a run tells

    @property
    def costs(self) -> dict[str, float]:
        """Besides the seconds of fold-in: triples learnt and left out, and signs of a network whose users are all alike.

        ``constant_users`` is the share of (up to 1,000) users to whom all items are the same, ``probe_auc`` the AUC of
        training pairs against items that were not met, and ``dead_relu`` is 1 where, from the third epoch on, more than 1 % are
        constant or that AUC is within .01 of a half: such a run says nothing about the model.
        """
        facts = {"triples": float(len(self._triples)), "triples_left_out": float(self._triples.left_out)}
        if self._probe is None or int(self.epochs_begun) == 0:
            return {**super().costs, **facts}
        was_training = self.training
        self.eval()
        with torch.no_grad():
            side, rows = self.item_side(), self.user_layers(self.users)
            constant = self._probe.constant_users(lambda users, items: self.pair_logits(rows[users], side[items]))
            auc = self._probe.auc(lambda users, items: self.pair_logits(rows[users], side[items]))
        self.train(was_training)
        dead = int(self.epochs_begun) > 2 and (constant > 0.01 or abs(auc - 0.5) <= 0.01)
        return {**super().costs, **facts, "constant_users": constant, "probe_auc": auc, "dead_relu": float(dead)}


class TaskAdam(torch.optim.Adam):
    """Adam that steps after the batches of its own task only; the loop steps all optimisers after every batch.

    Parameters
    ----------
    params, lr
        As of Adam.
    has_turn
        Whether the newest batch was of its task.
    """

    def __init__(self, params: Any, lr: float, has_turn: Callable[[], bool]) -> None:
        super().__init__(params, lr=lr, fused=True)
        self._has_turn = has_turn

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Step, if it is its turn."""
        return super().step(closure) if self._has_turn() else None
