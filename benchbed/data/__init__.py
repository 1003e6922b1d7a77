"""Raw logs to Parquet to arrays: cards, readers, cleaning, splits, the vault, audits."""
