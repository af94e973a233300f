"""`nsp`: masked tokens and next sentences, as BERT (https://arxiv.org/abs/1810.04805, 3.1)."""

from bert_jax.corpus.settings import Needs
from bert_jax.training.objectives.sentence_pairs import SentencePairs


class NextSentence(SentencePairs):
    """Half of the pairs have a second part from another document."""

    name = "nsp"
    needs = Needs("nsp", documents=2, sentences=2)
    label_texts = ("B follows A", "B is from another document")
