"""The protocol of a benchmark in plain sentences, as they stand on the leaderboard."""

from __future__ import annotations

from benchbed.evaluation.protocol import METRICS, VARIANTS
from benchbed.models.registry import BASELINES
from benchbed.sweep.benchmark import Benchmark


def protocol_words(benchmark: Benchmark) -> list[str]:
    """What makes the numbers mean something, sentence by sentence.

    Examples
    --------
    >>> b = Benchmark(name="try", dataset="bazaar", split={"kind": "leave_one_out"},
    ...               evaluation={"seen_items": "exclude"}, models=["gru4rec"])
    >>> protocol_words(b)[0]
    "Split: each user's last event is the test target, the one before it the validation target."
    >>> b = Benchmark(name="try", dataset="bazaar", split={"kind": "user_disjoint", "input_fraction": 0.125},
    ...               evaluation={"seen_items": "exclude"}, models=["gru4rec"])
    >>> protocol_words(b)[1]
    "The first 12.5 % of a held-out user's events are the history, the rest the targets."
    """
    return [*_split(benchmark), *_evaluation(benchmark), *_search(benchmark), *_final(benchmark), *_baselines(benchmark)]


def _split(benchmark: Benchmark) -> list[str]:
    split = benchmark.split
    if split.kind == "leave_one_out":
        words = ["Split: each user's last event is the test target, the one before it the validation target."]
    else:
        parts, share = ":".join(str(part) for part in split.parts), f"{100 * float(split.history_share):g} %"
        words = [
            f"Split: users are divided {parts} into training, validation and test; no held-out user is trained on.",
            f"The first {share} of a held-out user's events are the history, the rest the targets.",
        ]
    if split.ties == "hash":
        words.append("Events of one user with the same time are ordered by a hash of split seed, user and item.")
    elif split.ties == "file":
        words.append("Events of one user with the same time keep the order of the log file.")
    else:
        words.append(f"Events of one user with the same time are ordered by the {split.ties}.")
    seeds = ", ".join(map(str, split.seeds))
    words.append(
        f"Split seed: {seeds}."
        if len(split.seeds) == 1
        else f"Split seeds: {seeds}; search and tests are repeated for each and pooled."
    )
    words.append("Vocabulary, popularity and sampling weights come from training events alone.")
    return words


def _evaluation(benchmark: Benchmark) -> list[str]:
    said = benchmark.evaluation
    where = "items with training events" if said.candidates == "vocabulary" else "all items of the catalogue"
    words = [f"Ranked are {where}, all of them, never a sample."]
    if said.seen_items == "exclude":
        words.append("Items of a user's full history are removed from candidates and from targets.")
    else:
        words.append("Items of a user's history stay among the candidates.")
    words.append(
        "Targets outside the candidates count as misses."
        if said.unknown_targets == "miss"
        else "Targets outside the candidates are dropped, for every model alike."
    )
    if said.targets == "next":
        words.append("Only the next event after the history is a target.")
    words += [f"{name}@k: {(METRICS | VARIANTS)[name]}." for name in said.metrics]
    words.append("Values are means over users. Equal scores are ordered by a fixed permutation of the items.")
    return words


def _search(benchmark: Benchmark) -> list[str]:
    search = benchmark.search
    cap = "" if search.seconds_per_trial is None else f", each at most {search.seconds_per_trial:g} seconds"
    pruner = {"none": "no trial is pruned", "median": "median pruning", "successive_halving": "successive halving prunes"}
    return [
        f"Search: {search.trials} trials for every model{cap} (fewer where the search space holds fewer configurations).",
        f"Sampler {search.sampler} with seed {search.seed}; {pruner[search.pruner]}. Pruned and failed trials count.",
        "Trial 0 is the default configuration and is never pruned.",
        f"The best trial is the complete one with the highest {benchmark.evaluation.select_by} on validation, over its epochs.",
    ]


def _final(benchmark: Benchmark) -> list[str]:
    final = benchmark.final
    seeds = ", ".join(map(str, final.seeds))
    return [
        f"Final runs: the best configuration is trained again with seeds {seeds} on the training events; models without random "
        f"numbers once.",
        f"They stop after {final.patience} epochs without a better validation value; the best epoch is tested.",
        "The test set is opened once for each final run, and every opening is logged before it happens.",
        "Seeds that collapse or fail are shown and counted, never drawn again.",
    ]


def _baselines(benchmark: Benchmark) -> list[str]:
    if benchmark.baselines == "none":
        return ["The baselines were switched off."]
    return [f"Baselines that always run, tuned with the same budget: {', '.join(BASELINES)}."]
