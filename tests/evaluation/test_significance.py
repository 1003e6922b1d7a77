import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests

from benchbed.evaluation.significance import Row, Sample, compare, holm

USERS = np.arange(2200)


def made_up_rows(random, *, rows=6, seeds=3, users=2200, seed_noise=0.0115, shifts=None, splits=(42,), deterministic=()):
    """Rows of equal quality: shared difficulty of users, taste per row and user, noise per seed, and a shift per seed."""
    made = []
    difficulty = {split: random.normal(0, 0.2, users) for split in splits}
    for number in range(rows):
        fixed = number in deterministic
        count = 1 if fixed else seeds
        samples = {}
        for split in splits:
            own = random.normal(0, 0.16, users) + (0 if shifts is None else shifts[number])
            noise = random.normal(0, 0.05, (count, users))
            shift = random.normal(0, 0 if fixed else seed_noise, (count, 1))
            samples[split] = Sample(np.arange(users), 0.3 + difficulty[split] + own + noise + shift)
        made.append(Row(f"row{number}", samples, random=not fixed))
    return made


def test_false_wins_stay_at_the_level_where_a_test_over_users_alone_makes_many():
    random = np.random.default_rng(0)
    ours, users_alone, families = [], [], []
    for _ in range(250):
        rows = made_up_rows(random)
        found = compare(rows)
        ours += [pair.p < 0.05 for pair in found.pairs]
        users_alone += [abs(pair.difference) > 1.96 * np.sqrt(pair.user_part) for pair in found.pairs]
        families.append(any(pair.p_holm < 0.05 for pair in found.pairs))
    assert 0.03 < np.mean(ours) < 0.07
    assert np.mean(users_alone) > 0.25
    assert np.mean(families) < 0.09


@pytest.mark.parametrize("splits", [(42,), (1, 2, 3)])
def test_false_wins_with_deterministic_rows_and_several_splits(splits):
    random = np.random.default_rng(1)
    wins = [
        pair.p < 0.05
        for _ in range(150)
        for pair in compare(made_up_rows(random, users=400, seed_noise=0.02, splits=splits, deterministic=(0, 1))).pairs
    ]
    assert 0.03 < np.mean(wins) < 0.07


@pytest.mark.parametrize("weighted", [False, True])
def test_a_user_who_is_tested_on_several_splits_counts_once(weighted):
    """Splits that repeat the same users tell nothing new about them; splits with others add up as independent samples."""
    random = np.random.default_rng(9)
    a, b = (random.normal(size=(2, 300)) for _ in range(2))
    weights = random.integers(1, 9, 300) if weighted else None

    def pair(*labels):
        rows = [
            Row(name, {n: Sample(each, values, weights) for n, each in enumerate(labels)}, random=False)
            for name, values in (("a", a), ("b", b))
        ]
        return compare(rows).pairs[0]

    once, again, others = pair(np.arange(300)), pair(*[np.arange(300)] * 3), pair(*(np.arange(300) + 300 * n for n in range(3)))
    assert again.user_part == pytest.approx(once.user_part)
    assert others.user_part == pytest.approx(once.user_part / 3)
    assert again.difference == pytest.approx(others.difference) == pytest.approx(once.difference)


def test_the_smallest_detectable_difference_is_found_four_times_in_five():
    random = np.random.default_rng(2)
    promised = np.mean([compare(made_up_rows(random, rows=2)).smallest_detectable for _ in range(40)])
    found = [compare(made_up_rows(random, rows=2, shifts=[promised, 0])).better("row0", "row1") for _ in range(300)]
    assert 0.7 < np.mean(found) < 0.9


def test_five_seeds_use_their_own_variance_and_fewer_share_one():
    random = np.random.default_rng(3)
    calm = made_up_rows(random, rows=3, seeds=3, seed_noise=0.0001)
    wild = made_up_rows(random, rows=1, seeds=6, seed_noise=0.05)
    rows = [*calm, Row("wild", wild[0].samples)]
    found = compare(rows)
    means = wild[0].samples[42].values.mean(axis=1)
    pair, _ = found.pair("row0", "wild")
    alone, _ = found.pair("row0", "row1")
    assert alone.seed_part < 1e-5
    assert pair.seed_part == pytest.approx(means.var(ddof=1) / 6 + alone.seed_part / 2)
    assert pair.degrees < 10


