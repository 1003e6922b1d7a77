"""Ray only: connecting, resources, and the trial processes. What is run is the ledger's decision."""
