"""Processing of documents before they are encoded: cleaning, duplicates, splits, sentences."""
