"""The training loop and its checkpoints. No Ray, no MLflow, no Optuna in here."""
