"""Words and numbers that the formats of a leaderboard share."""

from __future__ import annotations

import math

from benchbed.errors import counted, listed
from benchbed.evaluation.protocol import VARIANTS
from benchbed.reporting.leaderboard import Leaderboard, LeaderboardRow
from benchbed.reporting.negatives import flaw_words
from benchbed.tracking.reading import SweepRecord

NOTHING = "\u2013"
"""Stands where there is no number."""


MODE_LABELS = {"sampled": "Sampled protocol", "click_through": "Click-through protocol"}
"""What stands before the title of a leaderboard whose numbers are of no full ranking."""


def title_of(record: SweepRecord) -> str:
    """The title, which says the way to evaluate where it is not a full ranking."""
    title = str(record.benchmark.get("title") or record.benchmark["name"])
    return f"{MODE_LABELS[record.mode]}: {title}" if record.mode in MODE_LABELS else title


def mode_notice(record: SweepRecord) -> str:
    """What the numbers must not be compared with; nothing for a full ranking."""
    if record.mode == "sampled":
        return (
            "These are ranks among listed negatives, not among all items. They are comparable with results on the same lists "
            "alone, and with no full ranking: there the order of the models may be another."
        )
    if record.mode == "click_through":
        return (
            "Labelled rows are told apart here; nothing is ranked. The negatives were drawn at random, which is easier than a "
            "catalogue: these numbers are comparable with results on such rows alone, and with no full ranking."
        )
    return ""


def notices(record: SweepRecord) -> list[str]:
    """What must be known before any number is read: the mode, and flaws of what it compares with."""
    return [text for text in (mode_notice(record), *flaw_words(record)) if text]


def means_over(record: SweepRecord) -> str:
    """What the test means are over."""
    return (
        "all labelled rows" if record.mode == "click_through" else str(record.benchmark["evaluation"].get("average", "users"))
    )


def cutoff_of(column: str) -> str:
    """The cutoff of a column as text; empty for a metric that has none.

    Examples
    --------
    >>> cutoff_of("ndcg@20"), cutoff_of("auc")
    ('20', '')
    """
    return column.partition("@")[2]


def remarks(board: Leaderboard) -> list[tuple[str, str, list[str]]]:
    """Warning marks with their meaning and the rows that carry them."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in board.rows:
        for mark in row.marks:
            if mark.warning:
                found.setdefault((mark.word, mark.meaning), []).append(row.model)
    return [(word, meaning, models) for (word, meaning), models in found.items()]


def run_table(board: Leaderboard) -> tuple[list[str], dict[str, list[str]]]:
    """What every final run reached in ``select_by``: its seeds in words, and by row a cell for each.

    A run that came to nothing says so; a dash stands where a row has no such run, as closed forms have one alone.
    """
    several = len(board.record.benchmark["split"].get("seeds") or [0]) > 1
    places = sorted({(run.split_seed or 0, run.seed or 0): run for row in board.rows for run in row.runs}.items())
    rows = {}
    for row in board.rows:
        there = {(run.split_seed or 0, run.seed or 0): run for run in row.runs}
        found = [there.get(place) for place, _ in places]
        rows[row.model] = [NOTHING if run is None else f"{number(run.value)} {run.fate}".strip() for run in found]
    return [run.place(several_splits=several) for _, run in places], rows


def fold_in_words(row: LeaderboardRow) -> str:
    """How the row's user vectors were made for test users; nothing for a model without any."""
    facts = row.fold_in
    if facts is None:
        return ""
    if set(facts.steps) == {0}:
        return "Fold-in: 0 steps, so that trained users keep their rows."
    steps = " or ".join(str(number) for number in facts.steps)
    rates = " or ".join(f"{rate:.4g}" for rate in facts.learning_rate)
    words = f"Fold-in: {steps} step{'s' if facts.steps != (1,) else ''}" + (f" at learning rate {rates}" if rates else "")
    if facts.seconds is not None:
        words += f"; {duration(facts.seconds)} a final run"
    if facts.agreement is not None:
        words += f"; trained users folded in anew rank items as their own rows do with a correlation of {facts.agreement:.3f}"
    return f"{words}."


def coarse_words(row: LeaderboardRow) -> str:
    """Whether validations were made from coarse scores; nothing where nobody asked for them."""
    facts = row.coarse
    if facts is None:
        return ""
    if facts.changed:
        return (
            f"Scoring: bf16 changed metrics of up to {facts.changed:,} validation cases when it was compared with fp32, in "
            "which the runs then went on; tested in fp32."
        )
    times = "one validation that was" if facts.compared == 1 else f"{facts.compared} validations that were"
    return f"Scoring: bf16 in validation, every case with the metrics of fp32 in {times} made both ways; tested in fp32."


