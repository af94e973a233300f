"""The `README.md` of an exported folder: what the model is, from which data, how good, how to use.

Its head is the metadata that the Hugging Face Hub reads.
"""

from pathlib import Path

from bert_jax.corpus.store import MANIFEST, read_manifest
from bert_jax.run import metrics
from bert_jax.run.console import describe
from bert_jax.run.workdir import Run, imported_from, load_config

# Kind of an export -> library and task, as the Hub calls them.
TASKS = {
    "pretraining": ("transformers", "fill-mask"),
    "encoder": ("transformers", "feature-extraction"),
    "sentence_transformers": ("sentence-transformers", "sentence-similarity"),
}
SHOWN = 20  # sources that the card names


def model_card(run: Run, name: str, code: str, *, kind: str, licence: str) -> str:
    """The text of the card.

    Args:
      run: that is exported.
      name: of the folder.
      code: lines of Python that load it.
      kind: of the export, a key of `TASKS`.
      licence: an identifier such as `apache-2.0`; "unknown" where none was given.
    """
    library, task = TASKS[kind]
    model = run.model
    lines = [
        "---",
        f"license: {licence}",
        f"library_name: {library}",
        f"pipeline_tag: {task}",
        "tags: [bert_jax]",
        "---",
        "",
        f"# {name}",
        "",
        f"An encoder of {model.num_hidden_layers} layers, {model.hidden_size} wide, for texts of "
        f"up to {model.max_position_embeddings} tokens; {model.vocab_size:,} tokens in its "
        f"vocabulary. Pretrained with bert_jax; this is its step {run.step}.",
        "",
        "## Use",
        "",
        "```python",
        code,
        "```",
        "",
        "## Data",
        "",
        *_data(run),
        "",
        "## Recipe",
        "",
        *_recipe(run),
        "",
        "## Held-out figures",
        "",
        *_figures(run),
    ]
    return "\n".join(lines) + "\n"


def _data(run: Run) -> list[str]:
    if source := imported_from(run.workdir):
        return [f"Imported from {Path(source).name}; what it was trained on is not known here."]
    directory = run.settings.store_directory(run.workdir)
    if not (directory / MANIFEST).is_file():
        return ["The token store is no longer there."]
    manifest = read_manifest(directory)
    names = [Path(source["name"]).name for source in manifest["sources"]]
    more = len(names) - SHOWN
    return [
        f"Fingerprint of the token store: `{manifest['fingerprint']}`. "
        f"{len(names)} files: {', '.join(names[:SHOWN])}" + (f", {more} more." if more > 0 else ".")
    ]


def _recipe(run: Run) -> list[str]:
    if imported_from(run.workdir):
        return ["That of the imported model."]
    config = load_config(run.workdir)
    fields = {
        "steps": config.total_steps,
        "batch size": config.global_batch_size,
        "learning rate": config.learning_rate,
        "optimizer": config.optimizer.name,
        "objective": config.stream.objective,
        "share of tokens masked": config.stream.mask_rate,
        "sequence length": run.settings.stream.phases[-1].sequence_length,
        "seed": config.seed,
    }
    if config.distillation.teacher:
        fields["teacher"] = Path(config.distillation.teacher).name
    return [f"- {name}: {value}" for name, value in fields.items()]


def _figures(run: Run) -> list[str]:
    records = [
        record
        for record in metrics.read(run.workdir)
        if record["split"] != "train" and record["step"] == run.step
    ]
    if not records:
        return [f"None at step {run.step}."]
    return [
        f"- {record['split']}: {describe(record)} at step {record['step']}" for record in records
    ]
