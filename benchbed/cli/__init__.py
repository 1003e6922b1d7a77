"""The command line: one file a verb, no logic. Heavy libraries are imported by the verbs that need them."""

from benchbed.cli.app import main

__all__ = ["main"]
