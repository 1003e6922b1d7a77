"""The protocol of a benchmark in plain sentences, as they stand on the leaderboard."""

from __future__ import annotations

from collections.abc import Container

from benchbed.data.split.spec import SplitSpec
from benchbed.errors import counted
from benchbed.evaluation.protocol import LABELLED, METRICS, VARIANTS, Protocol
from benchbed.models.registry import baselines_of, is_baseline
from benchbed.sweep.benchmark import Benchmark


def protocol_words(benchmark: Benchmark, left_out: Container[str] = (), *, timed: bool = True) -> list[str]:
    """What makes the numbers mean something, sentence by sentence.

    ``left_out`` are baselines that do not run; ``timed`` says whether the events have times.

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
    return [
        *_split(benchmark, timed=timed),
        *_evaluation(benchmark),
        *_search(benchmark),
        *_final(benchmark),
        *_baselines(benchmark, left_out),
    ]


def _split(benchmark: Benchmark, *, timed: bool) -> list[str]:
    split = benchmark.split
    by_chance = not timed and split.test is not None and split.ties == "hash"
    if split.kind == "leave_one_out":
        words = [
            "Split: each user's last event is the test target, the one before it the validation target."
            if split.test is None
            else f"Split: the rows with the largest value of the {split.test} are the test targets; "
            f"{'one' if by_chance else 'the last'} other event of such a user is the validation target."
        ]
    elif split.kind == "session":
        words = _sessions(split)
    elif split.kind == "temporal":
        words = _stretches(split)
    elif split.kind == "click_through":
        parts = ":".join(str(part) for part in split.parts)
        words = [
            "Split: what a user has taken, each item once, and as many drawn negatives are rows with the labels 1 and 0; the "
            f"rows of all users are divided {parts} at random into training, validation and test.",
            "Negatives are drawn before that, uniformly from the items that the user has no event with in any part, and are "
            "the same for every model.",
            "The history of a user is what the user has taken in the parts before; it may be later than the targets.",
        ]
    else:
        parts, share = ":".join(str(part) for part in split.parts), f"{100 * float(split.history_share):g} %"
        trained = (
            "the histories of held-out users are trained on (weak generalisation)"
            if split.kind == "partial_history"
            else "no held-out user is trained on"
        )
        words = [
            f"Split: users are divided {parts} into training, validation and test; {trained}.",
            f"The first {share} of a held-out user's events are the history, the rest the targets.",
        ]
    if by_chance:
        words.append(
            "The events have no times. Their order, and so which of them validates, is a hash of split seed, user and item."
        )
    elif split.kind != "click_through":  # rows divided at random ask for no order
        order = {
            "hash": "are ordered by a hash of split seed, user and item",
            "file": "keep the order of the log file",
        }.get(split.ties, f"are ordered by the {split.ties}")
        words.append(f"Events of one user with the same time {order}.")
    seeds = ", ".join(map(str, split.seeds))
    words.append(
        f"Split seed: {seeds} (held-out sessions do not depend on it)."
        if split.kind == "session"
        else f"Split seed: {seeds} (what is held out does not depend on it)."
        if split.kind == "temporal"
        else f"Split seed: {seeds}."
        if len(split.seeds) == 1
        else f"Split seeds: {seeds}; search and tests are repeated for each and pooled."
    )
    words.append("Vocabulary, popularity and sampling weights come from training events alone.")
    if benchmark.evaluation.candidates == "catalogue":
        words.append("Negatives that a model draws evenly are drawn among all candidates, items without training events too.")
    return words


def _sessions(split: SplitSpec) -> list[str]:
    share = f"{100 * float(split.newest_share):g} %"
    if split.by is not None:
        held = f"with the largest value of the {split.by} are tested; of the others the newest {share} are validated"
    elif split.test_days is not None:
        days = f"{split.test_days:g} days" if split.test_days != 1 else "day"
        held = f"that begin in the last {days} are tested, those that begin in as much time before are validated"
    else:
        held = f"among the newest {share} are tested, as many before them are validated"
    return [
        f"Split: whole sessions (users of the log) are held out: those {held}. A session is as new as its first event.",
        "Events that are not older than the first session of the next part are dropped, so that no training event is later "
        "than any target (in a log without times none are, and a session is as new as its place there).",
        "The first event of a held-out session is its history, the others are targets.",
    ]


def _stretches(split: SplitSpec) -> list[str]:
    if split.test_days is not None:
        days = f"{split.test_days:g} days" if split.test_days != 1 else "day"
        held = f"events of the last {days} are test targets, those of as much time before are validation targets"
    else:
        share = f"{100 * float(split.newest_share):g} %"
        held = f"the newest {share} of the events are test targets, as many before them validation targets"
    return [
        f"Split in time, at the same moments for all users: {held}; the rest is trained on.",
        "No training event is as late as any target. A user's history is all own events before the stretch; users without one "
        "are not evaluated.",
    ]


def _evaluation(benchmark: Benchmark) -> list[str]:
    said = benchmark.evaluation
    if said.mode == "click_through":
        return _labelled(said)
    where = "items with training events" if said.candidates == "vocabulary" else "all items of the catalogue"
    if said.mode == "sampled":
        words = _sampled(said, where)
    else:
        words = [f"Ranked are {where}, all of them, never a sample."]
        if said.seen_items == "exclude":
            words.append("Items of a user's full history are removed from candidates and from targets.")
        else:
            words.append("Items of a user's history stay among the candidates.")
    words.append(
        "Targets outside the candidates count as misses."
        if said.unknown_targets == "miss"
        else "Events outside the candidates are taken out of histories and targets before cases are made, for every model "
        "alike; an event without another before it is no target."
        if said.targets == "every_next"
        else "Targets outside the candidates are dropped, for every model alike."
    )
    if said.targets == "next":
        words.append("Only the next event after the history is a target.")
    elif said.targets == "every_next":
        words.append(
            "Every event after the history is a case of its own, with one target: its history is all that came before it."
        )
    words += [f"{name}@k: {(METRICS | VARIANTS)[name]}." for name in said.metrics]
    words += _variety(said)
    whom = "sessions" if benchmark.split.kind == "session" else "users"
    if said.average == "cases":
        words.append(f"Values are means over cases, each alike; p-values take {whom} as the unit, with all their cases.")
    elif said.targets == "every_next":
        words.append(f"Values are means over {whom}, of the mean over the cases of each.")
    else:
        words.append(f"Values are means over {whom}.")
    if said.mode == "full":
        words.append("Equal scores are ordered by a fixed permutation of the items.")
    return words


def _sampled(said: Protocol, where: str) -> list[str]:
    """Which negatives there are, and that nothing else is ranked."""
    if said.negatives == "shipped":
        words = [
            "Sampled protocol: each target is ranked among the negatives that come with the data, not among all items. For "
            "validation, which has none of its own, as many are drawn uniformly.",
        ]
        verb = "dropped" if said.flawed_negatives == "drop" else "kept"
        words.append(f"Shipped negatives that are a target, or stand in the user's history, are counted and {verb}.")
    else:
        words = [
            f"Sampled protocol: each target is ranked among {counted(int(said.negatives or 0), 'negative')}, not among all "
            f"items. They are drawn once for each case, uniformly from {where} that are neither targets nor in the history "
            f"(seed {said.seed})."
        ]
    words.append(
        "Targets that the user's full history holds are removed."
        if said.seen_items == "exclude"
        else "Targets that the user's history holds stay."
    )
    words.append("A negative with the score of a target stands before it: ties count against the model.")
    return words


def _labelled(said: Protocol) -> list[str]:
    return [
        "Click-through protocol: rows of a user and an item, events and drawn negatives, are told apart; nothing is ranked.",
        "Rows of items without training events are judged like all others."
        if said.candidates == "catalogue"
        else "Rows of items without training events are dropped, for every model alike.",
        *(f"Metric {name}: {LABELLED[name]}." for name in said.metrics),
        "Values are of all rows together, not means over users; p-values take users as the unit, with all their rows.",
    ]


def _variety(protocol: Protocol) -> list[str]:
    said = protocol.diversity
    if said is None:
        return []
    others = {
        "together": "items without one count as one category",
        "drop": "items without one are left out",
    }
    words = [
        f"Variety: {said.column} is the share of pairs in a list of {said.cutoff} that have no {said.feature} in common; "
        f"{others[said.uncategorised]}."
    ]
    if said.apply == "validation":
        words.append(
            f"The rows are of lists re-ranked greedily for variety, with the largest lambda that keeps {said.kept:.0%} of "
            f"{protocol.select_by} on validation, for each final run; the search compared the models' own lists."
        )
    else:
        words.append("The rows are of the models' own lists (lambda 0); what re-ranking for variety does is drawn, not ranked.")
    return words


def _search(benchmark: Benchmark) -> list[str]:
    search = benchmark.search
    seconds = search.seconds_per_trial
    cap = "" if seconds is None else f", each at most {seconds:g} second{'s' if seconds != 1 else ''}"
    trials = counted(search.trials, "trial")
    pruner = {"none": "no trial is pruned", "median": "median pruning", "successive_halving": "successive halving prunes"}
    return [
        f"Search: {trials} for every model{cap} (fewer where the search space holds fewer configurations).",
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
        f"They stop after {counted(final.patience, 'epoch')} without a better validation value; the best epoch is tested.",
        "The test set is opened once for each final run, and every opening is logged before it happens.",
        "Seeds that collapse or fail are shown and counted, never drawn again.",
    ]


def _baselines(benchmark: Benchmark, left_out: Container[str]) -> list[str]:
    if benchmark.baselines == "none":
        added = "No baseline is added to the models: the benchmark says `baselines: none`."
        simple = "No row is a simple method, so that nothing here tells whether a model is above these."
        return [added] if any(map(is_baseline, benchmark.models)) else [added, simple]
    run = [name for name in baselines_of(benchmark.split.kind) if name not in left_out]
    return [f"Baselines that always run, tuned with the same budget: {', '.join(run)}."]
