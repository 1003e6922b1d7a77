"""SASRec: causality, torch's own attention as the reference, both losses written out, learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.evaluation.protocol import Protocol
from benchbed.models.sasrec import SASRec, SASRecBlock, SASRecConfig
from benchbed.models.windows import SequenceBatch
from benchbed.training.fit import Fit, FitSpec


def sasrec(data: TrainingData, **options: object) -> SASRec:
    torch.manual_seed(0)
    base = {"embedding_size": 8, "heads": 2, "window": 6, "batch_targets": 50, "dropout": 0.0}
    model = SASRec(SASRecConfig.model_validate(base | options), data)
    model.bind(data, "cpu")
    return model


def shaken(module: nn.Module) -> None:
    """Give every parameter, biases and scales included, a value of its own."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)


def copied_attention(block: SASRecBlock, width: int) -> nn.MultiheadAttention:
    """torch's attention with the block's weights; what torch adds, a last linear layer, is the identity."""
    attention = nn.MultiheadAttention(width, block.heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([part.weight for part in (block.query, block.key, block.value)]))
        attention.in_proj_bias.copy_(torch.cat([part.bias for part in (block.query, block.key, block.value)]))
        attention.out_proj.weight.copy_(torch.eye(width))
        attention.out_proj.bias.zero_()
    return attention


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_block_of_the_paper_is_torchs_encoder_layer_with_the_norm_first(heads: int) -> None:
    block = SASRecBlock(SASRecConfig(variant="paper", embedding_size=8, heads=heads)).eval()
    shaken(block)
    layer = nn.TransformerEncoderLayer(8, heads, 8, norm_first=True, batch_first=True, layer_norm_eps=1e-8).eval()
    layer.self_attn = copied_attention(block, 8)
    for theirs, ours in (
        (layer.norm1, block.before_attention),
        (layer.norm2, block.before_feed_forward),
        (layer.linear1, block.inner),
        (layer.linear2, block.outer),
    ):
        theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(3, 5, 8)
    expected = layer(inputs, src_mask=nn.Transformer.generate_square_subsequent_mask(5), is_causal=True)
    torch.testing.assert_close(block(inputs), expected)


def test_the_block_of_the_authors_asks_with_the_norm_and_answers_without() -> None:
    block = SASRecBlock(SASRecConfig(embedding_size=8, heads=2)).eval()
    shaken(block)
    attention, inputs = copied_attention(block, 8), torch.randn(3, 5, 8)
    normal, mask = block.before_attention(inputs), nn.Transformer.generate_square_subsequent_mask(5)
    middle = normal + attention(normal, inputs, inputs, attn_mask=mask)[0]
    normal = block.before_feed_forward(middle)
    torch.testing.assert_close(block(inputs), normal + block.outer(torch.relu(block.inner(normal))))


@pytest.mark.parametrize("variant", ["authors", "paper"])
def test_no_state_sees_what_comes_later(ring: TrainingData, variant: str) -> None:
    model = sasrec(ring, variant=variant)
    items, lengths = torch.tensor([[3, 9, 4, 7, 1]]), torch.tensor([5])
    given = model.embedding(items).detach().requires_grad_()
    model.embedding.forward = lambda _: given  # type: ignore[method-assign]
    for place in range(5):
        (gradient,) = torch.autograd.grad(model.states(items, lengths)[0, place].square().sum(), given)
        reached = gradient[0].abs().sum(1) > 0
        assert reached.tolist() == [t <= place for t in range(5)]


def test_padding_beside_a_row_changes_nothing(ring: TrainingData) -> None:
    model = sasrec(ring)
    alone = model.states(torch.tensor([[5, 2]]), torch.tensor([2]))
    padded = model.states(torch.tensor([[5, 2, 0, 0], [1, 2, 3, 4]]), torch.tensor([2, 4]))
    torch.testing.assert_close(padded[0, :2], alone[0])


