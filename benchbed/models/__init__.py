"""One file a model, with its Config; the contract is in ``base.py``, the names are in ``registry.py``."""
