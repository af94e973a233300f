"""Scores of sentences: each token while it is masked, in three ways."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from bert_jax import evaluate
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.inference.pseudo_likelihood import MASKINGS, masked_with, pseudo_log_likelihoods
from bert_jax.inference.rows import pad_rows
from bert_jax.interop.hugging_face import export
from bert_jax.model import abstract
from tests import commands

SENTENCES = ["The exception is raised.", "", "unbelievable statements"]


@pytest.mark.parametrize("masking", MASKINGS)
def test_scores_are_the_sum_over_masked_copies(classic, redrawn, wordpiece_directory, masking):
    params, tokenizer = redrawn(classic), load_tokenizer(wordpiece_directory)
    known = tokenizer.vocabulary
    found = pseudo_log_likelihoods(params, classic, tokenizer, SENTENCES, masking)
    ids = tokenizer.encode(SENTENCES[2:])[0]
    whole = np.array([known.cls_id, *ids, known.sep_id], np.int32)
    copies = []
    for place in range(1, len(whole) - 1):
        copies.append(whole.copy())
        copies[-1][masked_with(whole, place, known, masking)] = known.mask_id
    batch = pad_rows(copies, known.pad_id, 32, len(copies))
    batch["masked_positions"] = np.arange(1, len(whole) - 1, dtype=np.int32)[:, None]
    forward = jax.jit(lambda params, batch: nnx.merge(abstract(classic)[0], params)(batch))
    logits = forward(params, batch).mlm_logits
    logs = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(ids)), 0, ids]
    assert found[2] == pytest.approx(logs.sum(), rel=1e-4)
    assert found[1] == 0


def test_what_is_masked_with_a_token(wordpiece_directory):
    known = load_tokenizer(wordpiece_directory).vocabulary
    start, other = np.flatnonzero(known.starts_word)[:2]
    rest = np.flatnonzero(~known.starts_word & ~known.is_special)[0]
    ids = np.array([known.cls_id, start, rest, rest, other, known.sep_id])
    masked = {
        masking: [list(range(6))[masked_with(ids, place, known, masking)] for place in (1, 2, 4)]
        for masking in MASKINGS
    }
    assert masked == {
        "token": [[1], [2], [4]],
        "word_l2r": [[1, 2, 3], [2, 3], [4]],
        "whole_word": [[1, 2, 3], [1, 2, 3], [4]],
    }
    ids = np.array([known.cls_id, rest, rest, start, known.sep_id])  # no space before the first
    masked = [list(range(5))[masked_with(ids, place, known, "whole_word")] for place in (1, 2, 3)]
    assert masked == [[1, 2], [1, 2], [3]]


def test_evaluate_counts_the_pairs_that_are_right(classic, redrawn, wordpiece_directory, tmp_path):
    export(redrawn(classic), classic, wordpiece_directory, tmp_path / "hf")
    pair = {"sentence_good": SENTENCES[0], "sentence_bad": SENTENCES[2]}
    swapped = {"sentence_good": SENTENCES[2], "sentence_bad": SENTENCES[0]}
    lines = [json.dumps(value) for value in (pair, swapped)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    flags = (f"--workdir={tmp_path / 'hf'}", f"--pairs={tmp_path / 'pairs.jsonl'}")
    done = commands.run(evaluate.define_flags, evaluate.main, *flags)
    assert "2 pairs, masking token" in done.out, done.err
    assert "accuracy         0.5000" in done.out
    (tmp_path / "pairs.jsonl").write_text(lines[0] + '\n{"sentence_good": "a"}\n')
    done = commands.run(evaluate.define_flags, evaluate.main, *flags)
    assert "pairs.jsonl, line 2: it is no JSON object with sentence_good" in done.error()
