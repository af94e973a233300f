"""The masked-language head that trains against a sample of the vocabulary."""

from bert_jax.common.errors import UserError
from bert_jax.model.config import ModelConfig
from bert_jax.model.heads.base import BlockedHead
from bert_jax.model.sampled_softmax import sampled_cross_entropy


class SampledHead(BlockedHead):
    """Trains against a sample of the vocabulary; evaluation and parameters as in the full head."""

    uses_frequency = True

    @staticmethod
    def check(config: ModelConfig) -> None:
        """`sampled_negatives` must be smaller than the vocabulary."""
        if not 1 <= config.sampled_negatives < config.vocab_size:
            raise UserError(
                f"config.model.sampled_negatives is {config.sampled_negatives}: choose between 1 "
                f"and the vocabulary's {config.vocab_size} tokens"
            )

    @staticmethod
    def products(config: ModelConfig) -> int:
        """Those of the sample and of the label."""
        return config.sampled_negatives + 1

    def totals(self, hidden, table, labels, weights, key):
        """With a key, loss and correct predictions are estimated from the sample."""
        if key is None:
            return super().totals(hidden, table, labels, weights, key)
        number, order = self.config.sampled_negatives, self.config.token_order
        x, bias = self.features(hidden), self.bias[...]
        return sampled_cross_entropy(x, table, bias, labels, weights, number, key, order)
