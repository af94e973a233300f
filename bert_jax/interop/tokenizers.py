"""The tokenizer of a run as the `tokenizer.json` that `AutoTokenizer` loads."""

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import processors

from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.corpus.tokenizers.sentencepiece import MODEL
from bert_jax.interop import sentencepiece_twin
from bert_jax.interop.export_folder import write_json
from bert_jax.interop.tokenizer_check import check

TOKENIZER, CONFIG, SPECIALS = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"


def export(
    tokenizer_directory: Path,
    out: Path,
    *,
    max_length: int,
    token_types: bool,
    lines: Iterable[str] = (),
) -> tokenizers.Tokenizer:
    """Writes the tokenizer's files into the folder `out`, after `check` has compared its ids.

    Args:
      tokenizer_directory: a tokenizer that `bert_jax.corpus` saved.
      out: an existing folder.
      max_length: tokens that the model takes at most.
      token_types: whether the model tells segments apart, and so takes `token_type_ids`.
      lines: real text to compare ids on, besides the samples of `tokenizer_check`.

    Raises:
      UserError: the `tokenizers` library cannot do what the tokenizer does.
    """
    trained = load_tokenizer(tokenizer_directory)
    if isinstance(trained, HuggingFaceTokenizer):
        exported = trained.reading_specials()
    else:
        serialized = (tokenizer_directory / MODEL).read_bytes()
        exported = sentencepiece_twin.convert(
            serialized, trained.vocabulary, str(tokenizer_directory)
        )
    _frame(exported, trained)
    check(exported, trained, lines)
    exported.save(str(out / TOKENIZER))
    specials = special_tokens(trained)
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    if not token_types:
        inputs.remove("token_type_ids")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": inputs,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        **_space_before_text(exported),
        **specials,
    }
    write_json(out / CONFIG, config)
    write_json(out / SPECIALS, specials)
    return exported


def special_tokens(trained: Tokenizer) -> dict[str, str]:
    """The special tokens under the names that `transformers` has for their roles."""
    return {
        f"{role}_token": trained.piece(getattr(trained.vocabulary, f"{role}_id"))
        for role in ("pad", "unk", "cls", "sep", "mask")
    }


def _frame(exported: tokenizers.Tokenizer, trained: Tokenizer) -> None:
    """Puts [CLS] and [SEP] around texts and pairs of texts; the second is segment 1."""
    cls_id, sep_id = trained.vocabulary.cls_id, trained.vocabulary.sep_id
    cls, sep = trained.piece(cls_id), trained.piece(sep_id)
    exported.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, cls_id), (sep, sep_id)],
    )


def _space_before_text(exported: tokenizers.Tokenizer) -> dict[str, bool]:
    """Whether byte-level models put a space before a text; `transformers` 4 reads it from here."""
    pre_tokenizer = json.loads(exported.to_str())["pre_tokenizer"] or {}
    name = "add_prefix_space"
    return {name: pre_tokenizer[name]} if name in pre_tokenizer else {}
