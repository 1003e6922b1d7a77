"""Keys of a benchmark file that change nothing in it, and what the dataset lacks: both are told with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbed.config import read_document
from benchbed.sweep.lookup import check_benchmark

CARD = """name: visits
tables:
  interactions:
    files: [log.csv]
    columns: {user: u, item: i%s}
"""


def told(tmp_path: Path, split: str, evaluation: str, columns: str = ", timestamp: t") -> dict[str, str]:
    """Dotted key -> message, of a benchmark on a small card."""
    card = tmp_path / "visits.yaml"
    card.write_text(CARD % columns)
    path = tmp_path / "b.yaml"
    path.write_text(f"name: b\ndataset: {card}\nsplit: {{{split}}}\nevaluation: {{{evaluation}}}\nmodels: [ease]\n")
    problems = check_benchmark(read_document(path))[1]
    assert all(problem.file == str(path) and problem.line in (3, 4) for problem in problems)
    return {problem.key: str(problem) for problem in problems}


ROWS = "mode: click_through"
SHOWN = "column: part"
PARTED = f'kind: leave_one_out, ties: hash, test: "{SHOWN}"'


@pytest.mark.parametrize(
    ("split", "evaluation", "keys"),
    [
        ("kind: click_through, ties: hash", ROWS, ["split.ties"]),
        ("kind: click_through, ties: file", "seen_items: keep", ["split.ties"]),
        ("kind: leave_one_out, ties: file, seeds: [1, 2]", "seen_items: keep", ["split.seeds"]),
        ("kind: user_disjoint, ties: file, seeds: [1, 2]", "seen_items: keep", []),
        ("kind: leave_one_out, seeds: [1, 2]", "seen_items: keep", []),
        *(
            ("kind: click_through", f"{ROWS}, {key}", [f"evaluation.{key.partition(':')[0]}"])
            for key in ("seen_items: keep", "targets: rest", "average: cases", "seed: 0", "cutoffs: []")
        ),
        ("kind: click_through", f"{ROWS}, select_by: auc, candidates: catalogue", []),
        ("kind: click_through", f"{ROWS}, unknown_targets: miss", ["evaluation.unknown_targets"]),
        ("kind: click_through", f"{ROWS}, unknown_targets: drop, candidates: vocabulary", []),
        (
            "kind: click_through",
            "seen_items: keep, unknown_targets: drop, candidates: catalogue",
            ["evaluation.unknown_targets"],
        ),
        ("kind: click_through", "seen_items: keep, unknown_targets: drop", []),
        ("kind: leave_one_out", "seen_items: keep, targets: every_next", ["evaluation.targets"]),
        (
            "kind: leave_one_out",
            "seen_items: keep, targets: every_next, average: users",
            ["evaluation.targets", "evaluation.average"],
        ),
        (PARTED, "seen_items: keep, targets: every_next, average: cases", []),
        ("kind: session", "seen_items: keep, targets: every_next, average: cases, unknown_targets: miss", []),
        ("kind: session", "seen_items: keep, targets: next, average: users", ["evaluation.average"]),
        ("kind: user_disjoint", "seen_items: keep, flawed_negatives: drop", ["evaluation.flawed_negatives"]),
        (
            "kind: user_disjoint",
            "seen_items: keep, mode: sampled, negatives: 9, flawed_negatives: drop",
            ["evaluation.flawed_negatives"],
        ),
        ("kind: user_disjoint", "seen_items: keep, mode: sampled, negatives: 9, seed: 0", []),
        ("kind: user_disjoint", "seen_items: keep, candidates: catalogue", ["evaluation.candidates"]),
        ("kind: user_disjoint", "seen_items: keep, candidates: vocabulary", []),
    ],
)
def test_a_written_key_that_changes_nothing_is_refused_at_its_place(tmp_path, split, evaluation, keys):
    found = told(tmp_path, split, evaluation, ", timestamp: t, extra: {part: {column: p}}")
    assert sorted(found) == sorted(keys)
    assert all("leave" in text or "take" in text for text in found.values())


@pytest.mark.parametrize(
    ("split", "evaluation", "key", "words"),
    [
        ("kind: temporal", "seen_items: keep", "split.kind", "no timestamps, and a temporal split divides by time"),
        ("kind: session, test_days: 2, ties: file", "seen_items: keep", "split.test_days", "no timestamps"),
        ("kind: leave_one_out", "seen_items: keep", "split.ties", "no timestamps, so that nothing says which event"),
        ('kind: leave_one_out, ties: "column: prt"', "seen_items: keep", "split.ties", "did you mean 'part'?"),
        ('kind: leave_one_out, ties: "column: word"', "seen_items: keep", "split.ties", "kind: number"),
        (
            *(PARTED, "seen_items: keep, mode: sampled, negatives: shipped"),
            *("evaluation.negatives", "no negatives of its own (tables.negatives)"),
        ),
        (
            *("kind: user_disjoint, ties: file", "seen_items: keep, diversity: {feature: genre}"),
            *("evaluation.diversity.feature", "no categorical item feature"),
        ),
    ],
)
def test_what_the_dataset_lacks_is_told_and_nothing_hides_it(tmp_path, split, evaluation, key, words):
    found = told(tmp_path, split, evaluation, ", extra: {part: {column: p}, word: {column: w, kind: text}}")
    assert list(found) == [key] and words in found[key], found


def test_mistakes_of_one_block_do_not_hide_those_of_another(tmp_path):
    found = told(tmp_path, "kind: temporal", "seen_items: kep, flawed_negatives: drop", "")
    assert list(found) == ["split.kind", "evaluation.seen_items", "evaluation.flawed_negatives"]
