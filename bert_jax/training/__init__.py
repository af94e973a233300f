"""The compiled train step and what it needs: optimizer, sharding, checkpoints, preflight checks."""
