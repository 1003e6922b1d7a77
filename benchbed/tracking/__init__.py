"""Recording sweeps: an outbox on disk, MLflow behind it. The only place that imports mlflow."""
