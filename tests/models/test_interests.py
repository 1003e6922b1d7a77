"""Self-attentive interests, and those of every prefix in one pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchbed.models.interests import SelfAttentiveInterests, choose, choose_in_every_prefix


def exact(rows: list[list[float]]) -> Tensor:
    """In double precision."""
    return torch.tensor(rows, dtype=torch.float64)


EVENTS = exact([[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])[None]  # the third is padding, not zero on purpose
INSIDE = torch.tensor([[True, True, False]])


def attention(positions: str = "weights", *, window: int = 3, **options: int) -> SelfAttentiveInterests:
    """The layer of the worked example, or a random one of other widths."""
    torch.manual_seed(0)
    sizes = {"size": 2, "attention_size": 3, "interests": 2} | options
    made = SelfAttentiveInterests(**sizes, window=window, positions=positions, biases=False).double()  # type: ignore[arg-type]
    if not options and window == 3:
        with torch.no_grad():
            made.hidden.weight.copy_(exact([[0.5, -1.0, 0.25], [0.2, 0.3, -0.4]]).T)
            made.heads.weight.copy_(exact([[1.0, -0.5], [0.0, 2.0], [-1.0, 0.5]]).T)
            if made.positions is not None:
                made.positions.copy_(exact([[0.1, 0.0], [0.0, -0.1], [9.0, 9.0]]))
    return made


def test_weights_and_interests_of_the_worked_example() -> None:
    weights, interests = attention()(EVENTS, INSIDE)
    expected = exact([[0.3161470621, 0.0956994778], [0.6838529379, 0.9043005222], [0.0, 0.0]])
    torch.testing.assert_close(weights[0], expected, rtol=0, atol=1e-9)
    vectors = exact([[0.3161470621, 1.3677058757], [0.0956994778, 1.8086010445]])
    torch.testing.assert_close(interests[0], vectors, rtol=0, atol=1e-9)
    items = exact([[1.0, 0.5], [-1.0, 1.0], [0.5, -2.0]])
    _, chosen = choose(interests.expand(3, -1, -1), items)
    assert chosen.tolist() == [0, 1, 0]
    best = torch.tensor([1.0, 1.7129015667, -2.5773382204], dtype=torch.float64)
    torch.testing.assert_close((interests[0] @ items.T).amax(0), best, rtol=0, atol=1e-9)


@pytest.mark.fidelity("S3")
def test_without_positions_only_the_weights_change() -> None:
    weights, interests = attention("none")(EVENTS, INSIDE)
    expected = exact([[0.3043248201, 0.1012061814], [0.6956751799, 0.8987938186], [0.0, 0.0]])
    torch.testing.assert_close(weights[0], expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(interests, weights.transpose(1, 2) @ (EVENTS * INSIDE[..., None]))
    layer = attention()
    values = layer.encode(EVENTS, INSIDE)[1]
    torch.testing.assert_close(values, EVENTS * INSIDE[..., None])  # positions are in none of what is averaged
    placed = attention("inputs")
    assert placed.positions is not None
    expected = (EVENTS + placed.positions) * INSIDE[..., None]
    torch.testing.assert_close(placed.encode(EVENTS, INSIDE)[1], expected)


@pytest.mark.fidelity("S1")
@pytest.mark.parametrize("positions", ["weights", "inputs", "none"])
def test_pads_get_no_weight_and_a_history_of_pads_is_defined(positions: str) -> None:
    weights, interests = attention(positions)(EVENTS.expand(2, -1, -1), torch.stack([INSIDE[0], torch.zeros(3).bool()]))
    assert bool((weights[0, 2] == 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 2, dtype=torch.float64))
    torch.testing.assert_close(weights[1], torch.full((3, 2), 1 / 3, dtype=torch.float64))
    assert bool((interests[1] == 0).all())


@pytest.mark.fidelity("S2")
@pytest.mark.parametrize("positions", ["weights", "inputs", "none"])
def test_pads_on_the_right_change_nothing(positions: str) -> None:
    layer = attention(positions, size=4, attention_size=5, interests=3, window=9)
    for length in range(1, 9):
        events = torch.randn(2, length, 4, dtype=torch.float64)
        padded = torch.cat([events, torch.randn(2, 9 - length, 4, dtype=torch.float64)], 1)
        inside = (torch.arange(9) < length).expand(2, -1)
        torch.testing.assert_close(layer(padded, inside)[1], layer(events, inside[:, :length])[1])


@pytest.mark.fidelity("S15")
def test_one_interest_is_plain_attention() -> None:
    layer = attention(size=4, attention_size=5, interests=1, window=6)
    events = torch.randn(3, 6, 4, dtype=torch.float64)
    placed = events + layer.positions
    logits = torch.tanh(placed @ layer.hidden.weight.T) @ layer.heads.weight[0]
    expected = (torch.softmax(logits, 1)[:, :, None] * events).sum(1)
    torch.testing.assert_close(layer(events, torch.ones(3, 6).bool())[1][:, 0], expected)


@pytest.mark.fidelity("S4")
def test_gradient_reaches_the_chosen_interest_alone() -> None:
    interests = torch.randn(5, 4, 3, requires_grad=True)
    wanted = torch.randn(5, 3, requires_grad=True)
    vectors, chosen = choose(interests, wanted)
    (gradient,) = torch.autograd.grad(vectors.square().sum(), interests)
    touched = gradient.abs().sum(2) > 0
    assert bool((touched == torch.nn.functional.one_hot(chosen, 4).bool()).all())
    assert wanted.grad is None


def naive(logits: Tensor, values: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Each prefix by itself."""
    vectors, chosen = [], []
    for stop in range(1, logits.shape[1] + 1):
        interests = logits[:, :stop].softmax(1).transpose(1, 2) @ values[:, :stop]
        vector, pick = choose(interests, wanted[:, stop - 1])
        vectors.append(vector)
        chosen.append(pick)
    return torch.stack(vectors, 1), torch.stack(chosen, 1)


