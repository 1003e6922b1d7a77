"""YAML files with positions: every mistake at once, each with file, line, dotted key and nearest valid name."""

from benchbed.config.document import Document, dotted, read_document
from benchbed.config.mistakes import Mistake, judged, mistake, shown, unknown_choice
from benchbed.config.schema import Names, Schema, canonical, check, fingerprint, load, problem_at

__all__ = [
    "Document",
    "Mistake",
    "Names",
    "Schema",
    "canonical",
    "check",
    "dotted",
    "fingerprint",
    "judged",
    "load",
    "mistake",
    "problem_at",
    "read_document",
    "shown",
    "unknown_choice",
]