@pytest.mark.fidelity("D4")
def test_the_newest_event_has_the_last_position(ring: TrainingData) -> None:
    model = sasrec(ring, blocks=1)
    with torch.no_grad():
        model.positions.weight.zero_()
        model.positions.weight[-1] = 1.0
    inputs = model.states(torch.tensor([[5, 5, 5]]), torch.tensor([3]))
    assert torch.allclose(inputs[0, 0], inputs[0, 1]) and not torch.allclose(inputs[0, 1], inputs[0, 2])
    histories = Histories.of(np.array([1, 2]), Ragged.of([[*range(20, 30), 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]))
    whole, cut = model.user_vectors(histories)
    torch.testing.assert_close(whole, cut)


def one_batch() -> SequenceBatch:
    inputs = torch.tensor([[3, 9, 4], [7, 1, 0]])
    return SequenceBatch(inputs, torch.tensor([3, 2]), torch.tensor([0, 1, 2, 3, 4]), torch.tensor([9, 4, 8, 1, 2]))


def scores_at_every_place(model: SASRec, batch: SequenceBatch) -> Tensor:
    states = model.states(batch.inputs, batch.lengths)
    return states.flatten(0, 1)[batch.places] @ model.embedding.weight.T


def test_the_full_loss_is_cross_entropy_over_the_items(ring: TrainingData) -> None:
    model, batch = sasrec(ring, variant="full"), one_batch()
    expected = nn.functional.cross_entropy(scores_at_every_place(model, batch)[:, 1:], batch.targets - 1)
    torch.testing.assert_close(model.loss(batch), expected)


def test_the_binary_loss_is_that_of_two_labels(ring: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = sasrec(ring), one_batch()
    drawn = torch.tensor([11, 12, 0, 14, 15])  # no negative for the third
    monkeypatch.setattr(model, "negatives", lambda _: drawn)
    scores = scores_at_every_place(model, batch)
    right, wrong = (scores.gather(1, item[:, None]).squeeze(1).sigmoid() for item in (batch.targets, drawn))
    each = -right.log() - torch.where(drawn > 0, (1 - wrong).log(), 0.0)
    torch.testing.assert_close(model.loss(batch), each.sum() / 5)


def test_negatives_are_uniform_over_the_items_outside_the_window(make_ring: Callable[..., TrainingData]) -> None:
    model, batch = sasrec(make_ring(items=12)), one_batch()
    torch.manual_seed(0)
    drawn = torch.stack([model.negatives(batch) for _ in range(2000)])
    outside = [{1, 2, 5, 6, 7, 10, 11, 12}] * 3 + [{3, 4, 5, 6, 8, 9, 10, 11, 12}] * 2
    for place, allowed in enumerate(outside):
        items, counts = drawn[:, place].unique(return_counts=True)
        assert set(items.tolist()) - {0} == allowed
        expected = 2000 / len(allowed)
        chosen = counts[items > 0].double()
        assert float(((chosen - expected) ** 2 / expected).sum()) < 30  # chi-square, at most 8 degrees of freedom: p < 0.001


def test_a_window_of_all_items_has_no_negative(make_ring: Callable[..., TrainingData]) -> None:
    model = sasrec(make_ring(items=4))
    batch = SequenceBatch(torch.tensor([[1, 2, 3]]), torch.tensor([3]), torch.tensor([0, 1, 2]), torch.tensor([2, 3, 4]))
    assert model.negatives(batch).tolist() == [0, 0, 0]
    assert model.loss(batch).isfinite()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "authors"),
        ({"variant": "paper", "dropout": 0.1}, "paper"),
        ({"variant": "full"}, "full"),
        ({"loss": "cross-entropy"}, "authors, changed"),
        ({"variant": "full", "block": "paper"}, "full, changed"),
    ],
)
def test_the_label_says_which_form_it_is(options: dict[str, object], name: str) -> None:
    assert SASRec.variant(SASRecConfig.model_validate(options)) == name


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="multiple of heads"):
        SASRecConfig(embedding_size=50, heads=3)


@pytest.mark.parametrize("variant", ["authors", "full"])
def test_it_learns(ring: TrainingData, tmp_path: Path, variant: str) -> None:
    parameters = {"variant": variant, "learning_rate": 0.01, "embedding_size": 32, "dropout": 0.1, "batch_targets": 64}
    spec = FitSpec("sasrec", parameters, 1, 15, None, None, Protocol(seen_items="keep").model_dump(mode="json"))
    fit = Fit(spec, ring, folder=tmp_path)
    while fit.finished is None:
        fit.step()
    assert fit.history[-1].value > 1.25 * fit.history[0].value
