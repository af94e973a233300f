"""Former names of config fields.

A config that uses one is refused with the new name; in the `config.json` of older runs they are
read as the new one.
"""

RENAMED = {
    "stream.mask_share": "stream.mask_replace_prob",
    "stream.random_share": "stream.random_replace_prob",
    "optimizer.final_learning_rate": "optimizer.final_lr_fraction",
}
# The same without the groups, as the dicts of phases and error messages have them.
RENAMED_FIELDS = {old.split(".")[-1]: new.split(".")[-1] for old, new in RENAMED.items()}
