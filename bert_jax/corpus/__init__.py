"""Corpus preparation: any text in, a token store out."""
