"""ComiRec-SA: several interests of a user by self-attention, one of which has to explain each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.models.base import ModelConfig, Recommender
from benchbed.models.cuts import CONTEXT, CutBatch, EveryPrefix, PrefixBatch, RandomCuts
from benchbed.models.interests import SelfAttentiveInterests, choose, choose_in_every_prefix
from benchbed.models.losses import linear_cross_entropy
from benchbed.models.negatives import LogUniformSampler, UniformSampler
from benchbed.models.sampled_softmax import own_columns, sampled_cross_entropy
from benchbed.models.variants import fill, label
from benchbed.models.windows import SequenceBatch

BLOCK_NUMBERS = 2**20
"""Inner products of interests and items that exist at one time on a processor; a GPU takes 64 times as many."""

PRESETS: dict[str, dict[str, Any]] = {
    "authors": {"positions": "weights", "biases": True, "sampler": "log_uniform"},
    "paper": {"positions": "inputs", "biases": False, "sampler": "log_uniform"},
    "article": {"positions": "none", "biases": False, "sampler": "full"},
}
"""What each variant decides."""


class ComiRecSAConfig(ModelConfig):
    """Hyper-parameters of :class:`ComiRecSA`.

    Attributes
    ----------
    variant
        ``authors``: the code of the authors. ``paper``: positions are part of the inputs, no biases. ``article``: no positions,
        cross-entropy over all items. It decides the defaults of ``positions``, ``biases`` and ``sampler``.
    interests
        K, interest vectors of a user.
    embedding_size
        Width of item table and interests.
    attention_size
        Width of the attention's hidden layer; None is four times ``embedding_size``.
    window
        Newest events that are seen (the authors' maxlen).
    positions
        Where trained position vectors enter: ``weights`` (of the attention alone), ``inputs`` or ``none``.
    biases
        Whether the attention's hidden layer has a bias.
    learning_rate
        Of Adam.
    sampler
        Of the negatives: ``log_uniform`` over ranks of popularity, ``uniform``, or ``full``: all items, no sampling.
    n_negatives
        Distinct items that all targets of a batch share as negatives, a target's own excepted: 1280, or 0 with ``full``. Fewer
        than there are items.
    logq
        Take the logarithm of its expected count from every logit. On with ``log_uniform``. With ``uniform`` it would take the
        same number from all, with ``full`` there is none; both refuse it.
    batching
        ``random_cut``: random users, each cut at a random place. ``every_prefix``: all prefixes of a window at once, exact
        while a prefix fits the window; longer sequences are cut into windows whose first event acts as the beginning.
    batch_size
        Targets of one update: 128, or 1024 with ``every_prefix``, where it is exceeded by up to one window.
    weight
        With ``every_prefix``: ``user``, all users weigh the same, as where users are drawn; ``event``, all targets do.
    """

    variant: Literal["authors", "paper", "article"] = "authors"
    interests: int = Field(4, ge=1)
    embedding_size: int = Field(64, ge=1)
    attention_size: int | None = Field(None, ge=1)
    window: int = Field(20, ge=1)
    positions: Literal["weights", "inputs", "none"] = "weights"
    biases: bool = True
    learning_rate: float = Field(1e-3, gt=0)
    sampler: Literal["log_uniform", "uniform", "full"] = "log_uniform"
    n_negatives: int = Field(1280, ge=0)
    logq: bool = True
    batching: Literal["random_cut", "every_prefix"] = "random_cut"
    batch_size: int = Field(128, ge=1)
    weight: Literal["user", "event"] = "user"

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        filled = fill(values, PRESETS, "authors")
        if not isinstance(filled, Mapping):
            return filled
        sampler = filled.get("sampler")
        return {
            "n_negatives": 0 if sampler == "full" else 1280,
            "logq": sampler == "log_uniform",
            "batch_size": 1024 if filled.get("batching") == "every_prefix" else 128,
            **filled,
        }

    @model_validator(mode="after")
    def _together(self) -> ComiRecSAConfig:
        if self.sampler == "full" and self.n_negatives:
            raise ValueError("sampler 'full' takes all items as negatives: n_negatives must be 0 (or choose another sampler)")
        if self.sampler != "full" and not self.n_negatives:
            raise ValueError(f"sampler '{self.sampler}' needs n_negatives of 1 or more (or choose sampler 'full')")
        if self.logq and self.sampler != "log_uniform":
            raise ValueError(f"logq changes nothing with sampler '{self.sampler}': all items are met equally often")
        if self.batching == "every_prefix" and self.window < CONTEXT:
            raise ValueError(f"batching 'every_prefix' needs a window of {CONTEXT} or more, the events before a first target")
        if self.batching == "random_cut" and self.weight == "event":
            raise ValueError("weight 'event' needs batching 'every_prefix': random cuts draw users, who weigh the same")
        return self


class ComiRecSA(Recommender):
    """score(u, i) = max over K interests of V_k . e_i; V are K attention-weighted means of the newest events.

    In training the interest with the largest inner product with the target is chosen (no gradient passes through the choice),
    and a softmax over the target and negatives that the batch shares is taken of that one interest.

    Where it differs from the authors' code: padding is never a negative and never recommended (there it is the likeliest
    negative); seen items are the protocol's matter; the bias that the softmax takes out again is not there; users with fewer
    than 5 events and batches larger than the number of users do not end the run.

    Attributes
    ----------
    wins
        (K,) how often each interest was chosen in the current epoch of training; see :attr:`win_shares`.

    References
    ----------
    Cen et al., KDD 2020, and the authors' code (THUDM/ComiRec).
    """

    name = "comirec_sa"
    Config = ComiRecSAConfig
    reference = "Cen et al. (KDD 2020), ComiRec-SA."
    needs = frozenset({"sequences"})
    wins: Tensor

    def __init__(self, config: ComiRecSAConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.sampler = _sampler(config, data, "cpu")
        self.embedding = nn.Embedding(data.n_items + 1, config.embedding_size, padding_idx=0)
        self.attention = SelfAttentiveInterests(
            config.embedding_size,
            config.attention_size or 4 * config.embedding_size,
            config.interests,
            config.window,
            positions=config.positions,
            biases=config.biases,
        )
        nn.init.xavier_uniform_(self.embedding.weight)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0
        self.register_buffer("wins", torch.zeros(config.interests, dtype=torch.int64))
        self._batches: RandomCuts | EveryPrefix | None = None

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The variant; ``every_prefix`` is named, because it is not the authors' batching."""
        assert isinstance(config, ComiRecSAConfig)
        form = label(config, ("positions", "biases", "sampler", "logq", "weight"))
        return form if config.batching == "random_cut" else f"{form}, {config.batching}"

    @property
    def win_shares(self) -> Tensor:
        """(K,) share of the epoch's targets that each interest explained; one near 1 tells that the others are idle."""
        return self.wins / self.wins.sum().clamp(min=1)

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """See :meth:`Recommender.bind`."""
        super().bind(data, device)
        config, items = self.config, data.train.items
        self.sampler = _sampler(config, data, device)
        if config.batching == "random_cut":
            self._batches = RandomCuts(items, window=config.window, batch_size=config.batch_size, device=device)
        else:
            self._batches = EveryPrefix(
                items, window=config.window, batch_targets=config.batch_size, weight=config.weight, device=device
            )

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam over everything."""
        return [torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)]

    def batches(self, generator: torch.Generator) -> Iterator[CutBatch] | Iterator[SequenceBatch]:
        """See :meth:`Recommender.batches`."""
        assert self._batches is not None, "bind() comes first"
        self.wins.zero_()
        return self._batches(generator)

    def loss(self, batch: CutBatch | SequenceBatch) -> Tensor:
        """Cross-entropy of the chosen interest, mean over the batch's targets (weighted, where the batch has weights)."""
        inputs, targets = batch.inputs, batch.targets
        weights = batch.weights if isinstance(batch, PrefixBatch) else None
        negatives, tries = targets.new_zeros(0), None
        if self.sampler is not None:
            drawn, tries = self.sampler.draw_unique(self.config.n_negatives)
            negatives = drawn.sort().values
        # One look-up for all of them: each would make a gradient as large as the table.
        rows: Tensor = self.embedding(torch.cat([inputs.flatten(), targets, negatives]))
        embedded, wanted, others = torch.split(rows, [inputs.numel(), len(targets), len(negatives)])
        vectors, chosen = self.chosen(batch, embedded.view(*inputs.shape, -1), wanted)
        if self.training:
            self.wins += torch.bincount(chosen, minlength=self.config.interests)
        table = self.embedding.weight[1:]
        if self.sampler is None and weights is None:
            return linear_cross_entropy(vectors, table, targets - 1)
        positive, offsets = (vectors * wanted).sum(1), None
        if self.sampler is None or tries is None:
            return sampled_cross_entropy(vectors, positive, table, targets - 1, weights=weights)
        if self.config.logq:
            offsets = self.sampler.log_expected_count(negatives, tries)
            positive = positive - self.sampler.log_expected_count(targets, tries)
        own = own_columns(targets, negatives)
        return sampled_cross_entropy(vectors, positive, others, own, offsets=offsets, weights=weights)

    def chosen(self, batch: CutBatch | SequenceBatch, embedded: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The interest closest to each target of a batch.

        Parameters
        ----------
        batch
            With B rows of T inputs.
        embedded
            (B, T, d) item vectors of the inputs.
        wanted
            (n_targets, d) item vectors of the targets; they get no gradient here.

        Returns
        -------
        vectors
            (n_targets, d) interests.
        chosen
            (n_targets,) their numbers, from 0.
        """
        inside = batch.inputs > 0
        if isinstance(batch, CutBatch):
            return choose(self.attention(embedded, inside)[1], wanted)
        logits, values = self.attention.encode(embedded, inside)
        compared = torch.zeros_like(embedded.detach()).flatten(0, 1).index_copy_(0, batch.places, wanted.detach())
        vectors, chosen = choose_in_every_prefix(logits, values, compared.view_as(embedded))
        return vectors.flatten(0, 1).index_select(0, batch.places), chosen.flatten()[batch.places]

    def interests(self, histories: Histories) -> Tensor:
        """(B, K, d) interests of the newest events of every history; zero where there is none."""
        inputs, _ = histories.known().last(self.config.window)
        found: Tensor = self.attention(self.embedding(inputs), inputs > 0)[1]
        return found

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """Maximum over interests of the inner product; see :meth:`Recommender.scores`. An empty history scores 0 everywhere."""
        table = self.embedding.weight if items is None else self.embedding.weight[items]
        return torch.cat([products.amax(1) for products in self._products(self.interests(histories), table)])

    def retrieve(self, histories: Histories, n: int, *, exclude_seen: bool = False) -> tuple[Tensor, Tensor]:
        """The best n items by the road of the paper: the best n of every interest, united, ordered by their best score.

        The outcome is that of ranking all items by :meth:`scores`: an item that is among the best n by its best interest is
        among the best n of that interest.

        Parameters
        ----------
        histories
            B histories.
        n
            Items wanted.
        exclude_seen
            Leave out the items of the history (of all of it, not of the window only).

        Returns
        -------
        items
            (B, n) by falling score, padded with 0.
        scores
            (B, n), -inf at padding.
        """
        items, scores = self._united(histories, n, exclude_seen)
        return items[:, :n], scores[:, :n]

    def candidates(self, histories: Histories, n: int, *, exclude_seen: bool = False) -> Tensor:
        """(B, K * n) the union of the best n items of every interest, distinct, by falling score, padded with 0.

        What a re-ranking chooses from (the paper's controllable aggregation). Parameters as in :meth:`retrieve`.
        """
        return self._united(histories, n, exclude_seen)[0]

    @torch.no_grad()
    def _united(self, histories: Histories, n: int, exclude_seen: bool) -> tuple[Tensor, Tensor]:
        interests, best = self.interests(histories), min(n, self.n_items)
        parts: list[tuple[Tensor, Tensor]] = []
        for products in self._products(interests, self.embedding.weight):
            products[:, :, 0] = -torch.inf
            if exclude_seen:
                start = sum(len(items) for items, _ in parts)
                block = histories.block(start, start + len(products))
                products[block.rows, :, block.items] = -torch.inf
            items = products.topk(best, dim=2).indices.flatten(1).sort(1).values
            scores = products.amax(1).gather(1, items)
            scores[:, 1:].masked_fill_(items[:, 1:] == items[:, :-1], -torch.inf)
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            items = items.gather(1, order).masked_fill_(scores == -torch.inf, 0)
            missing = (0, (n - best) * self.config.interests)
            parts.append((F.pad(items, missing), F.pad(scores, missing, value=-torch.inf)))
        return torch.cat([items for items, _ in parts]), torch.cat([scores for _, scores in parts])

    def _products(self, interests: Tensor, table: Tensor) -> Iterator[Tensor]:
        """(b, K, M) inner products, a few histories at a time; at least one block."""
        numbers = BLOCK_NUMBERS * (64 if interests.is_cuda else 1)
        rows = max(1, numbers // max(1, self.config.interests * len(table)))
        for start in range(0, max(1, len(interests)), rows):
            yield interests[start : start + rows] @ table.T


def _sampler(
    config: ComiRecSAConfig, data: TrainingData, device: str | torch.device
) -> LogUniformSampler | UniformSampler | None:
    if config.sampler == "full":
        return None
    if config.n_negatives >= data.n_items:
        raise ModelError(
            f"n_negatives is {config.n_negatives}, but the catalogue has {data.n_items} items, and negatives are distinct.",
            advice="Set n_negatives below that, or 'sampler: full', which takes all items.",
        )
    if config.sampler == "uniform":
        return UniformSampler(data.n_items, device)
    return LogUniformSampler(data.n_items, data.item_counts, device)
