"""Reads minimal pairs: two sentences that differ in one respect, of which one is right.

The format is BLiMP's (Warstadt et al. 2020, https://arxiv.org/abs/1912.00582): JSON objects with
`sentence_good` and `sentence_bad`, one a line.
"""

import json
from pathlib import Path

from bert_jax.common.errors import UserError

FIELDS = ("sentence_good", "sentence_bad")


def read(path: Path) -> list[tuple[str, str]]:
    """The good and the bad sentence of each pair.

    Raises:
      UserError: there is no such file, it has no pairs, or a line is none; names the line.
    """
    if not path.is_file():
        raise UserError(f"--pairs={path} is missing: there is no such file")
    pairs = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            good, bad = (values[field] for field in FIELDS)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}, line {number}: it is no JSON object with {' and '.join(FIELDS)}"
            ) from error
        if not isinstance(good, str) or not isinstance(bad, str) or not good.strip() + bad.strip():
            raise UserError(f"{path}, line {number}: {' and '.join(FIELDS)} must be texts")
        pairs.append((good, bad))
    if not pairs:
        raise UserError(f"--pairs={path} holds no pairs")
    return pairs
