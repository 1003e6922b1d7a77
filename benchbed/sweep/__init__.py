"""A benchmark file and its run: lookup, preflight, lease, stages, status."""
