"""Samplers: what they draw, how often, and what the correction takes for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchbed.errors import ModelError
from benchbed.models.losses import ranking_loss
from benchbed.models.negatives import LogUniformSampler, PopularitySampler, UniformSampler, uniform_except

COUNTS = np.array([0, 8, 4, 1, 1])  # padding first


def fits(drawn: Tensor, probabilities: Tensor) -> bool:
    """Pearson's chi-square of items 1..n against their probabilities, at about one in 30,000."""
    seen = torch.bincount(drawn.flatten() - 1, minlength=len(probabilities)).double()
    assert len(seen) == len(probabilities)
    expected = probabilities.double() * drawn.numel()
    possible = expected > 0
    if bool(seen[~possible].any()):
        return False
    statistic = float(((seen - expected)[possible].square() / expected[possible]).sum())
    freedom = int(possible.sum()) - 1
    # Wilson and Hilferty: the cube root is close to normal.
    return ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5 < 4.0


@pytest.mark.fidelity("G16")
@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.0, [0.25, 0.25, 0.25, 0.25]),
        (0.5, [0.41421356, 0.29289322, 0.14644661, 0.14644661]),
        (0.75, [0.49626517, 0.29508103, 0.10432690, 0.10432690]),
        (1.0, [0.57142857, 0.28571429, 0.07142857, 0.07142857]),
    ],
)
def test_popularity_to_the_power_alpha(alpha: float, expected: list[float]) -> None:
    torch.manual_seed(1)
    sampler = PopularitySampler(COUNTS, alpha)
    assert sampler.probabilities.tolist() == pytest.approx(expected, abs=1e-8)
    drawn = sampler.draw(100_000)
    assert fits(drawn, sampler.probabilities)
    assert not fits(drawn, PopularitySampler(COUNTS, alpha + 0.1).probabilities)  # the test can tell


@pytest.mark.fidelity("G16", "G20")
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_items_without_support_and_padding_are_never_drawn(alpha: float) -> None:
    torch.manual_seed(2)
    counts = np.array([7, 0, 3, 0, 0, 5, 2, 0, 0])
    drawn = PopularitySampler(counts, alpha).draw(50_000)
    assert set(drawn.tolist()) == {2, 5, 6}
    assert set(PopularitySampler(counts, 0.0).draw(5_000).tolist()) == set(range(1, 9))
    with pytest.raises(ModelError, match="No item"):
        PopularitySampler(np.zeros(4, dtype=np.int64), alpha)


