"""Using a trained encoder: filling masks."""
