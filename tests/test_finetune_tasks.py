"""Every task from its data to its Hugging Face folder, and predictions for new data."""

import json

import pytest

from bert_jax import predict
from tests.finetunings import finetune, tiny

pytestmark = pytest.mark.slow
ADA = "Ada Lovelace wrote the first program in London . "
CHOICES = [{"text": f"after {i}", "choices": ["no", f"{i + 1}"], "label": 1} for i in range(16)]
PAIRS = [
    {"text": f"a {a} house", "text_pair": f"the {b} house", "label": float(a == b) * 5}
    for a in ("red", "big", "old", "new")
    for b in ("red", "big", "old", "new")
]
TOPICS = [
    {"text": f"a {' '.join(labels)} house", "label": labels}
    for labels in (["red"], ["big"], ["red", "big"], [])
] * 4
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": ADA * 6,
                    "qas": [
                        {
                            "id": f"q{i}",
                            "question": "Who wrote it?",
                            "answers": [{"text": "Ada Lovelace", "answer_start": 0}] * (i % 2),
                        }
                        for i in range(8)
                    ],
                }
            ]
        }
    ]
}
IOB1 = ["I-PER", "I-PER", "O", "O", "O", "O", "O", "I-LOC", "O"]
CONLL = "".join(f"{w}\t{t}\n" for w, t in zip(ADA.split(), IOB1, strict=True))


def lines(rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


CASES = {
    "multi_label": ("multi_label", "a.jsonl", lines(TOPICS), {}),
    "regression": ("regression", "a.jsonl", lines(PAIRS), {"data.text_pair": "text_pair"}),
    "entities": ("tagging", "a.conll", (CONLL + "\n") * 8, {}),
    "crf": ("tagging", "a.conll", (CONLL + "\n") * 8, {"crf": True}),
    "answers": ("question_answering", "a.json", json.dumps(SQUAD), {"stride": 8}),
    "siamese": ("similarity", "a.jsonl", lines(PAIRS), {"data.text_pair": "text_pair"}),
    "simcse": (
        "similarity",
        "a.jsonl",
        lines(PAIRS),
        {"data.text_pair": "text_pair", "similarity": "unsupervised"},
    ),
    "contrastive": (
        "similarity",
        "a.jsonl",
        lines(PAIRS),
        {"data.text_pair": "text_pair", "similarity": "contrastive"},
    ),
    "choices": ("multiple_choice", "a.jsonl", lines(CHOICES), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_task_from_data_to_predictions(name, finished, tmp_path, capsys):
    kind, file, text, fields = CASES[name]
    data = tmp_path / file
    data.write_text(text)
    config = tiny(kind, finished.workdir, data, **{"total_steps": 4, "eval_every": 2, **fields})
    directory = finetune(config, tmp_path / "run")
    said = capsys.readouterr().out
    metric = json.loads((directory / "results.json").read_text())["metric"]
    assert said.splitlines()[-1].startswith(f"RESULT {kind} {metric} ")
    assert "Exported" in said
    found = list(predict.predictions(directory, str(data)))
    kept = [json.loads(line) for line in (directory / "predictions.jsonl").open()]
    keys = ("label", "answer", "tags")
    for ours, line in zip(found, kept, strict=True):
        assert [ours.get(key) for key in keys] == [line.get(key) for key in keys]


def test_a_seed_does_not_depend_on_the_thresholds_of_another(finished, tmp_path):
    kind, file, text, fields = CASES["multi_label"]
    (tmp_path / file).write_text(text)
    fields = {"total_steps": 4, "eval_every": 2, **fields}
    config = tiny(kind, finished.workdir, tmp_path / file, **fields, seeds=2)
    both = finetune(config, tmp_path / "both")
    alone = finetune(
        tiny(kind, finished.workdir, tmp_path / file, **fields, seed=1), tmp_path / "alone"
    )
    one, other = (
        json.loads((directory / "seeds" / "1" / "result.json").read_text())
        for directory in (both, alone)
    )
    assert one == other


def test_both_texts_of_a_pair_are_of_one_segment_where_the_encoder_has_one(finished, tmp_path):
    """As in imported RoBERTa: the export is compared with transformers."""
    (tmp_path / "a.jsonl").write_text(lines(PAIRS))
    init = f"random:{tmp_path / 'one_segment.py'}"
    (tmp_path / "one_segment.py").write_text(
        "from bert_jax.config import named\n"
        "def get_config(arg=''):\n"
        "    fields = {'model.token_types': 1, 'model.next_sentence': False,\n"
        "              'stream.objective': 'packed', 'tokenizer.vocab_size': 100}\n"
        "    return named('configs/bert.py:tiny', **fields)\n"
    )
    fields = {"data.text_pair": "text_pair", "total_steps": 2}
    directory = finetune(tiny("regression", init, tmp_path / "a.jsonl", **fields), tmp_path / "run")
    settings = json.loads((directory / "hf" / "tokenizer_config.json").read_text())
    assert "token_type_ids" not in settings["model_input_names"]


def test_sentence_transformers_encode_as_the_similarity_task_does(finished, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    (tmp_path / "a.jsonl").write_text(lines(PAIRS))
    fields = {"data.text_pair": "text_pair", "total_steps": 2}
    config = tiny("similarity", finished.workdir, tmp_path / "a.jsonl", **fields)
    directory = finetune(config, tmp_path / "run")
    model = library.SentenceTransformer(str(directory / "hf"), device="cpu")
    first, second = (model.encode([row[name] for row in PAIRS]) for name in ("text", "text_pair"))
    kept = [json.loads(line)["score"] for line in (directory / "predictions.jsonl").open()]
    assert (first * second).sum(axis=1) == pytest.approx(kept, abs=1e-4)


def test_a_fine_tuned_folder_of_transformers_is_a_start_too(finished, tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(PAIRS))
    fields = {"data.text_pair": "text_pair", "total_steps": 2}
    first = finetune(
        tiny("regression", finished.workdir, tmp_path / "a.jsonl", **fields), tmp_path / "first"
    )
    second = finetune(
        tiny("regression", first / "hf", tmp_path / "a.jsonl", **fields), tmp_path / "second"
    )
    assert (second / "hf" / "model.safetensors").is_file()


def test_several_tasks_share_an_encoder(finished, tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(TOPICS))
    (tmp_path / "b.jsonl").write_text(lines(PAIRS))
    one = {"train": str(tmp_path / "a.jsonl"), "validation": str(tmp_path / "a.jsonl")}
    two = {name: path.replace("a.jsonl", "b.jsonl") for name, path in one.items()}
    config = tiny("multi_label", finished.workdir, tmp_path / "a.jsonl", total_steps=6)
    config.tasks = (
        {"name": "topics", "data": one},
        {"name": "pairs", "task": "regression", "data": {**two, "text_pair": "text_pair"}},
    )
    directory = finetune(config, tmp_path / "run")
    found = json.loads((directory / "results.json").read_text())
    assert set(found["tasks"]) == {"topics", "pairs"}
    assert (directory / "hf-pairs" / "model.safetensors").is_file()
    predicted = list(predict.predictions(directory, two["train"], "pairs"))
    assert len(predicted) == len(PAIRS)