def scoring_words(row: LeaderboardRow) -> str:
    """How the row's scores came about, beside its configuration."""
    return " ".join(words for words in (fold_in_words(row), coarse_words(row)) if words)


def rank_text(row: LeaderboardRow) -> str:
    """``1``, an interval, or a dash."""
    if row.rank is None:
        return NOTHING
    return str(row.rank) if row.last_rank in (None, row.rank) else f"{row.rank}{NOTHING}{row.last_rank}"


def rank_words(board: Leaderboard) -> str:
    """What the ranks mean, and how small a difference could have been found."""
    found = board.comparison
    if found is None:
        return "No row has a test result yet."
    if not found.pairs:
        return "One row alone has no rivals."
    words = (
        f"Rank = 1 + the number of rows that are significantly better ({counted(len(found.pairs), 'pair')}, Holm, "
        f"{100 * found.level:.0f} %); an interval gives the ranks that the data allow."
    )
    if math.isfinite(found.smallest_detectable) and found.seed_noise_known:
        words += f" A difference of {found.smallest_detectable:.4f} would be found four times in five."
    return words


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Examples
    --------
    >>> duration(42.4), duration(185), duration(7260)
    ('42 s', '3 min 5 s', '2 h 1 min')
    >>> duration(600), duration(0.02)
    ('10 min', '20 ms')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small, units = (
        (whole // 60, whole % 60, ("min", "s")) if whole < 3600 else (whole // 3600, whole % 3600 // 60, ("h", "min"))
    )
    return f"{large} {units[0]}" + (f" {small} {units[1]}" if small else "")


def headline(board: Leaderboard) -> str:
    """What the leaderboard says, in one or two sentences."""
    found, column = board.comparison, board.record.select_by
    ranked = [row for row in board.rows if row.rank is not None]
    if found is None or not ranked:
        return "No model has a test result yet."
    top = max(ranked, key=lambda row: row.metrics[column].mean)
    if top.metrics[column].mean == 0:
        return f"No row ranks anything that was looked for: {column} on test is 0 in all of them."
    if len(ranked) == 1:
        return f"{top.model} reaches {number(top.metrics[column].mean)} in {column} on test. No other row has a test result."
    words = f"{top.model} has the highest {column} on test: {number(top.metrics[column].mean)}."
    if not board.record.finished:
        return f"So far {words} The sweep is not finished."
    others = [row.model for row in ranked if row is not top and not found.better(top.model, row.model)]
    random = [row.model for row in ranked if row.model in others and not (row.closed_form and top.closed_form)]
    if random and not found.seed_noise_known:
        words += f" With one training seed the difference to {listed(random)} cannot be tested."
        if rest := [model for model in others if model not in random]:
            words += f" It cannot be told apart from {listed(rest)}."
    elif not others:
        words += " It is significantly above every other row."
    elif len(others) < len(ranked) - 1:
        words += f" It cannot be told apart from {listed(others)}."
    elif len(ranked) > 2:
        words += " It cannot be told apart from any other row."
    else:
        words += f" It cannot be told apart from {others[0]}."
    above = [row.model for row in ranked if board.best_baseline and found.better(row.model, board.best_baseline)]
    if board.best_baseline and not top.baseline and not above:
        words += f" No model is significantly above the best baseline, {board.best_baseline}."
    elif top.baseline:
        words += " It is a baseline."
    return words


def variant_words(record: SweepRecord) -> str:
    """What the metrics are that are shown apart; nothing without any."""
    names = dict.fromkeys(column.rpartition("@")[0] for column in record.variant_columns)
    meanings = "; ".join(f"{name}: {VARIANTS[name]}" for name in names)
    head = "Metrics in the forms of some papers: for comparison with those papers alone, and nothing was chosen by them. "
    return f"{head}{meanings}." if names else ""


def sentence_of_seeds(record: SweepRecord) -> str:
    """Which seeds there are, in words."""
    benchmark = record.benchmark
    splits = ", ".join(map(str, benchmark["split"].get("seeds") or ())) or "none"
    finals = ", ".join(map(str, benchmark["final"]["seeds"]))
    return f"Split seeds {splits}; training seeds {finals} of final runs; search seed {benchmark['search'].get('seed', 0)}."


def spread_over(record: SweepRecord) -> str:
    """What the spread of a row is over, in words."""
    several = len(record.benchmark["split"].get("seeds") or [0]) > 1
    return "training seeds and splits" if several else "training seeds"
