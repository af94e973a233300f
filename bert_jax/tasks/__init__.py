"""Fine-tuning tasks by the name that `config.task` gives; one file each.

To add one, write a subclass of `Task` in a new file and register it here.
"""

from bert_jax.common.errors import UserError
from bert_jax.tasks.base import OPTIONS, Prediction, Task, TaskSettings
from bert_jax.tasks.classification import Classification
from bert_jax.tasks.multi_label import MultiLabel
from bert_jax.tasks.multiple_choice import MultipleChoice
from bert_jax.tasks.question_answering import QuestionAnswering
from bert_jax.tasks.regression import Regression
from bert_jax.tasks.similarity import Similarity
from bert_jax.tasks.tagging import Tagging

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "tagging": Tagging,
    "question_answering": QuestionAnswering,
    "similarity": Similarity,
    "multiple_choice": MultipleChoice,
}


def make_task(kind: str, settings: TaskSettings) -> Task:
    """The task that `config.task` names.

    Raises:
      UserError: it is not registered, or a setting is not one of this task's.
    """
    if kind not in TASKS:
        raise UserError(f"config.task is {kind!r}: choose one of {', '.join(TASKS)}")
    task = TASKS[kind](settings)
    if task.metric not in task.metrics:
        raise UserError(f"config.metric is {task.metric!r}: {kind} has {', '.join(task.metrics)}")
    return task


__all__ = ["OPTIONS", "TASKS", "Prediction", "Task", "TaskSettings", "make_task"]
