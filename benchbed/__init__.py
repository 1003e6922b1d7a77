"""benchbed: honest hyper-parameter benchmarking of recommender systems on Ray."""

__version__ = "0.1.0"
