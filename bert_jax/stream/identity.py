"""Which stream a checkpoint was trained on, so that a run cannot continue with another one."""

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import TokenStore
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.rows import digest


def identity(store: TokenStore, batches: TrainBatches, step: int) -> dict[str, str]:
    """The token store's fingerprint and a hash of the last batch before `step`, of all its rows.

    Every process makes the whole batch, so that the hash does not depend on their number.
    """
    batch = batches.batch(max(step - 1, 0))
    return {"corpus": store.fingerprint, "last_batch": digest(batch)}


def expect_same(saved: dict[str, str], now: dict[str, str], store: TokenStore, step: int) -> None:
    """Check that the run continues with the stream that it was trained on.

    Raises:
      UserError: the corpus changed, or the code that makes batches of it.
    """
    if saved["corpus"] != now["corpus"]:
        raise UserError(
            f"the token store {store.directory} is not the one that this run was trained on up to "
            f"step {step} (fingerprint {saved['corpus']}, now {now['corpus']}): bring that one "
            "back, or begin another run with another --workdir"
        )
    if saved.get("last_batch") != now["last_batch"]:
        raise UserError(
            f"step {step - 1} of this run would have another batch now (hash "
            f"{saved.get('last_batch')}, now {now['last_batch']}), though its corpus and config "
            "are the same: go on with the version of bert_jax that it began with, or begin another "
            "run with another --workdir"
        )
