"""GRU4Rec: a recurrent network over the items of a history, in the forms that are known by a name."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import InnerProduct, ModelConfig
from benchbed.models.cells import ResetBeforeGRU, official_init_
from benchbed.models.gru4rec_batches import StepGroup, UserChunk, UserChunks, by_start_time, step_groups
from benchbed.models.gru4rec_config import GRU4RecConfig
from benchbed.models.losses import LOG_FLOOR, final_activation, linear_cross_entropy, logq_correction, ranking_loss
from benchbed.models.negatives import PopularitySampler, uniform_except
from benchbed.models.newest_state import newest_states
from benchbed.models.optimizers import RowAdagrad
from benchbed.models.session_parallel import SessionParallelBatches
from benchbed.models.windows import SequenceBatch, SequenceBatches

COLUMNS = 4
"""Events that are encoded at once when whole histories are read: few, since a row that has ended is carried to the next cut.
Eight times as many for torch's GRU, of which a call costs more than a few rows."""


class GRU4Rec(InnerProduct):
    """Item lookup -> dropout -> GRU layers -> dropout -> scores, by one of four known forms or a mixture of them.

    ``windows``
        benchbed's default: the network of Tan et al. as RecBole writes it (GRU without bias, projection back to the item table,
        Xavier initialisation), cross-entropy over all items at every position of windows. A history is encoded from its newest
        ``window + burn_in`` events, which is the longest input that training shows.
    ``recbole``
        The same network trained as RecBole does: every prefix is a sample, the padding index has a place in the softmax. Not
        kept of RecBole: the order of batches, and negatives that avoid the user's other items (``loss: bpr``).
    ``official``
        Hidasi's own: session-parallel batches with a carried state, negatives shared by the batch and drawn by popularity,
        row-sparse Adagrad with momentum. The cell is that of the original code (reset before the matrix product), in all
        embedding modes; the loss is the sum over rows divided by ``batch_size``, also when fewer sessions are left. A history
        is encoded whole.
    ``recpack``
        RecPack's: whole histories in chunks, two item tables, uniform negatives per target or cross-entropy over all items, the
        padding index among them. Not kept: log(0) in ``bpr-max``, and the scores of all items where a few are needed.

    A history without a known item has a state of zero: its scores are zero, or the items' biases.

    References
    ----------
    Hidasi et al., ICLR 2016; Hidasi and Karatzoglou, CIKM 2018 (losses, shared negatives); Tan, Xu and Liu, DLRS 2016
    (prefixes, item table shared by input and output); Hidasi and Czapp, RecSys 2023 (what ports changed).
    """

    name = "gru4rec"
    Config = GRU4RecConfig
    reference = "Hidasi et al. (ICLR 2016, CIKM 2018); windows and recbole: network of Tan et al. (DLRS 2016)."
    needs = frozenset({"sequences"})

    def __init__(self, config: GRU4RecConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = c = config
        rows = data.n_items + 1
        # Gradients of the rows that were looked up only. Adam and heavy-ball SGD move all rows at every step.
        self._sparse = c.optimizer in ("adagrad", "row_adagrad") or (c.optimizer == "sgd" and not c.momentum)
        one_hot = c.embedding_mode == "one-hot"
        # A one-hot input times a matrix is a row of it: what the item adds to the gates.
        self.embedding = nn.Embedding(rows, 3 * c.hidden_size if one_hot else c.width, padding_idx=0)
        self.gru: nn.GRU | ResetBeforeGRU
        if c.cell == "reset_before":
            self.gru = ResetBeforeGRU(None if one_hot else c.width, c.hidden_size, c.layers, dropout=c.dropout_hidden)
        else:
            self.gru = nn.GRU(
                c.width,
                c.hidden_size,
                num_layers=c.layers,
                bias=c.cell == "reset_after",
                batch_first=True,
                dropout=c.dropout_hidden if c.layers > 1 else 0.0,
            )
        if c.projection:
            self.project = nn.Linear(c.hidden_size, c.width)
        if c.embedding_mode != "shared":
            self.output = nn.Embedding(rows, c.hidden_size)
        if c.output_bias:
            self.item_bias = nn.Embedding(rows, 1)
        self._initialise()
        self._source: SequenceBatches | SessionParallelBatches | UserChunks | None = None
        self._state: Tensor | None = None

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The preset, and whether its form was changed."""
        assert isinstance(config, GRU4RecConfig)
        return config.label

    # ----- construction ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _initialise(self) -> None:
        c = self.config
        if c.init == "recpack":
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -0.01, 0.01)
        elif c.init == "official":
            self._initialise_officially()
        else:
            for table in dict.fromkeys((self.embedding, self.table)):
                nn.init.xavier_normal_(table.weight)
            for name, weight in self.gru.named_parameters():
                if weight.dim() > 1 and (c.init == "xavier" or name.endswith(("_l0", ".0"))):
                    nn.init.xavier_uniform_(weight)
        if c.output_bias and c.init != "recpack":
            self.item_bias.weight.zero_()
        if c.init != "recbole":
            self.embedding.weight[0] = 0.0

    def _initialise_officially(self) -> None:
        """Every matrix by its own bound, (n_in, n_out); a GRU's are several side by side. Biases are zero."""
        official_init_(self.embedding.weight[1:], gates=3 if self.config.embedding_mode == "one-hot" else 1)
        if self.config.embedding_mode != "shared":
            official_init_(self.output.weight[1:])
        stacked: dict[nn.Module, int] = {self.gru: 3} if isinstance(self.gru, nn.GRU) else {}  # the other cell starts so itself
        if self.config.projection:
            stacked[self.project] = 1
        for module, gates in stacked.items():
            for weight in module.parameters():
                official_init_(weight.T, gates) if weight.dim() > 1 else weight.zero_()

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """See :meth:`Recommender.bind`."""
        super().bind(data, device)
        c, sequences = self.config, data.train.items
        if c.batching == "session_parallel":
            alone = c.shared_negatives and c.n_negatives == 0
            order = by_start_time(data.train)
            self._source = SessionParallelBatches(
                sequences, order=order, batch_size=c.batch_size, in_batch_only=alone, device=device
            )
        elif c.batching == "user_chunks":
            self._source = UserChunks(sequences, batch_size=c.batch_size, bptt=c.bptt, device=device)
        else:
            self._source = SequenceBatches(
                sequences,
                window=c.window,
                burn_in=c.burn_in,
                batch_targets=c.batch_targets,
                prefixes=c.batching == "prefixes",
                device=device,
            )
        if c.shared_negatives:
            self._sampler = PopularitySampler(data.item_counts, c.sample_alpha, device)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """One, over everything."""
        c, parameters = self.config, list(self.parameters())
        if c.optimizer == "row_adagrad":
            return [RowAdagrad(parameters, lr=c.learning_rate, momentum=c.momentum)]
        if c.optimizer == "adagrad":
            # What is the default anyway; torch wants to hear it, or warns.
            torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]  # torch has no types here
            return [torch.optim.Adagrad(parameters, lr=c.learning_rate)]
        if c.optimizer == "sgd":
            return [torch.optim.SGD(parameters, lr=c.learning_rate, momentum=c.momentum)]
        return [torch.optim.Adam(parameters, lr=c.learning_rate, fused=True)]

    def batches(self, generator: torch.Generator) -> Iterator[SequenceBatch | UserChunk | StepGroup]:
        """See :meth:`Recommender.batches`; session-parallel steps and chunks of users are never shuffled."""
        self._state = None
        if isinstance(self._source, SessionParallelBatches):
            return step_groups(self._source, self.config.bptt)
        if isinstance(self._source, UserChunks):
            return iter(self._source)
        assert self._source is not None, "bind() comes first"
        return self._source(generator)

    # ----- learning -------------------------------------------------------------------------------------------------

    @property
    def table(self) -> nn.Embedding:
        """The output table."""
        return self.embedding if self.config.embedding_mode == "shared" else self.output

    def zero_state(self, rows: int) -> Tensor:
        """(layers, rows, hidden) states before the first event."""
        return self.table.weight.new_zeros(self.config.layers, rows, self.config.hidden_size)

    def encode(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T) items, (layers, B, hidden) states before them -> (B, T, hidden) after each, (layers, B, hidden) at the end."""
        c = self.config
        output, after = self.gru(self._embed(inputs), state)
        if c.dropout_hidden and isinstance(self.gru, nn.GRU):  # the other cell drops by itself, and carries what is left
            output = F.dropout(output, c.dropout_hidden, self.training)
        return output, after

    def states(self, inputs: Tensor) -> Tensor:
        """(B, T) items -> (B, T, hidden) states after each of them."""
        return self.encode(inputs)[0]

    def _embed(self, inputs: Tensor) -> Tensor:
        c = self.config
        sparse = self._sparse and not (c.all_items and c.embedding_mode == "shared")  # there the table has a full gradient
        looked_up = F.embedding(inputs, self.embedding.weight, padding_idx=0, sparse=sparse)
        return F.dropout(looked_up, c.dropout_embed, self.training) if c.dropout_embed else looked_up

    def loss(self, batch: SequenceBatch | UserChunk | StepGroup) -> Tensor:
        """Mean over the batch's targets; session-parallel: sum over rows over ``batch_size``, mean over the steps."""
        if isinstance(batch, StepGroup):
            return self._loss_of_steps(batch)
        state = None
        if isinstance(batch, UserChunk):
            state = self.zero_state(len(batch.inputs)) if batch.first else self._carried()[:, : len(batch.inputs)].contiguous()
        states, after = self.encode(batch.inputs, state)
        if isinstance(batch, UserChunk):
            self._state = after.detach()
        return self._mean_loss(states.flatten(0, 1)[batch.places], batch.targets)

    def _carried(self) -> Tensor:
        assert self._state is not None, "a chunk without the one before it"
        return self._state

    def _loss_of_steps(self, batch: StepGroup) -> Tensor:
        assert isinstance(self.gru, ResetBeforeGRU)
        size = self.config.batch_size
        state = self.zero_state(size) if batch.first else self._carried()
        losses = []
        for step in batch.steps:
            output, state = self.gru.step(self._embed(step.inputs), step.carry(state))
            losses.append(self._mean_loss(output, step.targets) * (step.n_targets / size))
        self._state = state.detach()
        return torch.stack(losses).mean() if len(losses) > 1 else losses[0]

    def _mean_loss(self, states: Tensor, targets: Tensor) -> Tensor:
        """Mean over (n, hidden) states and their (n,) targets."""
        c = self.config
        vectors = self.project(states) if c.projection else states
        if not c.all_items:
            if c.shared_negatives:
                return self._shared(vectors, targets).mean()
            return self.own_losses(vectors, targets, uniform_except(targets, self.n_items, c.n_negatives)).mean()
        first = 0 if c.padding_in_softmax else 1
        table = self.table.weight[first:]
        if c.output_bias:
            vectors, table = F.pad(vectors, (0, 1), value=1.0), torch.cat([table, self.item_bias.weight[first:]], 1)
        return linear_cross_entropy(vectors, table, targets - first)

    def _shared(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Losses of rows whose negatives are the other rows' targets and the drawn items."""
        c = self.config
        drawn = self._sampler.draw(c.n_negatives) if c.n_negatives else None
        columns = targets if drawn is None else torch.cat([targets, drawn])
        rows = self._rows(columns)
        scores = torch.addmm(self._biases(columns), vectors, rows.T) if c.output_bias else vectors @ rows.T
        scores = final_activation(scores, c.elu_alpha)
        if c.logq:
            weights = None if drawn is None else self._sampler.log_weight(drawn)
            scores = logq_correction(scores, self._sampler.log_support(targets), weights, c.logq)
        if c.loss == "cross-entropy":  # a row's own column is one of the softmax: nothing to leave out
            return -(scores.softmax(1).diagonal() + LOG_FLOOR).log()
        others = ~torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
        return ranking_loss(c.loss, scores.diagonal(), scores, mask=others, bpreg=c.bpreg)

    def own_losses(self, vectors: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
        """(n,) losses of (n, width) vectors for (n,) targets against (n, m) negatives of each row's own."""
        c = self.config
        columns = torch.cat([targets[:, None], negatives], 1)
        scores = torch.bmm(self._rows(columns), vectors[:, :, None]).squeeze(2)
        if c.output_bias:
            scores = scores + self._biases(columns)
        scores = final_activation(scores, c.elu_alpha)
        return ranking_loss(c.loss, scores[:, 0], scores[:, 1:], bpreg=c.bpreg, mean_over_negatives=True)

    def _rows(self, items: Tensor) -> Tensor:
        return F.embedding(items, self.table.weight, sparse=self._sparse)

    def _biases(self, items: Tensor) -> Tensor:
        return F.embedding(items, self.item_bias.weight, sparse=self._sparse).squeeze(-1)

    def after_backward(self) -> None:
        """Clip the gradient of all parameters together."""
        if self.config.clip_norm is None:
            return
        values = []
        for parameter in self.parameters():
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()  # a row that was looked up twice counts once, with the sum
                values.append(parameter.grad._values())
            elif parameter.grad is not None:
                values.append(parameter.grad)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in values]))
        factor = (self.config.clip_norm / (norm + 1e-6)).clamp(max=1.0)
        for value in values:
            value.mul_(factor)

    # ----- scoring --------------------------------------------------------------------------------------------------

    def user_vectors(self, histories: Histories) -> Tensor:
        """The state after the newest event (projected, where the model projects); zero where there is none.

        With a bias per item, the last column is 1, and that of :meth:`item_vectors` the biases.
        """
        c, known = self.config, histories.known()
        if c.batching in ("windows", "prefixes"):
            inputs, lengths = known.last(c.window + c.burn_in)
            states = self._newest(inputs, lengths)
        else:
            states, lengths = self._after_all(known), known.lengths
        vectors: Tensor = (self.project(states) if c.projection else states) * (lengths > 0)[:, None]
        return F.pad(vectors, (0, 1), value=1.0) if c.output_bias else vectors

    def _newest(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(B, hidden) states after the newest of (B, T) items; what stands for an empty row has no meaning."""
        if self.training or not isinstance(self.gru, nn.GRU):
            return self.states(inputs)[torch.arange(len(inputs), device=inputs.device), (lengths - 1).clamp(min=0)]
        vectors, index = self.embedding.weight, inputs
        if inputs.numel() <= self.n_items:  # fewer items stand in these histories than there are
            items, index = torch.unique(inputs, return_inverse=True)
            vectors = vectors[items]
        return newest_states(self.gru, vectors, index, lengths)

    def _after_all(self, histories: Histories) -> Tensor:
        """(B, hidden) states after whole histories, some columns at a time; those that have ended fall away."""
        lengths, order = histories.lengths.sort(descending=True, stable=True)
        inputs = histories.last(max(1, len(histories.items)))[0][order]
        result, state = self.zero_state(len(inputs))[-1], self.zero_state(len(inputs))
        width = COLUMNS * (8 if isinstance(self.gru, nn.GRU) else 1)
        for left in range(0, inputs.shape[1], width):
            rows = int((lengths > left).sum())
            chunk = inputs[:rows, left : left + width]
            if rows == 0:
                break
            output, state = self.encode(chunk, state[:, :rows].contiguous())
            newest = lengths[:rows] - 1 - left
            ended = (newest < chunk.shape[1]).nonzero().squeeze(1)
            result[ended] = output[ended, newest[ended]]
        return result[order.argsort()]

    def item_vectors(self) -> Tensor:
        """The output table, with the biases as its last column where there are any."""
        weight = self.table.weight
        return torch.cat([weight, self.item_bias.weight], 1) if self.config.output_bias else weight

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """See :meth:`InnerProduct.scores`; the biases are added without a copy of the table."""
        if not self.config.output_bias:
            return super().scores(histories, items)
        weight, bias = self.table.weight, self.item_bias.weight[:, 0]
        if items is not None:
            weight, bias = weight[items], bias[items]
        return torch.addmm(bias, self.user_vectors(histories)[:, :-1], weight.T)
