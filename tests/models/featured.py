"""The ring of items with features: a group of neighbours, and tags of which some items have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchbed.data.dataset import Features, Ragged, TrainingData


def with_features(data: TrainingData) -> TrainingData:
    """``group``: one value an item, five neighbours share it. ``tags``: none to three of seven values."""
    rng = np.random.default_rng(5)
    groups = [[], *([1 + (item - 1) // 5] for item in range(1, data.n_items + 1))]
    tags = [[], *(sorted(rng.choice(7, item % 4, replace=False) + 1) for item in range(1, data.n_items + 1))]
    return replace(
        data,
        item_features={
            "group": Features("group", Ragged.of(groups), tuple(f"g{n}" for n in range((data.n_items + 4) // 5))),
            "tags": Features("tags", Ragged.of(tags), tuple("abcdefg")),
        },
    )
