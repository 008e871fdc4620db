"""Training of the causal filter: batches, losses, checkpoints, the record of runs."""
