"""A sentencepiece tokenizer as the `tokenizer.json` that `AutoTokenizer` loads."""

import json
import math
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from bert_jax.corpus.sentencepiece_tokenizer import MODEL, SPACE
from bert_jax.corpus.tokenizer import Tokenizer
from bert_jax.corpus.vocabulary import Vocabulary
from bert_jax.errors import UserError

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
    trained = Tokenizer.load(tokenizer_directory)
    exported = convert(
        (tokenizer_directory / MODEL).read_bytes(), trained.vocabulary, str(tokenizer_directory)
    )
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
        **specials,
    }
    _write_json(out / CONFIG, config)
    _write_json(out / SPECIALS, specials)
    return exported


def convert(serialized: bytes, vocabulary: Vocabulary, name: str) -> tokenizers.Tokenizer:
    """The same tokenizer in the `tokenizers` library.

    Pieces and scores are taken over. Special pieces typed in text stand for themselves and take
    the space before them, as `Tokenizer.encode_with_specials` has it.

    Args:
      serialized: a sentencepiece model.
      vocabulary: its special ids.
      name: what messages call the model.

    Raises:
      UserError: it is neither a unigram nor a BPE model, or marks spaces in another way than
        sentencepiece does unless told so.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(serialized)  # type: ignore[attr-defined]
    trainer, spec = proto.trainer_spec, proto.normalizer_spec
    if trainer.treat_whitespace_as_suffix or not spec.escape_whitespaces:
        raise UserError(
            f"the tokenizer {name} was trained with treat_whitespace_as_suffix or without "
            "escape_whitespaces: it cannot be exported"
        )
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    model: models.Model
    if trainer.model_type == trainer.UNIGRAM:
        model = models.Unigram(pieces, vocabulary.unk_id, trainer.byte_fallback)
    elif trainer.model_type == trainer.BPE:
        model = _bpe(pieces, vocabulary.unk_id, trainer.byte_fallback)
    else:
        raise UserError(
            f"the tokenizer {name} is neither a unigram nor a BPE model of sentencepiece: only "
            "those can be exported"
        )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = _normalizer(proto)
    scheme = "first" if spec.add_dummy_prefix else "never"
    split = trainer.split_by_whitespace  # else there are pieces of several words
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(SPACE, scheme, split)]
    )
    specials = [pieces[id][0] for id in vocabulary.is_special.nonzero()[0]]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in specials])
    cls, sep = pieces[vocabulary.cls_id][0], pieces[vocabulary.sep_id][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocabulary.cls_id), (sep, vocabulary.sep_id)],
    )
    return tokenizer


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
        if encoding.ids != wanted and not equally_likely(exported, encoding.ids, wanted):
            raise UserError(
                f"the exported tokenizer reads {text[:200]!r} in another way than the training "
                f"tokenizer: {encoding.ids[:20]}..., not {wanted[:20]}...; "
                "its normalization rules have no twin in the tokenizers library"
            )


def equally_likely(exported: tokenizers.Tokenizer, first: list[int], second: list[int]) -> bool:
    """Whether two ways to cut one text have the same probability under a unigram model.

    "777" is as likely as "7" + "77" as it is the other way round. Sentencepiece adds up the scores
    in single precision and the `tokenizers` library in double; rounding decides.
    """
    model = json.loads(exported.to_str())["model"]
    if model["type"] != "Unigram":
        return False
    texts = ["".join(model["vocab"][id][0] for id in ids) for ids in (first, second)]
    scores = [sum(model["vocab"][id][1] for id in ids) for ids in (first, second)]
    return texts[0] == texts[1] and math.isclose(*scores, rel_tol=1e-5)


def special_pieces(trained: Tokenizer) -> dict[str, str]:
    """The special pieces under the names that `transformers` has for their roles."""
    return {
        f"{role}_token": trained.piece(getattr(trained.vocabulary, f"{role}_id"))
        for role in ("pad", "unk", "cls", "sep", "mask")
    }


def _bpe(pieces: list[tuple[str, float]], unk_id: int, byte_fallback: bool) -> models.BPE:
    """Byte-pair encoding with the merges that make the pieces, those of higher scores first."""
    ids = {piece: id for id, (piece, _) in enumerate(pieces)}
    merges = sorted(
        (-score, ids[left], ids[right], left, right)
        for piece, score in pieces
        for left, right in ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        if left in ids and right in ids
    )
    return models.BPE(
        ids,
        [(left, right) for *_, left, right in merges],
        unk_token=pieces[unk_id][0],
        fuse_unk=True,
        byte_fallback=byte_fallback,
    )


def _normalizer(proto: Any) -> normalizers.Normalizer:
    """Sentencepiece's character map and handling of spaces.

    `Precompiled` applies the map to graphemes shorter than six bytes by their first match, and to
    characters elsewhere; sentencepiece applies it to the longest match. Composing before and after
    makes up for it, and so does folding case before where the map folds case. What is left are
    compatibility forms followed by a combining mark of their own.
    """
    spec = proto.normalizer_spec
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        normalize = sentencepiece.SentencePieceProcessor(
            model_proto=proto.SerializeToString()
        ).normalize
        composes = normalize("e\u0301").endswith("\u00e9")
        folds = normalize("A").endswith("a")
        composing = [normalizers.NFC()] if composes else []
        steps += composing
        if folds:
            # Sentencepiece keeps the dotted capital I, which `Lowercase` takes apart.
            steps += [normalizers.Lowercase(), normalizers.Replace("i\u0307", "\u0130")]
        steps += [normalizers.Precompiled(spec.precompiled_charsmap), *composing]
    if spec.remove_extra_whitespaces:
        # The space in front of the text is the one that Metaspace would put there.
        steps += [
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex(r" +\z"), ""),
        ]
    return normalizers.Sequence(steps)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
