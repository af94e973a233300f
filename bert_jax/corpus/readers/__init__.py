"""Text sources: each reader lists the pieces of a source and yields the documents of one piece."""
