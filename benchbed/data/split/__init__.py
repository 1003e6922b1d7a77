"""Splits: one file per kind. What they have in common is in ``base.py``, the files are written by ``make.py``."""
