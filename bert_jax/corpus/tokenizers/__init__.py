"""Tokenizers: trained on a sample of the corpus, or existing ones; text to ids and back."""
