"""The tokenizer of a run as the `tokenizer.json` that `AutoTokenizer` loads."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import processors

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.corpus.tokenizers.sentencepiece import MODEL
from bert_jax.interop import sentencepiece_twin

TOKENIZER, CONFIG, SPECIALS = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"

# What `check` compares: scripts, composed and decomposed accents, compatibility forms, spaces of
# all kinds, symbols that few vocabularies have, nothing, and a lot.
# ruff: noqa: RUF001
SAMPLES = (
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "PyTorch 2.13 loads model.safetensors; see https://example.org/a_b?c=d&e=f#g (3.5 GB).",
    "维基百科是一个自由内容、公开编辑且多语言的网络百科全书协作计划。臺灣與香港的繁體字。",
    "日本語のﾃｷｽﾄ、全角ＡＢＣ１２３～ と が。 한국어 문장, 대한민국의 수도는 서울이다.",
    "Ångström, naïve café, Straße, İstanbul, ĳ, ﬁne, Ὀδυσσεύς; e\u0301te\u0301, a\u0323\u0302.",
    "हिन्दी में लिखा हुआ, ภาษาไทย, שָׁלוֹם עֲלֵיכֶם, السلام عليكم, Ю\u0301щенко.",
    "Emoji: 😀 👨‍👩‍👧 👍🏽 ❤️ 1️⃣ 🇩🇪, and ½ ² ℃ … ™ №.",
    "  runs   of    spaces,\ttabs\u00a0and\u3000wide ones \u200b\n new lines  \r\n ",
    "unknown: \u16a0\u16a2\u16a6 \U00012000\U00012001 \u1f02a, \u2603\u2603\u2603 x\u2603",
    "",
    " ",
    "a",
    "word " * 3000,
    "unbroken" * 500,
    "没有空格" * 500,
)
MASKED_SAMPLES = (
    "The capital of {} is {}.",
    "{} begins, un{}able goes on,  {}{} and it ends with {}",
    "{}",
)


def export(
    tokenizer_directory: Path, out: Path, *, max_length: int, token_types: bool
) -> tokenizers.Tokenizer:
    """Writes the tokenizer's files into the folder `out` and checks them with `check`.

    Args:
      tokenizer_directory: a tokenizer that `bert_jax.corpus` saved.
      out: an existing folder.
      max_length: tokens that the model takes at most.
      token_types: whether the model has segments, and so takes `token_type_ids`.

    Raises:
      UserError: the tokenizer has no twin in the `tokenizers` library.
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
    check(exported, trained)
    exported.save(str(out / TOKENIZER))
    specials = special_pieces(trained)
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
    _write_json(out / CONFIG, config)
    _write_json(out / SPECIALS, specials)
    return exported


def check(exported: tokenizers.Tokenizer, trained: Tokenizer) -> None:
    """Compares the ids that both give for `SAMPLES`, and for text with [MASK] in it.

    Where two ways to cut a text are equally likely, either is right.

    Raises:
      UserError: they differ; the message shows the text.
    """
    mask = trained.piece(trained.vocabulary.mask_id)
    masked = [sample.replace("{}", mask) for sample in MASKED_SAMPLES]
    ids = trained.encode(list(SAMPLES)) + [trained.encode_with_specials(text) for text in masked]
    found = exported.encode_batch([*SAMPLES, *masked], add_special_tokens=False)
    for text, expected, encoding in zip([*SAMPLES, *masked], ids, found, strict=True):
        wanted = expected.tolist()
        if encoding.ids != wanted and not sentencepiece_twin.equally_likely(
            exported, encoding.ids, wanted
        ):
            raise UserError(
                f"the exported tokenizer reads {text[:200]!r} in another way than the training "
                f"tokenizer: {encoding.ids[:20]}..., not {wanted[:20]}...; "
                "its normalization rules have no twin in the tokenizers library"
            )


def special_pieces(trained: Tokenizer) -> dict[str, str]:
    """The special pieces under the names that `transformers` has for their roles."""
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
    """What byte-level models put before a text; `transformers` 4 takes it from its config alone."""
    pre_tokenizer = json.loads(exported.to_str())["pre_tokenizer"] or {}
    name = "add_prefix_space"
    return {name: pre_tokenizer[name]} if name in pre_tokenizer else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
