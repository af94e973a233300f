"""Configs: `defaults` lists every field of a run and `settings` parses them once.

`finetuning` has and parses the fields of a fine-tuning; `files` loads configs by path or name.

Nothing below the parsers sees a ConfigDict.
"""

from bert_jax.config.defaults import default_config, modern
from bert_jax.config.files import changed, load_config, named
from bert_jax.config.settings import ProbeSettings, RunSettings, parse

__all__ = [
    "ProbeSettings",
    "RunSettings",
    "changed",
    "default_config",
    "load_config",
    "modern",
    "named",
    "parse",
]
