"""Search spaces, samplers, pruners, and the ledger that decides who gets the next trial and what is best. Optuna only."""
