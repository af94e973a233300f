"""Array shapes and types in signatures are checked while the tests run."""

import os

# Eight virtual devices, so that every sharding runs in every test session; before JAX starts.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook

install_import_hook("bert_jax", "beartype.beartype")
