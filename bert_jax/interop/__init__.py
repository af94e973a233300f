"""Export to folders that `transformers` loads, import from them, and checks of the export."""
