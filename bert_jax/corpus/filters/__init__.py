"""What is done to documents before they are encoded: cleaning, deduplication, sentences, splits."""