def rising(logits: Tensor) -> Tensor:
    """From -100 to 100: each event outweighs all before it."""
    return torch.linspace(-100, 100, logits.shape[1])[:, None].expand_as(logits).to(logits)


def falling(logits: Tensor) -> Tensor:
    """From 100 to -100: the first event outweighs all."""
    return -rising(logits)


def late_peak(logits: Tensor) -> Tensor:
    """-100, and 100 at the newest event: a sum of weights below the final maximum would have underflowed."""
    made = torch.full_like(logits, -100.0)
    made[:, -1] = 100.0
    return made


LOGITS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda logits: logits,
    "rising": rising,
    "falling": falling,
    "signs": lambda logits: 100 * logits.sign(),
    "late peak": late_peak,
}


@pytest.mark.parametrize("block", [1, 3, 7, 64])
@pytest.mark.parametrize("kind", LOGITS)
def test_one_pass_equals_each_prefix_by_itself(kind: str, block: int) -> None:
    rng = torch.Generator().manual_seed(3)
    drawn = torch.randn(3, 16, 4, generator=rng, dtype=torch.float64)
    logits = LOGITS[kind](drawn).requires_grad_()
    values = torch.randn(3, 16, 5, generator=rng, dtype=torch.float64).requires_grad_()
    wanted = torch.randn(3, 16, 5, generator=rng, dtype=torch.float64)
    scale = torch.randn(3, 16, 5, generator=rng, dtype=torch.float64)
    ours, chosen = choose_in_every_prefix(logits, values, wanted, block=block)
    theirs, expected = naive(logits, values, wanted)
    torch.testing.assert_close(ours, theirs)
    if kind in ("plain", "signs"):  # elsewhere all interests are equal, and any choice is right
        assert torch.equal(chosen, expected)
    found = torch.autograd.grad((ours * scale).sum(), [logits, values])
    wished = torch.autograd.grad((theirs * scale).sum(), [logits, values])
    if kind in ("plain", "signs"):
        torch.testing.assert_close(found, wished)
    assert all(bool(gradient.isfinite().all()) for gradient in found)


@pytest.mark.parametrize("block", [8, 64])
@pytest.mark.parametrize("kind", LOGITS)
def test_one_pass_keeps_single_precision_at_extreme_logits(kind: str, block: int) -> None:
    rng = torch.Generator().manual_seed(4)
    logits = LOGITS[kind](torch.randn(2, 40, 3, generator=rng))
    values, wanted = (torch.randn(2, 40, 5, generator=rng) for _ in range(2))
    ours, _ = choose_in_every_prefix(logits, values, wanted, block=block)
    exact, _ = naive(logits.double(), values.double(), wanted.double())
    torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-5)
