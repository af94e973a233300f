"""Runs the parts of a corpus as an Apache Beam pipeline, for corpora too large for one machine.

The functions are those that the local processes run, and each creates its part's directory in one
step; so the store has the same bytes, and bundles may be retried or run twice. All workers must see
the sources and the store's directory under the same paths.
"""

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.corpus.workers import Engine

_USER_ERROR = re.compile(rf"{re.escape(UserError.__module__)}.UserError: (.*)")


def engine(options: Sequence[str]) -> Engine:
    """Runs functions on a Beam runner; they must write their results to files.

    Args:
      options: of the pipeline, such as `--runner=FlinkRunner` and `--flink_master=host:8081`.

    Raises:
      UserError: Apache Beam is not installed.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            "--runner needs Apache Beam: pip install 'bert_jax[beam]', here and on the workers"
        ) from error

    def run(
        task: str, function: Callable[..., Any], calls: Sequence[tuple], sizes: Sequence[int]
    ) -> list[Any]:
        logging.info("%s: a pipeline of %d parts, %d bytes", task, len(calls), sum(sizes))
        try:
            with apache_beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
                _ = (
                    pipeline
                    | "parts" >> apache_beam.Create(list(calls))
                    | "spread" >> apache_beam.Reshuffle()
                    | task >> apache_beam.Map(_call, function)
                )
        except UserError:
            raise
        except Exception as error:
            # Workers elsewhere send their errors as the text of a traceback.
            if match := _USER_ERROR.search(str(error)):
                raise UserError(match[1]) from error
            raise
        return [function(*call) for call in calls]  # the results exist: these only read them

    return run


def _call(arguments: tuple, function: Callable[..., Any]) -> None:
    function(*arguments)
