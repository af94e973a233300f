"""What all commands share: flags, and errors in one line."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from bert_jax.common import platforms
from bert_jax.common.errors import UserError

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # --help of a command lists the flags defined for it here


def define_config() -> None:
    """Define `--config=FILE[:arg]`, `--config.field=value` and `--workdir`."""
    config_flags.DEFINE_config_file(
        "config", None, "Config file, with an argument after a colon: configs/bert.py:tiny"
    )
    flags.mark_flag_as_required("config")
    flags.DEFINE_string(
        "workdir", None, "Where the run lives. Default: runs/<config file>[-<argument>]"
    )


def define_compile_cache() -> None:
    """Define `--compile_cache`."""
    flags.DEFINE_string(
        "compile_cache",
        None,
        "Directory of compiled programs, for later starts; 'off': none. Default: "
        "JAX_COMPILATION_CACHE_DIR, else ~/.cache/bert_jax/compiled",
    )


def config() -> ConfigDict:
    """The run's config as the command line gives it."""
    return FLAGS.config


def workdir() -> Path:
    """The run's directory as the command line gives it."""
    if FLAGS.workdir:
        return Path(FLAGS.workdir)
    file, _, arg = config_flags.get_config_filename(FLAGS["config"]).partition(":")
    return Path("runs") / "-".join(filter(None, [Path(file).stem, arg]))


def run(main: Callable[[], None]) -> None:
    """Parse the flags and run `main`; what the user can mend ends in one line and status 1."""
    logging.set_verbosity(logging.WARNING)  # Orbax tells a lot otherwise, TensorFlow too
    platforms.hide_missing_tpu()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # TensorFlow computes nothing here
    app.run(lambda _: _guarded(main), flags_parser=lambda argv: _guarded(lambda: _parse(argv)))


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = FLAGS(argv)
        if "config" in FLAGS and FLAGS.config is not None:
            FLAGS.config.lock()  # raises now where the file could not be loaded
    except (UserError, flags.Error):
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(_config_problem(str(error))) from error
    if unknown := rest[1:]:
        raise UserError(f"{unknown[0]!r} is not a flag: flags begin with --")
    return rest


def _config_problem(message: str) -> str:
    """One line from what ml_collections says of a bad config file or field."""
    if match := re.search(r'Did you mean "(.*?)" instead of "(.*?)"', message):
        return f"the config has no field {match[2]!r}: did you mean {match[1]!r}?"
    if match := re.search(r"Key \"(.*?)\" does not exist|^\"?'(\w+)'", message):
        field = match[1] or match[2]
        return f"the config has no field {field!r}: bert_jax/config.py lists all there are"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"--config: {lines[-1]}"


def _guarded(action: Callable):
    try:
        return action()
    except UserError as error:
        _leave(f"error: {error}")
    except flags.Error as error:
        _leave(f"error: {str(error).strip().splitlines()[-1]}\nRun with --help for the flags.")
    except KeyboardInterrupt:
        _leave("stopped", status=130)
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        texts = [os.strerror(number) for number in full]
        if getattr(error, "errno", 0) in full or any(text in str(error) for text in texts):
            place = getattr(error, "filename", None) or "the workdir"
            _leave(  # on a line of its own: other threads may be in the middle of theirs
                f"\nerror: the disk that holds {place} is full: free some space and run the same "
                "command again; it goes on from the last thing that was written whole"
            )
        if jax.distributed.is_initialized():
            _leave(traceback.format_exc())
        raise


def _leave(message: str, status: int = 1) -> NoReturn:
    """Exit; at once where others would otherwise be waited for at the exit."""
    sys.stderr.write(message + "\n")  # in one piece
    sys.stderr.flush()
    if jax.distributed.is_initialized():
        os._exit(status)
    sys.exit(status)