def test_one_seed_everywhere_claims_nothing_about_random_rows_but_compares_closed_forms():
    random = np.random.default_rng(4)
    found = compare(made_up_rows(random, rows=4, seeds=1, shifts=[0, 0.5, 1, 2], deterministic=(0, 1)))
    assert found.better("row1", "row0")
    assert not found.better("row3", "row2") and not found.better("row3", "row0")
    assert not found.seed_noise_known


def test_ranks_are_intervals():
    random = np.random.default_rng(5)
    found = compare(made_up_rows(random, rows=4, seed_noise=0.0005, shifts=[0.2, 0.1, 0.1001, 0.0]))
    assert found.ranks == {"row0": (1, 1), "row1": (2, 3), "row2": (2, 3), "row3": (4, 4)}


def test_users_are_paired_by_label_and_not_by_place():
    random = np.random.default_rng(6)
    a, b = made_up_rows(random, rows=2)
    order = random.permutation(len(USERS))
    sample = b.samples[42]
    shuffled = Row(b.name, {42: Sample(sample.users[order], sample.values[:, order])})
    assert compare([a, shuffled]).pairs[0].user_part == pytest.approx(compare([a, b]).pairs[0].user_part)


def test_equal_deterministic_rows_do_not_differ_and_shifted_ones_do():
    values = np.linspace(0, 1, 50)[None]
    rows = [
        Row(name, {0: Sample(np.arange(50), values + shift)}, random=False)
        for name, shift in zip("abc", (0, 0, 0.1), strict=True)
    ]
    found = compare(rows)
    assert not found.better("a", "b") and not found.better("b", "a")
    assert found.better("c", "a") and not found.better("a", "c")


@pytest.mark.parametrize(("users", "splits"), [(5, 5), (3, 5), (2, 2), (2, 9), (6, 1)])
def test_few_users_on_many_splits_are_as_few_as_they_are(users, splits):
    """Splits that repeat the same users are one sample of them: the test is Student's over the users' mean gains."""
    random = np.random.default_rng(10)
    a, b = random.normal(size=(2, splits, users))
    rows = [
        Row(name, {n: Sample(np.arange(users), values[n : n + 1]) for n in range(splits)}, random=False)
        for name, values in (("a", a), ("b", b))
    ]
    pair = compare(rows).pairs[0]
    assert pair.degrees == pytest.approx(users - 1)
    assert pair.p == pytest.approx(ttest_1samp((a - b).mean(axis=0), 0).pvalue)


def test_degrees_of_freedom_are_users_less_the_groups_of_splits_that_share_some():
    random = np.random.default_rng(11)

    def degrees(*labels):
        rows = [
            Row(name, {n: Sample(np.array(each), random.normal(size=(1, len(each)))) for n, each in enumerate(labels)}, False)
            for name in "ab"
        ]
        return compare(rows).pairs[0].degrees

    assert degrees([1, 2], [3, 4]) <= 2 + 1e-9  # two groups
    assert degrees([1, 2], [3, 4], [2, 3]) <= 3 + 1e-9  # the third split joins them
    assert degrees([1, 2], [2, 3], [1, 3]) == pytest.approx(2)


@pytest.mark.parametrize(("users", "p"), [(2, 0.5), (3, 0.25), (11, 2.0**-10)])
def test_users_who_gain_exactly_alike_are_worth_a_sign_test(users, p):
    rows = [Row(name, {0: Sample(np.arange(users), np.full((1, users), value))}, False) for name, value in (("a", 1), ("b", 0))]
    assert compare(rows).pairs[0].p == pytest.approx(p)


def test_one_row_alone_has_rank_one():
    found = compare(made_up_rows(np.random.default_rng(7), rows=1))
    assert found.ranks == {"row0": (1, 1)} and np.isnan(found.smallest_detectable)


def test_holm_agrees_with_statsmodels():
    p = np.random.default_rng(8).uniform(0, 0.2, 40)
    assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_rows_without_common_users_cannot_be_told_apart():
    a = Row("a", {0: Sample(np.arange(5), np.ones((2, 5)))})
    b = Row("b", {1: Sample(np.arange(5), np.zeros((2, 5)))})
    found = compare([a, b])
    assert found.ranks == {"a": (1, 2), "b": (1, 2)} and found.seed_noise_known


def test_rows_need_names_of_their_own_and_samples():
    with pytest.raises(ValueError, match="name of its own"):
        compare([Row("a", {})])
    with pytest.raises(ValueError, match="do not fit"):
        Sample(np.arange(5), np.ones((2, 4)))
