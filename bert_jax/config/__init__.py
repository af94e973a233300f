"""The config of a run: `defaults` lists every field, `settings` parses them once.

Nothing below the parsers sees a ConfigDict.
"""

from bert_jax.config.defaults import default_config, load_config, modern
from bert_jax.config.settings import ProbeSettings, RunSettings, parse

__all__ = ["ProbeSettings", "RunSettings", "default_config", "load_config", "modern", "parse"]
