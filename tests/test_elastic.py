"""A run goes on with other devices and another mesh: same batches, same dropout, same losses.

The bound of the losses: layouts compute the same sums in another order, in float32, whose
rounding is u = 2^-24 = 6e-8. The longest sums have about 500 terms (300 tokens of the vocabulary,
8 rows of some 10 predictions, 64 features), and a sum of n terms in any order is within n u of
the exact one: 500 u = 3e-5. The first step after a change has the parameters of the checkpoint
bit by bit, so that is all. After it the parameters differ too, by what AdamW makes of the
roundings; at a learning rate of 1e-4 that stays below the bound for the steps here.
"""

import shutil

import jax
import numpy as np
import pytest

from bert_jax.config import parse
from bert_jax.corpus.store import TokenStore
from bert_jax.model.dropout import random_bits
from bert_jax.run import rollback
from bert_jax.run.progress import Reporter
from bert_jax.run.workdir import CHECKPOINTS, FINISHED
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.rows import digest
from bert_jax.training import sharding
from bert_jax.training.preemption import StopRequests
from bert_jax.training.settings import MeshSettings
from tests.runs import launched, records, tiny, train

BOUND = 3e-5  # relative
LAYOUTS = {  # of 8, 4 and 1 devices
    "fsdp and tensor": (8, {"fsdp": 4, "tensor": 2}),
    "half the devices": (4, {"fsdp": 2}),
    "one device": (1, {}),
    "tensor": (2, {"tensor": 2}),
}


def make_mesh(devices, **sizes):
    return sharding.make_mesh(MeshSettings(**sizes), jax.devices()[:devices])


def go_on(config, workdir, monkeypatch, devices, stop):
    """Continue on so many devices until step `stop`; the digests of the batches, by step."""
    taken = []
    with monkeypatch.context() as patch:
        make = sharding.make_mesh
        patch.setattr(
            sharding, "make_mesh", lambda settings: make(settings, jax.devices()[:devices])
        )
        patch.setattr(StopRequests, "is_stop", lambda self, step: step == stop)
        takes = Reporter.takes
        patch.setattr(
            Reporter, "takes", lambda self, batch: taken.append(digest(batch)) or takes(self, batch)
        )
        with pytest.raises(SystemExit):
            train(config, workdir)
    return dict(zip(range(stop - len(taken), stop), taken, strict=True))


@pytest.mark.slow
def test_a_run_saved_on_eight_devices_goes_on_with_four_with_one_and_other_meshes(
    corpus, finished, tmp_path, monkeypatch
):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    for step in ("15", "20"):
        shutil.rmtree(workdir / CHECKPOINTS / step)
    (workdir / FINISHED).unlink()
    stops = dict(zip(LAYOUTS, (12, 14, 16, 18), strict=True))
    taken = {}
    for name, (devices, sizes) in LAYOUTS.items():
        fields = {f"mesh.{axis}": size for axis, size in sizes.items()}
        taken |= go_on(tiny(corpus, **fields), workdir, monkeypatch, devices, stops[name])

    stream = TrainBatches(TokenStore.open(workdir / "corpus"), parse(tiny(corpus)).stream)
    assert taken == {step: digest(stream.batch(step)) for step in range(10, 18)}

    found = records(workdir)
    expected = [record for record in records(finished.workdir) if record["step"] <= 18]
    assert [(r["step"], r["split"]) for r in found] == [(r["step"], r["split"]) for r in expected]
    differences = {
        (a["step"], a["split"]): abs(a["loss"] / b["loss"] - 1)
        for a, b in zip(found, expected, strict=True)
    }
    assert max(differences.values()) <= BOUND, differences


def test_a_dropout_mask_is_the_same_on_every_mesh():
    key, shape = jax.random.key(3), (8, 4, 16)
    axes = (("data", "fsdp"), None, "tensor")
    alone = random_bits(key, shape)
    for devices, sizes in [*LAYOUTS.values(), (8, {})]:
        spread = jax.NamedSharding(make_mesh(devices, **sizes), sharding.P(*axes))
        bits = jax.jit(lambda key: random_bits(key, shape), out_shardings=spread)(key)
        assert len(bits.sharding.device_set) == devices
        np.testing.assert_array_equal(bits, alone)


@pytest.mark.slow
def test_one_then_two_then_four_processes_train_as_one(corpus, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    expected = [record for record in records(finished.workdir) if record["split"] == "train"]
    for processes, first in ((2, 10), (4, 15)):  # the second start reads what two processes saved
        for step in (15, 20):
            if step > first:
                shutil.rmtree(workdir / CHECKPOINTS / str(step))
        (workdir / FINISHED).unlink()
        said = launched(corpus, f"--workdir={workdir}", processes=processes)
        assert f"Continuing at step {first} of 20" in said
        found = [record for record in records(workdir) if record["split"] == "train"]
        assert [r["input"] for r in found] == [r["input"] for r in expected]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a["loss"], b["loss"], rtol=BOUND)


@pytest.mark.slow
def test_two_processes_leave_out_the_same_batches_after_a_spike_as_one(corpus, tmp_path):
    fields = {
        "spikes.window": 4,
        "spikes.left_out": 1,
        "spikes.threshold": 3.0,  # that the noise of the batches reaches
        "learning_rate": 1e-2,
        "spikes.rollbacks": 20,
        "checkpoint_every": 4,
    }
    one, two = tmp_path / "one", tmp_path / "two"
    assert "Going back to before step" in train(tiny(corpus, **fields), one).said
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    launched(corpus, f"--workdir={two}", *flags, processes=2)
    assert rollback.batches(rollback.read(two)) == rollback.batches(rollback.read(one))
    for a, b in zip(records(two), records(one), strict=True):
        assert (a["step"], a["split"], a.get("input")) == (b["step"], b["split"], b.get("input"))
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=BOUND)
