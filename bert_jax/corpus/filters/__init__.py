"""What is done with documents before they are encoded: cleaning, deduplication, splits, sentences."""
