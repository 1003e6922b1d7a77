"""Whether anything of a sweep is left to do, read from its storage without writing to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchbed.search.counts import is_spent
from benchbed.search.plans import SearchPlan
from benchbed.search.storage import read_storage
from benchbed.search.studies import SearchStudy
from benchbed.sweep.planning import Material, final_plan


def is_done(material: Material, folder: Path, plans: Sequence[SearchPlan]) -> bool:
    """Whether the searches of some plans, and the final runs of what they found, are over."""
    storage = read_storage(folder)
    if storage is None or not all(is_spent(plan, storage) for plan in plans):
        return False
    found = [(plan, SearchStudy(plan, storage).best()) for plan in plans]
    return all(is_spent(final_plan(material, plan, best), storage) for plan, best in found if best is not None)
