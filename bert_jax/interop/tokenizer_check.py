"""Whether an exported tokenizer gives the ids of the training tokenizer."""

import json
from collections.abc import Iterable, Iterator

import tokenizers

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.interop import sentencepiece_twin

# Scripts, composed and decomposed accents, compatibility forms, spaces of all kinds, joiners,
# emoji sequences, control characters, symbols that few vocabularies have, nothing, and a lot.
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
    "joiners: می\u200cروم, क्\u200dष, a\u200c b \u200cc, ½\u200c, \u00a0\u200d, x\u200c\u200dy.",
    "control: a\x01b\x0bc\x1fd\x7fe, \ufeffmark\ufeff, soft\u00adhyphen",
    "nearly special: [mask] [ MASK ] [MASK [CLS ##ing # # < s > </ s>.",
    "stacked: a\u0323\u0301\u0302\u0308 Z\u0351\u036b\u0343\u036a e\u20dd \u0e01\u0e33\u0e48.",
    "joined: \U0001f3f3\ufe0f\u200d\U0001f308 #\ufe0f\u20e3 \U0001f9d1\U0001f3ff\u200d\U0001f680.",
    "a flag of tags: \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f!",
    "more control: \ufffd \u2028x\u2029y \u200eleft\u200f \U000e0041.",
    "",
    " ",
    "   ",
    "a",
    " a",
    "word " * 3000,
    "unbroken" * 500,
    "acgt" * 2000,
    "没有空格" * 500,
)
MASKED_SAMPLES = (
    "The capital of {} is {}.",
    "{} begins, un{}able goes on,  {}{} and it ends with {}",
    "{}",
)


LINES = 500  # of a corpus, spread over a split


def lines_of(split: Split, tokenizer: Tokenizer) -> list[str]:
    """Sentences of a split as text, at most `LINES` for a shard."""
    lines = []
    for shard in split.shards:
        offsets = shard.sentence_offsets
        step = max(1, (len(offsets) - 1) // LINES)
        for index in range(0, len(offsets) - 1, step)[:LINES]:
            sentence = shard.tokens[offsets[index] : offsets[index + 1]]
            lines.append(tokenizer.decode(sentence.tolist()))
    return lines


def check(exported: tokenizers.Tokenizer, trained: Tokenizer, lines: Iterable[str] = ()) -> None:
    """Compares the ids that both give for samples, text with special tokens in it, and `lines`.

    Where two segmentations of a text are equally likely, both are accepted.

    Raises:
      UserError: they differ; the message shows the text.
    """
    texts = [*SAMPLES, *_samples_of_tokens(exported, trained), *lines]
    special = [trained.piece(int(id)) for id in trained.vocabulary.is_special.nonzero()[0]]
    encodings = exported.encode_batch(texts, add_special_tokens=False)
    for text, encoding in zip(texts, encodings, strict=True):
        if any(piece and piece in text for piece in special):
            expected = trained.encode_with_specials(text).tolist()
        else:
            expected = trained.encode([text])[0].tolist()
        if encoding.ids != expected and not sentencepiece_twin.equally_likely(
            exported, encoding.ids, expected
        ):
            pairs = enumerate(zip(encoding.ids, expected, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(encoding.ids), len(expected)))
            raise UserError(
                f"the exported tokenizer reads {text[:200]!r} in another way than the training "
                f"tokenizer: from token {at} on {encoding.ids[at : at + 10]}, not "
                f"{expected[at : at + 10]}; its rules cannot be written as a tokenizer.json"
            )


def _samples_of_tokens(exported: tokenizers.Tokenizer, trained: Tokenizer) -> Iterator[str]:
    """Texts with the special tokens, and with each symbol that users defined."""
    known = trained.vocabulary
    roles = (known.mask_id, known.cls_id, known.sep_id, known.pad_id)
    for id in roles:
        yield from (sample.replace("{}", trained.piece(id)) for sample in MASKED_SAMPLES)
    for symbol in _user_symbols(exported, trained):
        yield from (symbol, f"a {symbol} b", f"x{symbol}y", f"{symbol}{symbol}, {symbol}.")


def _user_symbols(exported: tokenizers.Tokenizer, trained: Tokenizer) -> list[str]:
    symbols = [trained.piece(id) for id in trained.user_symbols()]
    added = json.loads(exported.to_str())["added_tokens"]
    return symbols + [token["content"] for token in added if not token["special"]]
