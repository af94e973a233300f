"""SQuAD's json, versions 1.1 and 2.0 (https://arxiv.org/abs/1606.05250, 1806.03822)."""

import json
from collections.abc import Iterator
from pathlib import Path

from bert_jax.common import console
from bert_jax.common.errors import UserError
from bert_jax.tasks.data.records import DataSettings, Record


def squad(path: Path, settings: DataSettings, labelled: bool) -> Iterator[Record]:
    """A record a question: `id`, `question`, `context`, `answers` [(text, start)].

    Answers that are not in their context where the file says are left out, counted and named, and a
    question that is left with none is as well. Where labels are not needed it stays, and `answers`
    may be missing.
    """
    del settings
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no SQuAD json (an object with 'data'): {error}") from error
    wrong: list[str] = []
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    name, context = str(question["id"]), paragraph["context"]
                    given = question["answers"] if labelled else question.get("answers", [])
                    stated = [(a["text"], int(a["answer_start"])) for a in given]
                    answers = [
                        (text, start)
                        for text, start in stated
                        if text and context[start : start + len(text)] == text
                    ]
                    if len(answers) < len(stated):
                        wrong.append(name)
                        if labelled and not answers:
                            continue
                    values = {
                        "id": name,
                        "question": question["question"],
                        "context": context,
                        "answers": answers,
                    }
                    yield Record(values, f"{path}, question {name}")
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is no SQuAD json: {error} is missing") from error
    if wrong:
        console.say(
            f"Note: {path}: {len(wrong)} questions have answers that are not in their context at "
            f"the place given; these answers are left out: {', '.join(wrong[:5])}"
            f"{', ...' if len(wrong) > 5 else ''}"
        )