def test_the_ends_of_the_random_numbers_stay_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = PopularitySampler(np.array([0, 0, 3, 1, 0]), 1.0)
    ends = torch.tensor([0.0, 0.75, 1 - 2**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: ends)
    assert sampler.draw(3).tolist() == [2, 3, 3]


@pytest.mark.fidelity("S8")
def test_weights_of_the_correction_belong_to_the_sampler() -> None:
    items = torch.tensor([1, 2, 2, 4])
    for alpha in (0.0, 0.5, 1.0):
        sampler = PopularitySampler(COUNTS, alpha)
        shifted = sampler.probabilities[items - 1].log().float() - sampler.log_weight(items)
        assert torch.allclose(shifted, shifted[:1].expand(4), atol=1e-6)  # equal up to one constant, which a softmax ignores
        assert torch.allclose(sampler.log_support(items), torch.tensor([8.0, 4.0, 4.0, 1.0]).log())


@pytest.mark.fidelity("G8", "G20")
def test_uniform_over_all_other_items() -> None:
    torch.manual_seed(3)
    for positive in (1, 3, 6):
        drawn = uniform_except(torch.full((300,), positive), 6, 200)
        assert drawn.shape == (300, 200)
        others = torch.full((6,), 1 / 5)
        others[positive - 1] = 0.0
        assert fits(drawn, others)
    with pytest.raises(ModelError, match="one item"):
        uniform_except(torch.tensor([1]), 1, 2)


def test_log_uniform_numbers_worked_out_by_hand() -> None:
    sampler = LogUniformSampler(5)
    assert sampler.probabilities.tolist() == pytest.approx(
        [0.38685281, 0.22629439, 0.16055842, 0.12453879, 0.10175560], abs=1e-8
    )
    expected = [0.85866199, 0.64165344, 0.50345124, 0.41258148, 0.34900436]
    assert sampler.log_expected_count(torch.arange(1, 6), 4).exp().tolist() == pytest.approx(expected, abs=1e-6)


MAKERS: list[Callable[[int], LogUniformSampler | UniformSampler]] = [LogUniformSampler, UniformSampler]


@pytest.mark.fidelity("S8")
@pytest.mark.parametrize("make", MAKERS)
def test_distinct_items_come_as_from_a_loop_that_draws_until_it_has_enough(make: Callable[[int], UniformSampler]) -> None:
    torch.manual_seed(4)
    sampler, rng = make(12), np.random.default_rng(4)
    p = sampler.probabilities.numpy()

    def loop(n: int) -> tuple[list[int], int]:
        found: dict[int, None] = {}
        draws = rng.choice(12, 400, p=p / p.sum())
        for tries, item in enumerate(draws.tolist(), 1):
            found[item + 1] = None
            if len(found) == n:
                return list(found), tries
        raise AssertionError("too few draws")

    rounds = 4000
    for n in (1, 5, 10):
        made = [sampler.draw_unique(n) for _ in range(rounds)]
        reference = [loop(n) for _ in range(rounds)]
        assert all(len(set(items.tolist())) == n for items, _ in made[:50])
        ours, theirs = (
            np.bincount(np.concatenate(parts), minlength=13)[1:] / rounds
            for parts in ([items.numpy() for items, _ in made], [items for items, _ in reference])
        )
        assert np.abs(ours - theirs).max() < 4.5 * (0.5 / rounds) ** 0.5
        assert fits(torch.stack([items[0] for items, _ in made]), sampler.probabilities)
        tries, expected = (np.array([float(t) for _, t in part]) for part in (made, reference))
        error = np.sqrt((tries.var() + expected.var()) / rounds)
        assert abs(tries.mean() - expected.mean()) <= 4.5 * error
        assert tries.min() >= n and abs(tries.std() - expected.std()) <= 0.15 * expected.std()


@pytest.mark.fidelity("S11", "G20")
@pytest.mark.parametrize("make", MAKERS)
def test_all_items_can_be_drawn_but_not_more(make: Callable[[int], UniformSampler]) -> None:
    torch.manual_seed(5)
    items, tries = make(3000).draw_unique(3000)
    assert sorted(items.tolist()) == list(range(1, 3001)) and int(tries) > 3000
    assert make(1).draw_unique(1)[0].tolist() == [1] and int(make(1).draw_unique(1)[1]) == 1
    with pytest.raises(ModelError, match="4 distinct negatives"):
        make(3).draw_unique(4)


@pytest.mark.fidelity("S7")
def test_sampled_softmax_worked_out_by_hand() -> None:
    """One state, target item 2, negatives 1, 2 and 4 of which the second is the target itself."""
    state = torch.tensor([0.5, -0.2])
    table = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 0.5], [0.3, 0.3], [2.0, -1.0]])
    sampler, target, negatives = LogUniformSampler(5), torch.tensor([2]), torch.tensor([1, 2, 4])

    def loss(tries: int | None, hits_removed: bool) -> float:
        own, others = table[target - 1] @ state, table[negatives - 1] @ state
        if tries is not None:
            own, others = own - sampler.log_expected_count(target, tries), others - sampler.log_expected_count(negatives, tries)
        mask = (negatives != target) if hits_removed else None
        return float(ranking_loss("cross-entropy", own, others[None], mask=None if mask is None else mask[None])[0])

    assert loss(4, True) == pytest.approx(1.0346874782, abs=1e-6)
    assert loss(4, False) == pytest.approx(1.3387379159, abs=1e-6)
    assert loss(None, True) == pytest.approx(0.9366431949, abs=1e-6)


@pytest.mark.fidelity("S7")
@pytest.mark.parametrize("make", MAKERS)
def test_sampling_all_items_is_the_full_softmax(make: Callable[[int], UniformSampler]) -> None:
    torch.manual_seed(6)
    scores, target = torch.randn(7, 9), torch.randint(1, 10, (7,))
    items = make(9).draw_unique(9)[0]
    own = scores.gather(1, target[:, None] - 1)[:, 0]
    sampled = ranking_loss("cross-entropy", own, scores[:, items - 1], mask=items != target[:, None])
    assert torch.allclose(sampled, torch.nn.functional.cross_entropy(scores, target - 1, reduction="none"), atol=1e-6)


@pytest.mark.fidelity("S8")
def test_correcting_uniform_draws_changes_nothing() -> None:
    torch.manual_seed(7)
    sampler = UniformSampler(30)
    items, tries = sampler.draw_unique(8)
    own, others = torch.randn(4), torch.randn(4, 8)
    corrected = ranking_loss(
        "cross-entropy",
        own - sampler.log_expected_count(torch.tensor([1, 2, 30, 4]), tries),
        others - sampler.log_expected_count(items, tries),
    )
    assert torch.allclose(corrected, ranking_loss("cross-entropy", own, others), atol=1e-6)


@pytest.mark.fidelity("S9")
def test_log_uniform_refuses_items_that_are_not_numbered_by_popularity() -> None:
    LogUniformSampler(4, COUNTS)
    with pytest.raises(ModelError, match="falling"):
        LogUniformSampler(4, COUNTS[[0, 1, 3, 2, 4]])


def test_draws_repeat_with_the_seed() -> None:
    def draws(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return [
            PopularitySampler(COUNTS, 0.5).draw(50).tolist(),
            PopularitySampler(COUNTS, 0.0).draw(50).tolist(),
            uniform_except(torch.tensor([1, 2]), 9, 20).flatten().tolist(),
            LogUniformSampler(99).draw_unique(20)[0].tolist(),
        ]

    assert draws(1) == draws(1)
    assert all(a != b for a, b in zip(draws(1), draws(2), strict=True))
