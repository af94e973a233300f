"""Text sources: each reader lists the parts of a source, each part yields its documents.

`READERS` has all kinds of sources by the name before the colon. To add one, write a
file like `jsonl.py` and register it here.
"""

from bert_jax.corpus.readers import delimited, docstrings, jsonl, parquet, text, tfds
from bert_jax.corpus.readers.base import Reader

READERS: dict[str, Reader] = {
    "text": Reader("text:GLOB", text.list_parts),
    "jsonl": Reader("jsonl:GLOB", jsonl.list_parts),
    "parquet": Reader("parquet:GLOB", parquet.list_parts),
    "csv": Reader("csv:GLOB", delimited.list_csv_parts),
    "tsv": Reader("tsv:GLOB", delimited.list_tsv_parts),
    "tfds": Reader("tfds:NAME[/CONFIG][:VERSION][:SPLIT]", tfds.list_parts, reads_files=False),
    "docs": Reader(
        "docs: (documentation of the installed packages)",
        docstrings.list_parts,
        reads_files=False,
    ),
}
