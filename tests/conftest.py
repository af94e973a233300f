"""Array shapes and types in signatures are checked while the tests run."""

import os
import sys
from importlib import metadata

# Before JAX starts: eight virtual devices, so that every sharding runs in every test session, and
# quick compilation, which is most of the tests' time: no optimization, and, where XLA still can,
# kernels written without MLIR, which halves it again. On a busy machine the eight wait for one
# another for longer than the 40 seconds after which XLA would end the process.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
if metadata.version("jaxlib").startswith("0.10."):  # later ones may not know the flags
    os.environ["XLA_FLAGS"] += (
        " --xla_cpu_use_fusion_emitters=false"
        " --xla_cpu_collective_call_terminate_timeout_seconds=600"
    )
os.environ["JAX_PLATFORMS"] = os.environ.get("BERT_JAX_TEST_PLATFORM", "cpu")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["SOMEBODYS_API_KEY"] = "a key that no run may write down"

import pytest

from tests import type_checks

# What is imported while the checks are on has compiled files of its own. Where none are written,
# each process compiles TensorFlow and all else from source.
sys.dont_write_bytecode = False
type_checks.install()


def pytest_collection_modifyitems(items):
    """Files that train whole runs first, so that no process is left alone with one at the end."""
    places = ("tests/test_", "tests/training/", "tests/run/", "tests/model/")

    def place(item):
        return next((i for i, start in enumerate(places) if item.nodeid.startswith(start)), 4)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory):
    """Commands that the tests start share their compiled programs.

    This process has read JAX's settings before, and keeps none.
    """
    import jax

    assert jax.config.jax_compilation_cache_dir is None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path_factory.mktemp("compiled"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Some pages of real English, as the source of a run's corpus."""
    from tests.runs import pages

    path = tmp_path_factory.mktemp("corpus") / "pages.txt"
    path.write_text(pages())
    return f"text:{path}"


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    """A finished run of 20 steps in two phases; to be read, or copied, not changed."""
    from tests.runs import tiny, train

    return train(tiny(corpus), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def chromium():
    """A browser for the pages of one test file; an event loop of Playwright runs meanwhile."""
    from tests import browser

    with browser.started() as started:
        yield started
