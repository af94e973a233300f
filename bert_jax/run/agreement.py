"""Before work: all processes of a run have the same program, config and devices, and one workdir.

A process that differs would make another batch, compile another program, or wait for files that
never come; each of these ends as a run that hangs or, worse, trains on.
"""

import hashlib
import importlib.metadata
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

import bert_jax
from bert_jax.common import processes
from bert_jax.common.bucket import home
from bert_jax.common.errors import UserError
from bert_jax.run.saved_config import flatten, to_json

TOKEN = "processes.token"  # in the workdir for a moment: what process 0 wrote, for all to read

Facts = Mapping[str, str]


def expect_equal_processes(config: ConfigDict) -> None:
    """Raise unless all processes have the same versions, config and kind of device.

    Raises:
      UserError: what differs, with the processes and their hosts.
    """
    if jax.process_count() == 1:
        return
    texts = processes.exchange(json.dumps(facts(config)), "say what it runs")
    if problem := difference([json.loads(text) for text in texts]):
        raise UserError(problem)


def facts(config: ConfigDict) -> dict[str, str]:
    """What must be equal in all processes, by its name; and `host`, which need not."""
    fields = flatten(json.loads(to_json(config)))
    return {
        "host": socket.gethostname(),
        "the source of bert_jax": source_hash(),
        "jax": importlib.metadata.version("jax"),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "the kind of device": ", ".join(sorted({d.device_kind for d in jax.local_devices()})),
    } | {f"config.{name}": json.dumps(value) for name, value in fields.items()}


def source_hash() -> str:
    """The version of this package, and a hash of its files: a checkout keeps its version."""
    root = Path(bert_jax.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return f"{importlib.metadata.version('bert_jax')} {digest.hexdigest()[:8]}"


def difference(facts_of: Sequence[Facts]) -> str:
    """What is not equal in all processes, as a message; empty: nothing.

    Args:
      facts_of: each process, by its index.
    """
    names = dict.fromkeys(name for facts in facts_of for name in facts if name != "host")
    found = []
    for name in names:
        by_value: dict[str, list[int]] = {}
        for process, of_process in enumerate(facts_of):
            by_value.setdefault(of_process.get(name, "unknown"), []).append(process)
        if len(by_value) > 1:
            values = " and ".join(
                f"{value} in process {_listed(members)} ({facts_of[members[0]]['host']})"
                for value, members in by_value.items()
            )
            found.append(f"{name} is {values}")
    if not found:
        return ""
    return (
        f"the processes of this run differ: {'; '.join(found)}. Start all of them with the same "
        "flags, the same installation and the same kind of device"
    )


def expect_shared_workdir(workdir: Path) -> None:
    """Raise unless every process reads what process 0 writes into `workdir`.

    Process 0 must hold the lock of `workdir`.

    Raises:
      UserError: which processes do not see it.
    """
    if jax.process_count() == 1:
        return
    place = home(workdir)
    blind = processes.blind_to(place)
    if blind:
        raise UserError(
            f"{', '.join(blind)} does not see --workdir={place} of process 0: use a directory "
            "of a file system that all hosts share, or gs://"
        )


def _listed(numbers: Sequence[int]) -> str:
    """`0, 1, 2` or, of many, `0, 1, 2 and 61 more`."""
    more = len(numbers) - 3
    return ", ".join(map(str, numbers[:3])) + (f" and {more} more" if more > 0 else "")
