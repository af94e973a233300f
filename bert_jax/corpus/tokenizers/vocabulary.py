"""What the stream needs of a tokenizer: its size, special ids, and where words begin."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from bert_jax.common.errors import UserError

FILE_NAME = "vocabulary.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """The ids of a tokenizer, without its text: needs no tokenizer library to load.

    Attributes:
      size: number of ids, the special ones included; V below.
      pad_id: fills rows up to their length.
      unk_id: replaces text that no token covers.
      cls_id: begins a document in the token store.
      sep_id: ends a document in the token store.
      mask_id: replaces a token that is to be predicted.
      is_special: [V], true for ids that are never text: not masked, not drawn at random.
      starts_word: [V], true for tokens that begin a word; a word is such a token and all tokens
        after it up to the next one.
    """

    size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    is_special: Bool[np.ndarray, "V"]
    starts_word: Bool[np.ndarray, "V"]

    @property
    def token_dtype(self) -> np.dtype:
        """The smallest unsigned type of the token store that holds every id."""
        return np.dtype(np.uint16 if self.size <= 1 << 16 else np.uint32)

    def save(self, directory: Path) -> None:
        """Writes `vocabulary.json` into `directory`; the two masks as lists of ids."""
        values = {
            "size": self.size,
            "pad_id": self.pad_id,
            "unk_id": self.unk_id,
            "cls_id": self.cls_id,
            "sep_id": self.sep_id,
            "mask_id": self.mask_id,
            "special": np.flatnonzero(self.is_special).tolist(),
            "starts_word": np.flatnonzero(self.starts_word).tolist(),
        }
        (Path(directory) / FILE_NAME).write_text(json.dumps(values) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
          UserError: there is no vocabulary in `directory`, or a damaged one.
        """
        path = Path(directory) / FILE_NAME
        if not path.is_file():
            raise UserError(f"{path} is missing: {directory} holds no tokenizer of bert_jax")
        try:
            values = json.loads(path.read_text())
            is_special = _mask(values.pop("special"), values["size"])
            starts_word = _mask(values.pop("starts_word"), values["size"])
            return cls(is_special=is_special, starts_word=starts_word, **values)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}); prepare the corpus again") from error


def _mask(ids: list[int], size: int) -> Bool[np.ndarray, "V"]:
    mask = np.zeros(size, bool)
    mask[ids] = True
    return mask
