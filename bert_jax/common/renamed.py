"""Former names of config fields.

They are rejected with the new name, and read under it from the `config.json` of older runs.
"""

RENAMED = {
    "stream.mask_share": "stream.mask_replace_prob",
    "stream.random_share": "stream.random_replace_prob",
    "optimizer.final_learning_rate": "optimizer.final_lr_fraction",
}
# The same without the groups, as the dicts of phases and error messages have them.
RENAMED_FIELDS = {old.split(".")[-1]: new.split(".")[-1] for old, new in RENAMED.items()}
