"""The ranking losses: numbers worked out by hand, saturation, gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from benchbed.errors import UnknownNameError
from benchbed.models.losses import RANKING_LOSSES, final_activation, logq_correction, ranking_loss

# Row i holds the scores of session i; its target's score is on the diagonal, the last two columns are shared samples.
SQUARE = torch.tensor([[2.0, -1.0, 0.5], [0.3, 1.0, -0.7], [0.0, 0.2, -1.5]], dtype=torch.float64)
WIDE = torch.cat([SQUARE, torch.tensor([[0.1, -2.0], [1.2, 0.4], [-0.3, 0.6]], dtype=torch.float64)], 1)


def shared(name: str, scores: Tensor, **options: object) -> Tensor:
    """Loss of each row with the whole matrix as columns."""
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask.diagonal().fill_(False)
    return ranking_loss(name, scores.diagonal(), scores, mask=mask, **options)  # type: ignore[arg-type]


GOLDEN = [
    ("cross-entropy", {}, 3.1535238430, 4.7143547612),
    ("bpr-max", {"bpreg": 0.0}, 2.2954230896, 2.5847083338),
    ("bpr-max", {"bpreg": 1.0}, 2.9018121609, 3.9637285291),
    ("top1-max", {}, 2.9220842305, 3.2146437842),
    ("top1", {}, 2.4416877015, 2.7962344013),
    ("top1", {"mean_over_negatives": True}, 2.9125315523, 3.1202930016),
    ("bpr", {}, 6.4696135569, 11.5415790535),
    ("bpr", {"mean_over_negatives": True}, 2.1950860076, 2.3655343780),
]


@pytest.mark.fidelity("G8", "G9", "G10")
@pytest.mark.parametrize(("name", "options", "square", "wide"), GOLDEN)
def test_sums_worked_out_by_hand(name: str, options: dict[str, float], square: float, wide: float) -> None:
    assert float(shared(name, SQUARE, **options).sum()) == pytest.approx(square, abs=1e-9)
    assert float(shared(name, WIDE, **options).sum()) == pytest.approx(wide, abs=1e-9)


@pytest.mark.fidelity("G9", "G10")
def test_the_two_mistakes_of_other_code_do_not_come_out() -> None:
    assert float(shared("cross-entropy", SQUARE).mean()) != pytest.approx(0.9713208479, abs=1e-3)  # softmax taken twice
    for weight in (0.0, 1.0):  # logarithm of a mean over the whole matrix
        assert float(shared("bpr-max", SQUARE, bpreg=weight).mean()) != pytest.approx(1.8911104976, abs=1e-3)
        assert float(shared("bpr-max", SQUARE, bpreg=weight).sum()) != pytest.approx(1.8911104976, abs=1e-3)
    # A sum of rows: what one row costs does not depend on the other rows.
    for name in RANKING_LOSSES:
        alone = ranking_loss(name, SQUARE[:1, 0], SQUARE[:1, 1:])
        assert torch.allclose(alone, shared(name, SQUARE)[:1], atol=1e-12)


@pytest.mark.fidelity("G9")
def test_cross_entropy_is_the_softmax_taken_once() -> None:
    by_hand = torch.logsumexp(WIDE, 1) - WIDE.diagonal()
    assert torch.allclose(shared("cross-entropy", WIDE), by_hand, atol=1e-12)


@pytest.mark.fidelity("G10")
def test_the_regulariser_of_bpr_max_counts_as_much_as_it_is_told() -> None:
    at = [float(shared("bpr-max", SQUARE, bpreg=weight).sum()) for weight in (0.0, 1.0, 1.95)]
    assert at[1] - at[0] == pytest.approx(0.6063890713, abs=1e-9)
    assert (at[2] - at[0]) / (at[1] - at[0]) == pytest.approx(1.95, abs=1e-9)


@pytest.mark.parametrize(
    ("alpha", "square", "wide"),
    [(0.5, 1.7909088197, 2.8028831817), (1.0, 2.1830722352, 3.2106726982), (None, 2.9018121609, 3.9637285291)],
)
def test_the_final_activation_acts_before_the_loss(alpha: float | None, square: float, wide: float) -> None:
    assert float(shared("bpr-max", final_activation(SQUARE, alpha)).sum()) == pytest.approx(square, abs=1e-9)
    assert float(shared("bpr-max", final_activation(WIDE, alpha)).sum()) == pytest.approx(wide, abs=1e-9)


@pytest.mark.fidelity("G7")
def test_logq_corrects_the_columns_of_the_batch_that_there_is() -> None:
    targets, samples = torch.tensor([10.0, 4.0, 2.0]).log(), 0.5 * torch.tensor([50.0, 5.0]).log()
    corrected = logq_correction(WIDE, targets, samples)
    assert float(shared("cross-entropy", corrected).sum()) == pytest.approx(4.6595664971, abs=1e-6)
    assert torch.equal(logq_correction(WIDE, targets, samples, logq=0.0), WIDE)
    half = logq_correction(WIDE, targets, samples, logq=0.5)
    assert torch.allclose(half, (WIDE + corrected) / 2)
    assert torch.allclose(logq_correction(SQUARE, targets), corrected[:, :3])
    with pytest.raises(ValueError, match="do not go with 4 targets and 1 sampled"):  # the stale batch size of a shrunken batch
        logq_correction(WIDE, torch.cat([targets, samples[:1]]), samples[1:])


@pytest.mark.fidelity("G8")
def test_a_column_that_is_not_a_negative_changes_nothing() -> None:
    for name in RANKING_LOSSES:
        mask = torch.tensor([[True, False, True, True]] * 2)
        others = WIDE[:2, 1:].clone()
        before = ranking_loss(name, WIDE[:2, 0], others, mask=mask)
        assert torch.allclose(before, ranking_loss(name, WIDE[:2, 0], others[:, [0, 2, 3]]), atol=1e-12)
        others[:, 1] = 900.0
        assert torch.equal(before, ranking_loss(name, WIDE[:2, 0], others, mask=mask))


@pytest.mark.fidelity("G11")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_rows_cost_the_floor(dtype: torch.dtype) -> None:
    scores = torch.tensor([[-800.0, 0.0], [0.0, -800.0]], dtype=dtype)
    for name in ("bpr-max", "cross-entropy"):
        assert shared(name, scores, bpreg=0.0).tolist() == pytest.approx([55.2620422319] * 2, abs=1e-5)


@pytest.mark.fidelity("G11")
@pytest.mark.parametrize("mean_over_negatives", [False, True])
@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_losses_and_gradients_are_finite_at_extreme_scores(name: str, mean_over_negatives: bool) -> None:
    rows = torch.tensor(list(itertools.product([-1e3, -88.0, 0.0, 54.0, 1e3], repeat=3)), requires_grad=True)
    losses = ranking_loss(name, rows[:, 0], rows[:, 1:], mean_over_negatives=mean_over_negatives)
    losses.sum().backward()
    assert rows.grad is not None
    assert bool(losses.isfinite().all()) and bool(rows.grad.isfinite().all())


@pytest.mark.parametrize("name", RANKING_LOSSES)
@pytest.mark.parametrize("masked", [False, True])
def test_a_row_without_a_negative_is_defined_and_teaches_nothing(name: str, masked: bool) -> None:
    positive = torch.tensor([0.7, -2.0], requires_grad=True)
    others = torch.randn(2, 3 if masked else 0, requires_grad=True)
    mask = torch.zeros(2, 3, dtype=torch.bool) if masked else None
    loss = ranking_loss(name, positive, others, mask=mask).sum()
    gradients = torch.autograd.grad(loss, [positive, others])
    assert math.isfinite(loss.item()) and all(not gradient.any() for gradient in gradients)


def test_the_gradient_of_bpr_max_worked_out_by_hand() -> None:
    scores = SQUARE.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(shared("bpr-max", scores).sum(), scores)
    expected = [[-0.154571, -0.267113, 0.874407], [0.635110, -0.275478, -0.297515], [0.350586, 0.701137, -0.831790]]
    assert torch.allclose(gradient, torch.tensor(expected, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("mean_over_negatives", [False, True])
@pytest.mark.parametrize("name", RANKING_LOSSES)
def test_gradients_agree_with_finite_differences(name: str, mean_over_negatives: bool) -> None:
    options = {"bpreg": 0.7, "mean_over_negatives": mean_over_negatives}
    scores = (WIDE + 0.01).requires_grad_()  # the activation has a kink at 0
    assert torch.autograd.gradcheck(lambda s: shared(name, final_activation(s, 0.5), **options), [scores])
    assert torch.autograd.gradcheck(
        lambda p, o: ranking_loss(name, p, o, bpreg=0.7, mean_over_negatives=mean_over_negatives),
        [WIDE[:, 0].clone().requires_grad_(), WIDE[:, 1:].clone().requires_grad_()],
    )


def test_a_misspelt_loss_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="bpr-max"):
        ranking_loss("bpr_max", SQUARE[:, 0], SQUARE)
