"""ConvNCF: a convolutional tower over the outer product of a user's and an item's vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import ModelConfig
from benchbed.models.convncf_config import ConvNCFConfig
from benchbed.models.pairwise import PRETRAINING, Triples, shown_as_mean, tower_bpr
from benchbed.models.patch_products import (
    ITEMS_AT_ONCE,
    PatchBlock,
    PatchTower,
    PatchWeights,
    features_of_pairs,
    pairs_per_block,
)
from benchbed.models.two_tables import AdagradInTurn, AdamInTurn, TwoTables, squares

WARM_UP = "warm_up"
REGULAR = "regular"

WARM_UP_RATE = 0.01
"""Learning rate of the first epoch in the authors' code."""


@dataclass(frozen=True)
class Frozen:
    """What scoring and fold-in read of the model."""

    weights: PatchWeights
    head: Tensor
    bias: Tensor
    items: Tensor

    def to(self, dtype: torch.dtype) -> Frozen:
        """The tower in other digits; head and bias, which sum up in the end, as they are."""
        return replace(self, weights=self.weights.with_tensors([tensor.to(dtype) for tensor in self.weights.tensors]))


class ConvNCF(TwoTables):
    """score(u, i) = w . g(p_u q_i') + b, with g a tower of convolutions with ReLU that ends in one place.

    The loss is the *sum* over a batch of log(1 + exp(-(s+ - s-))) and of penalties; it is shown as the mean over the triples,
    and its gradients are those of the sum, to which the authors' learning rates and weights of the penalties belong.

    Where it differs from the authors' code: softplus in place of a logarithm that overflows; the last, partial batch is used;
    model selection and negatives never see test items; MF-BPR is part of the run, and its epochs are a hyper-parameter in place
    of a choice by the test set.

    Attributes
    ----------
    epochs_begun
        Epochs that training has begun: the first is another one (pre-training, ``warmup_unregularised``).

    References
    ----------
    He et al., "Outer Product-based Neural Collaborative Filtering", IJCAI 2018, and the authors' code (duxy-me/ConvNCF).
    """

    name = "convncf"
    Config = ConvNCFConfig
    reference = "He et al. (IJCAI 2018), ConvNCF."
    full_ranking_only: ClassVar[Mapping[str, Any]] = {"scoring": "bf16"}
    epochs_begun: Tensor

    def __init__(self, config: ConvNCFConfig, data: TrainingData) -> None:
        super().__init__(config, data, std=0.01 if config.init == "small" else 1.0)
        self.config = config
        self.tower = PatchTower(config.kernels, config.widths)
        self.head = nn.Linear(config.widths[-1], 1)
        _initialise(self.tower, self.head, small=config.init == "small")
        self.register_buffer("epochs_begun", torch.zeros((), dtype=torch.int64))
        self.updates = -(-len(data.train.items.values) // config.batch_size)
        self._phase = REGULAR

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The variant, and whether its form was changed."""
        assert isinstance(config, ConvNCFConfig)
        return config.label

    @property
    def warm_up_epochs(self) -> int:
        """The penalties begin after the first epoch."""
        return int(self.config.warmup_unregularised)

    # ----- learning -------------------------------------------------------------------------------------------------

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Those of the first epoch, and those of all others; each waits for its turn."""
        c, tables = self.config, [self.user_embedding.weight, self.item_embedding.weight]
        network = [*self.tower.parameters(), *self.head.parameters()]
        network_rate = c.network_learning_rate or c.learning_rate
        made: list[torch.optim.Optimizer] = []
        if c.pretrain_epochs:
            made.append(AdagradInTurn(tables, c.pretrain_learning_rate, lambda: self._phase == PRETRAINING))
        if c.warmup_unregularised:
            made.append(AdagradInTurn(self.parameters(), WARM_UP_RATE, lambda: self._phase == WARM_UP))

        def regular() -> bool:
            return self._phase == REGULAR

        if c.optimizer == "adam":
            groups = [{"params": tables, "lr": c.learning_rate}, {"params": network, "lr": network_rate}]
            return [*made, AdamInTurn(groups, regular)]
        return [*made, AdagradInTurn(tables, c.learning_rate, regular), AdagradInTurn(network, network_rate, regular)]

    def batches(self, generator: torch.Generator) -> Iterator[Triples]:
        """The batches of an epoch; those of the pre-training come before those of the first."""
        c, first = self.config, not int(self.epochs_begun)
        self.epochs_begun += 1
        for _ in range(c.pretrain_epochs if first else 0):
            yield from self.triples(generator, c.batch_size, phase=PRETRAINING)
        phase = WARM_UP if first and c.warmup_unregularised else REGULAR
        yield from self.triples(generator, c.batch_size, c.dns, phase)

    def loss(self, batch: Triples) -> Tensor:
        """The objective of the batch, a sum, shown as the mean over its triples."""
        self._phase = batch.phase
        return shown_as_mean(self.objective(batch), len(batch.users))

    def objective(self, batch: Triples) -> Tensor:
        """What a batch minimises: the pairwise loss summed over its triples, and, but for the warm-up, the penalties."""
        c = self.config
        if batch.phase == PRETRAINING:
            return self.inner_product_objective(batch, c.pretrain_regularisation)
        if batch.negatives.shape[1] > 1:
            batch = self._hardest(batch)
        regularised = batch.phase != WARM_UP
        vectors = self.vectors(batch, sparse=c.optimizer == "adagrad" and not (regularised and c.penalty == "norm"))
        kept = None
        if c.dropout and self.training:
            kept = F.dropout(vectors[0].new_ones(2, len(batch.users), self.head.in_features), c.dropout)
        total = tower_bpr(self.tower.matrices, self.head.weight[0], *vectors, kept)
        return total + self.penalty(vectors) if regularised else total

    def penalty(self, vectors: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The regularisers of one batch, given its (n, d) user, positive and negative vectors."""
        c = self.config
        if c.penalty == "norm":
            tables = [self.user_embedding.weight, self.item_embedding.weight]
            of_tables, of_tower = _norms(tables), _norms(self.tower.weights)
            of_head = self.head.weight.norm()
        else:
            of_tables, of_tower = squares(vectors), squares(self.tower.parameters())
            of_head = squares(self.head.parameters())
        weighted: Tensor = c.lambda1 * of_tables + (c.gamma + c.lambda3) * of_head + c.lambda3 * of_tower
        return weighted

    @torch.no_grad()
    def _hardest(self, batch: Triples) -> Triples:
        """Of each triple's candidates the one that scores highest, without dropout."""
        n, candidates = batch.negatives.shape
        users = self.user_embedding.weight[batch.users].repeat_interleave(candidates, 0)
        scores = self._pairs(users, batch.negatives.flatten(), self.item_side()).view(n, candidates)
        chosen = batch.negatives.gather(1, scores.argmax(1, keepdim=True))
        return Triples(batch.users, batch.positives, chosen, batch.phase)

    # ----- scoring and fold-in --------------------------------------------------------------------------------------

    def item_side(self) -> Frozen:
        """The tower as matrices, and the item table. What the first layer needs of items is made block by block in scoring."""
        weights = self.tower.matrices.detach()
        return Frozen(weights, self.head.weight[0].detach(), self.head.bias.detach(), self.item_embedding.weight.detach())

    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: Frozen) -> Tensor:
        """See :meth:`FoldIn.fold_in_loss`; through the frozen tower, whose own penalties do not depend on a user.

        ``penalty: norm`` is of the whole table, in every update of an epoch: a row has its part p / ||P|| of each gradient.
        """
        users, c = rows[owner], self.config
        total: Tensor = tower_bpr(side.weights, side.head, users, side.items[positives], side.items[negatives])
        if c.penalty == "squared":
            return total + c.lambda1 * users.square().sum()
        norm = self.user_embedding.weight.detach().norm().clamp(min=torch.finfo(rows.dtype).tiny)
        learning = rows[torch.unique(owner)]  # a row without events stays where it is
        norms: Tensor = learning.square().sum() / (2 * norm)
        return total + c.lambda1 * self.updates * norms

    def row_scores(self, rows: Tensor, items: Tensor | None, side: Frozen) -> Tensor:
        """See :meth:`FoldIn.row_scores`: a block of items after the other, each with all users."""
        digits = side.weights.first.dtype
        table = (side.items if items is None else side.items[items]).to(digits)
        scores = rows.new_empty(len(table), len(rows))
        patches = side.weights.user_patches(rows.to(digits))
        pairs = pairs_per_block(side.weights, rows.device)
        height = min(pairs, ITEMS_AT_ONCE * (16 if rows.is_cuda else 1))
        width = max(1, pairs // height)
        block = PatchBlock(side.weights, height * width)
        for top in range(0, len(table), height):
            items = table[top : top + height]
            products = side.weights.item_products(items)
            for left in range(0, len(rows), width):
                chosen = patches[left : left + width]
                spread = chosen.flatten(0, 1).expand(len(products), -1, -1)
                features = block.forward(spread, products, len(items), len(chosen))
                found = features.to(side.head.dtype) @ side.head
                scores[top : top + height, left : left + width] = found.view(len(items), -1)
        return scores.add_(side.bias).T

    @property
    def scores_coarsely(self) -> bool:
        """Whether validations may begin with the scores of a tower in bfloat16."""
        return self.config.scoring == "bf16"

    def coarse_scores(self, histories: Histories) -> BFloat16Scores:
        """Of the tower in bfloat16; users are folded in in full."""
        return BFloat16Scores(self, self.fold_in(histories))

    def row_pair_scores(self, rows: Tensor, owner: Tensor, items: Tensor, side: Frozen) -> Tensor:
        """See :meth:`FoldIn.row_pair_scores`; no other pair is scored."""
        return self._pairs(rows[owner], items, side)

    @staticmethod
    def _pairs(users: Tensor, items: Tensor, side: Frozen) -> Tensor:
        """(n,) scores of (n, d) user vectors with (n,) items."""
        scores = users.new_empty(len(users))
        for chosen, features in features_of_pairs(side.weights, users, side.items[items]):
            scores[chosen] = features @ side.head
        return scores.add_(side.bias)


class BFloat16Scores:
    """What a ranking asks for that begins with coarse scores; users are folded in once for all of it."""

    def __init__(self, model: ConvNCF, rows: Tensor) -> None:
        self.model, self.rows = model, rows
        self.side = model.item_side()
        self.low = self.side.to(torch.bfloat16)

    def coarse(self, start: int, stop: int) -> Tensor:
        """(stop - start, n_items + 1) scores of the tower in bfloat16."""
        return self.model.row_scores(self.rows[start:stop], None, self.low)

    def exact(self, start: int, stop: int) -> Tensor:
        """(stop - start, n_items + 1) scores in full."""
        return self.model.row_scores(self.rows[start:stop], None, self.side)

    def pairs(self, owner: Tensor, items: Tensor) -> Tensor:
        """(P,) scores in full of single items."""
        return self.model.row_pair_scores(self.rows, owner, items, self.side)


def _norms(tensors: Any) -> Tensor:
    return torch.stack([tensor.norm() for tensor in tensors]).sum()


def _initialise(tower: PatchTower, head: nn.Linear, *, small: bool) -> None:
    """Of the network; see ``init`` of the Config."""
    if small:
        for weight in (*tower.weights, head.weight, head.bias):
            nn.init.trunc_normal_(weight, std=0.1, a=-0.2, b=0.2)
        for bias in tower.biases:
            nn.init.constant_(bias, 0.1)
        return
    for weight, bias in zip(tower.weights, tower.biases, strict=True):
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2])
        weight.data.copy_(layer.weight.data)
        assert layer.bias is not None, "a convolution has one unless it is told otherwise"
        bias.data.copy_(layer.bias.data)
