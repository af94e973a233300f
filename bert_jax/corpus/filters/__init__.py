"""What is done with documents before they are encoded: cleaning, duplicates, splits, sentences."""
