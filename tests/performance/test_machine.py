import re

import numpy as np

from bert_jax.performance import machine


def test_versions_are_those_of_what_is_installed():
    found = machine.versions(["numpy", "no-such-package"])
    assert list(found) == ["python", "numpy"]
    assert found["numpy"] == np.__version__


def test_the_machine_is_told_by_its_processor_and_cores():
    assert re.fullmatch(r".*, [1-9]\d* cores", machine.machine())
    assert machine.load() >= 0
