"""TensorFlow Datasets: an example is a document, in one of the features.

TensorFlow is imported only while such a source is listed or read.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.files import range_bytes
from bert_jax.corpus.readers.lines import paragraphs
from bert_jax.corpus.readers.text import not_utf8
from bert_jax.corpus.settings import Reading

_OPERATION = re.compile(r"\{\{.*?\}\}|\[Op:.*")  # of TensorFlow, in its messages
_LOCATION = re.compile(r"(?P<name>[^:]+(:\d+\.\d+\.\d+)?)(:(?P<split>\w+))?")


@dataclasses.dataclass(frozen=True)
class TfdsPart:
    """The documents of some examples of a prepared data set."""

    name: str
    directory: str
    split: str
    start: int
    stop: int
    size: int
    reading: Reading

    file_bytes = None
    costly = False
    in_sentences = False

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: an example is not UTF-8 text, or files of the data set are damaged.
        """
        import tensorflow
        import tensorflow_datasets

        builder = tensorflow_datasets.builder_from_directory(self.directory)
        examples = builder.as_dataset(
            split=tensorflow_datasets.core.ReadInstruction(
                self.split, from_=self.start, to=self.stop, unit="abs"
            ),
            read_config=tensorflow_datasets.ReadConfig(
                interleave_cycle_length=1, try_autocache=False
            ),
        )
        try:
            for index, example in enumerate(examples.as_numpy_iterator(), self.start):
                yield paragraphs(self._text(example, index))
        except tensorflow.errors.OpError as error:
            reason = _OPERATION.sub("", str(error).splitlines()[0]).strip()
            raise UserError(
                f"{self.name} is damaged ({reason}): delete {self.directory} and prepare it again, "
                "or leave it out of config.corpus.source"
            ) from error

    def _text(self, example: Mapping[str, Any], index: int) -> str:
        try:
            return example[self.reading.field].decode("utf-8", self.reading.decode_errors)
        except UnicodeDecodeError as error:
            raise not_utf8(f"{self.name}, example {index}", 0, error) from error


def list_parts(location: str, reading: Reading) -> list[TfdsPart]:
    """The parts of `NAME[/CONFIG][:VERSION][:SPLIT]`, by default of its training split.

    A data set that is not on disk yet is downloaded and prepared.

    Raises:
      UserError: there is no such data set or split, or it has no such text feature.
    """
    import tensorflow_datasets

    match = _LOCATION.fullmatch(location)
    if not match:
        raise UserError(
            f"config.corpus.source='tfds:{location}': write tfds:NAME[/CONFIG][:VERSION][:SPLIT]"
        )
    try:
        builder = tensorflow_datasets.builder(match["name"], data_dir=reading.data_dir or None)
        builder.download_and_prepare()
    except Exception as error:  # of the network, the disk, the registry of data sets ...
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"config.corpus.source='tfds:{location}' cannot be loaded ({reason}); see whether the "
            "name and config.corpus.data_dir are right"
        ) from error
    split = match["split"] or "train"
    if split not in builder.info.splits:
        raise UserError(
            f"tfds:{match['name']} has no split {split!r}; there is: "
            f"{', '.join(builder.info.splits)}"
        )
    features = builder.info.features
    texts = [
        name for name in features if isinstance(features[name], tensorflow_datasets.features.Text)
    ]
    if reading.field not in texts:
        raise UserError(
            f"tfds:{match['name']} has no text feature config.corpus.field={reading.field!r}; "
            f"there is: {', '.join(texts)}"
        )
    info = builder.info.splits[split]
    examples, size = info.num_examples, info.num_bytes
    count = -(-size // range_bytes(size)) or 1
    borders = [examples * index // count for index in range(count + 1)]
    return [
        TfdsPart(
            name=f"tfds:{location}",
            directory=str(builder.data_path),
            split=split,
            start=start,
            stop=stop,
            size=max(1, size // count),
            reading=reading,
        )
        for start, stop in itertools.pairwise(borders)
        if stop > start
    ]


def labelled(location: str, data_dir: str = "") -> Iterator[dict[str, Any]]:
    """The examples of `NAME[/CONFIG][:VERSION][:SPLIT]` as plain values, for fine-tuning.

    Texts are decoded, and classes have their names.

    Raises:
      UserError: there is no such data set or split.
    """
    import tensorflow_datasets

    match = _LOCATION.fullmatch(location)
    if not match:
        raise UserError(f"tfds:{location}: write tfds:NAME[/CONFIG][:VERSION][:SPLIT]")
    try:
        builder = tensorflow_datasets.builder(match["name"], data_dir=data_dir or None)
        builder.download_and_prepare()
        examples = builder.as_dataset(
            split=match["split"] or "train",
            read_config=tensorflow_datasets.ReadConfig(interleave_cycle_length=1),
        )
    except Exception as error:  # of the network, the disk, the registry of data sets ...
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"tfds:{location} cannot be loaded ({reason})") from error
    features = builder.info.features
    for example in tensorflow_datasets.as_numpy(examples):
        yield _plain(example, features)


def _plain(value: Any, feature: Any) -> Any:
    """Texts, classes' names (-1, an unknown one, stays a number), numbers; lists and dicts of them.

    `feature` is that of the value, or of its elements: a sequence of dicts comes as a dict of
    arrays.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8")
    names_classes = hasattr(feature, "int2str")  # a sequence of classes seems to do so, too
    inner = getattr(feature, "feature", feature)
    if isinstance(value, dict):
        return {name: _plain(part, inner[name]) for name, part in value.items()}
    if getattr(value, "ndim", 0) and (names_classes or value.dtype == object):
        return [_plain(part, inner) for part in value]
    if names_classes and value >= 0:
        return feature.int2str(int(value))
    return value.tolist() if hasattr(value, "tolist") else value
