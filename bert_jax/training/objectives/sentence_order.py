"""`sop`: masked tokens and sentence order, as ALBERT (https://arxiv.org/abs/1909.11942, 3.1)."""

from bert_jax.corpus.settings import Needs
from bert_jax.training.objectives.sentence_pairs import SentencePairs


class SentenceOrder(SentencePairs):
    """Half of the pairs are swapped."""

    name = "sop"
    needs = Needs("sop", documents=1, sentences=2)
    label_texts = ("A and B in order", "A and B swapped")
