"""Protocol, ranking, metrics and significance."""
