"""The way to files that `transformers` loads as they are, and back."""
