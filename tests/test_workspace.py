from __future__ import annotations

from pathlib import Path

import pytest

import benchbed
from benchbed.workspace import folders_of


def test_an_installed_package_takes_nothing_for_its_own_that_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchbed, "__file__", str(tmp_path / "site-packages" / "benchbed" / "__init__.py"))
    assert folders_of("datasets") == (Path("datasets"), tmp_path / "site-packages" / "datasets")  # a checkout
    wheel = tmp_path / "site-packages" / "benchbed" / "_shipped"
    wheel.mkdir(parents=True)
    assert folders_of("datasets") == (Path("datasets"), wheel / "datasets")
