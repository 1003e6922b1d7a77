"""The report of claims about planted truth: Markdown, JSON and a picture of the intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import benchbed
from benchbed.config import fingerprint
from benchbed.models.registry import is_baseline
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.planted_claims import (
    MOST_ERRORS,
    Claim,
    Claims,
    Estimate,
    Finding,
    Shop,
    UnderCeiling,
    estimate,
    findings,
    under_ceiling,
)
from benchbed.sweep.planted_picture import EXPECTED, picture
from benchbed.sweep.planted_targets import column_of
from benchbed.sweep.protocol_words import protocol_words
from benchbed.sweep.surroundings import environment
from benchbed.workspace import replacing


def write_planted(folder: Path, benchmark: Benchmark, claims: Claims, shops: Sequence[Shop]) -> list[Path]:
    """Write ``planted.md``, ``planted.json`` and ``planted.svg``; returns their paths."""
    found, against = findings(claims, shops), under_ceiling(claims, shops)
    texts = {
        "planted.md": "\n".join(_page(benchmark, claims, shops, found, against)) + "\n",
        "planted.json": json.dumps(_data(benchmark, claims, shops, found, against), indent=1) + "\n",
        "planted.svg": picture(claims, found),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _number(value: float, signed: bool = True) -> str:
    if math.isnan(value):
        return "unknown"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def _interval(made: Estimate, signed: bool = True) -> str:
    return f"{_number(made.mean, signed)} [{_number(made.low, signed)}, {_number(made.high, signed)}]"


def _whom(claim: Claim) -> str:
    """Users and targets that a claim is about."""
    who = _who(claim.interests)
    return who if claim.targets is None else f"{who}, {claim.targets} targets"


def _who(interests: tuple[int, ...] | None) -> str:
    if interests is None:
        return "all users"
    if interests == (1,):
        return "users of one interest"
    return f"users of {' or '.join(map(str, interests))} interests"


def _rows(weights: dict[str, float]) -> str:
    """``a - b``, as people write a difference."""
    parts: list[str] = []
    for row, weight in weights.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):g} "
        sign = "-" if weight < 0 else "+" if parts else ""
        parts.append(f"{sign} {size}{row}".strip())
    return " ".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join(['---'] * len(head))}|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _page(
    benchmark: Benchmark, claims: Claims, shops: Sequence[Shop], found: Sequence[Finding], against: Sequence[UnderCeiling]
) -> Iterator[str]:
    seeds = ", ".join(str(shop.seed) for shop in shops)
    users = sum(len(shop.interests) for shop in shops)
    finals = len(benchmark.final.seeds)
    yield f"# {benchmark.title or benchmark.name}: what was planted, and what was found"
    yield ""
    yield (
        f"{len(shops)} simulated shop{'s' if len(shops) > 1 else ''} (simulator seed {seeds}), {users:,} test users in all, "
        f"{benchmark.search.trials} trials and {finals} training seed{'s' if finals > 1 else ''} for every row in every shop. "
        "Claims, margins and the rule of the verdicts were declared in [claims.yaml](claims.yaml), and the constants of the "
        "simulator in its documentation, before anything ran; nothing was tuned to make a claim come out."
    )
    yield ""
    yield "## Claims"
    yield ""
    for finding in found:
        claim = finding.claim
        yield (
            f"- **{claim.name}: {finding.verdict}.** {claim.says} Expected: {EXPECTED[claim.expected]}; "
            f"found {column_of(claims.metric, claim.targets)} {_interval(finding.estimate)}, which is "
            f"{100 * finding.estimate.mean / finding.scale:+.1f} % of {claim.scale}."
        )
    yield ""
    yield "![The differences with their intervals](planted.svg)"
    yield ""
    head = ["claim", "difference", "users", "expected", "found", "margin", "standard error", "of it users, seeds", "verdict"]
    yield from _table(
        head,
        [
            [
                f.claim.name,
                _rows(f.claim.rows),
                _whom(f.claim),
                EXPECTED[f.claim.expected],
                _interval(f.estimate),
                f"±{f.margin:.4f}",
                _number(f.estimate.standard_error, False),
                f"{_number(f.estimate.user_part, False)}, {_number(f.estimate.seed_part, False)}",
                f.verdict,
            ]
            for f in found
        ],
    )
    yield (
        "A difference is taken in every shop for itself: means over training seeds, then over users. Shown are the mean over "
        f"the shops and its {100 * claims.level:g} % interval by Student's t over {len(shops)} shops, which holds all that "
        "moves a result: shop, visitors, search, training seeds. Beside its standard error stand the parts of it that are "
        "known from within the shops. Each interval is for its claim alone. *Confirmed*: a gain whose interval lies above 0; "
        "no gain, with an interval below the margin; no difference, with an interval within the margins. *Refuted*: a gain of "
        "the size of the margin is excluded; or the interval lies beyond the margin. Else *undecided*."
    )
    yield ""
    yield "In the shops, in order of their seeds:"
    yield ""
    yield from _table(
        ["claim", *(str(shop.seed) for shop in shops), "users"],
        [[f.claim.name, *(_number(value) for value in f.estimate.each), ", ".join(map(str, f.estimate.users))] for f in found],
    )
    yield from _ceiling(claims, shops, against)
    yield from _simple(claims, shops)
    yield from _by_targets(claims, shops)
    yield from _by_interests(claims, shops)
    yield from _budget(shops)
    yield "## Protocol"
    yield ""
    yield from (f"- {sentence}" for sentence in protocol_words(benchmark))
    yield ""


def _ceiling(claims: Claims, shops: Sequence[Shop], against: Sequence[UnderCeiling]) -> Iterator[str]:
    yield "## The ceiling"
    yield ""
    broken = [each for each in against if not each.holds]
    word = f"**Broken by {', '.join(sorted({each.row for each in broken}))}.**" if broken else "**Holds.**"
    yield (
        f"{word} `{claims.ceiling}` ranks by the true probability of being among the targets, given the planted state at the "
        f"cut. No row may be above it by more than {MOST_ERRORS:g} standard errors of the paired difference (users and "
        "training seeds), over all shops or in any one."
    )
    yield ""
    yield from _table(
        [
            "row",
            "metric",
            "value",
            "ceiling",
            "share",
            "row - ceiling",
            "in standard errors",
            "in the shop where it is highest",
        ],
        [
            [
                each.row,
                each.column,
                _number(each.value, False),
                _number(each.ceiling, False),
                f"{100 * each.value / each.ceiling:.0f} %",
                _interval(each.gap),
                f"{each.errors:+.1f}",
                f"{each.highest:+.1f}",
            ]
            for each in against
        ],
    )


def _simple(claims: Claims, shops: Sequence[Shop]) -> Iterator[str]:
    """How the rows stand to the best of the baselines; no claim is about it, and no reader should miss it."""
    names = list(shops[0].values[claims.metric])
    simple = [name for name in names if is_baseline(name)]
    if not simple:
        return
    means = {name: estimate(shops, claims.metric, {name: 1.0}, None, claims.level).mean for name in simple}
    best = max(simple, key=lambda name: means[name])
    gains = {
        name: estimate(shops, claims.metric, {name: 1.0, best: -1.0}, None, claims.level)
        for name in names
        if name not in (*simple, claims.ceiling)
    }
    above = [name for name, gain in gains.items() if gain.low > 0]
    yield "## The simple methods"
    yield ""
    yield (
        f"The best of the baselines, tuned with the same number of trials, is {best} with a {claims.metric} of "
        f"{means[best]:.4f}. Above it with its whole interval: {', '.join(above) or 'none of the rows'}. What a "
        "claim says holds between its rows."
    )
    yield ""
    yield from _table(["row", f"row - {best}"], [[name, _interval(gain)] for name, gain in gains.items()])


def _by_targets(claims: Claims, shops: Sequence[Shop]) -> Iterator[str]:
    """What is behind the claims about a part of the targets, for every row."""
    if not claims.parts:
        return
    columns = [claims.metric, *(column_of(claims.metric, part) for part in claims.parts)]
    users = [[int(np.isfinite(values[0]).sum()) for values in _first_rows(shops, column)] for column in columns]
    yield f"## {claims.metric} of launched and of other targets"
    yield ""
    yield (
        "Launched targets are items that came in the last tenth of the year. In their column they alone are targets, of users "
        "who have one, and in the last column the others alone; ranked is the same full list. Means over the shops with their "
        "intervals over shops."
    )
    yield ""
    yield from _table(
        ["row", *columns],
        [
            ["test users", *(", ".join(map(str, counts)) for counts in users)],
            *(
                [row, *(_interval(estimate(shops, column, {row: 1.0}, None, claims.level), False) for column in columns)]
                for row in shops[0].values[claims.metric]
            ),
        ],
    )


def _first_rows(shops: Sequence[Shop], column: str) -> list[np.ndarray]:
    return [next(iter(shop.values[column].values())) for shop in shops]


def _by_interests(claims: Claims, shops: Sequence[Shop]) -> Iterator[str]:
    """No claim is about this table; it is there to be looked at."""
    groups: list[tuple[int, ...] | None] = [None, *((n,) for n in sorted({int(n) for shop in shops for n in shop.interests}))]
    yield f"## {claims.metric} by the number of planted interests"
    yield ""
    yield "Means over the shops with their intervals over shops; shops differ from each other more than rows do within a shop."
    yield ""
    yield from _table(
        ["row", *(_who(group) for group in groups)],
        [
            [row, *(_interval(estimate(shops, claims.metric, {row: 1.0}, group, claims.level), False) for group in groups)]
            for row in shops[0].values[claims.metric]
        ],
    )


def _budget(shops: Sequence[Shop]) -> Iterator[str]:
    yield "## Tuned, and what it took"
    yield ""
    yield from _table(
        [
            "row",
            "shop",
            "tuned on validation",
            "trials complete, pruned, failed",
            "search",
            "final runs",
            "best epochs",
            "seeds missing",
        ],
        [
            [
                row,
                str(shop.seed),
                ", ".join(f"{key} {_short(value)}" for key, value in about["tuned"].items()) or "nothing",
                ", ".join(str(about["trials"][state]) for state in ("COMPLETE", "PRUNED", "FAIL")),
                f"{about['search_seconds']:.0f} s",
                f"{about['final_seconds']:.0f} s",
                ", ".join(f"{best} of {run}" for best, run in zip(about["best_epochs"], about["epochs"], strict=True)),
                str(about["seeds_missing"]),
            ]
            for row in shops[0].rows
            for shop in shops
            if (about := _plain(shop.rows[row]))
        ],
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(about: Any) -> dict[str, Any]:
    return dict(about)


def _data(
    benchmark: Benchmark, claims: Claims, shops: Sequence[Shop], found: Sequence[Finding], against: Sequence[UnderCeiling]
) -> dict[str, Any]:
    def told(made: Estimate) -> dict[str, Any]:
        return {
            "each": made.each,
            "mean": made.mean,
            "low": _finite(made.low),
            "high": _finite(made.high),
            "standard_error": _finite(made.standard_error),
            "user_part": _finite(made.user_part),
            "seed_part": _finite(made.seed_part),
            "users": made.users,
        }

    return {
        "benchmark": benchmark.model_dump(mode="json"),
        "declared": {**claims.model_dump(mode="json"), "fingerprint": fingerprint(claims)},
        "simulator_seeds": [shop.seed for shop in shops],
        "claims": [
            {"name": f.claim.name, "verdict": f.verdict, "scale": f.scale, "margin": f.margin, **told(f.estimate)}
            for f in found
        ],
        "ceiling": [
            {
                "row": each.row,
                "metric": each.column,
                "value": each.value,
                "ceiling": each.ceiling,
                "errors": _finite(each.errors),
                "highest": _finite(each.highest),
                "holds": each.holds,
                **told(each.gap),
            }
            for each in against
        ],
        "shops": [
            {
                "seed": shop.seed,
                "commit": shop.commit,
                "users": len(shop.interests),
                "means": {
                    column: {row: np.nanmean(values, axis=1).tolist() for row, values in rows.items()}
                    for column, rows in shop.values.items()
                },
                "rows": shop.rows,
            }
            for shop in shops
        ],
        "version": benchbed.__version__,
        "environment": environment(),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
