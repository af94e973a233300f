"""A run's directory: workdir, metrics, progress, the export at the end, the report."""
