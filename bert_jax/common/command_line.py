"""What all commands share: flags, help, and errors in one line."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from bert_jax.common import bucket, config_files, loading, platforms
from bert_jax.common.errors import FirstProcessEndedError, UserError
from bert_jax.common.renamed import RENAMED_FIELDS

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # --help of a command lists the flags defined for it here

_URL = r"[A-Za-z][\w+.-]*:/"
HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")
# Variables in which those who start several tasks of one job put how many there are.
TASKS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "JAX_NUM_PROCESSES")


# A field that only configs of this kind have, and the command that they are for.
_KINDS = {
    config_files.RUNS: ("stream", "python -m bert_jax.train"),
    config_files.FINETUNINGS: ("task", "python -m bert_jax.finetune"),
}

# What Python says of a value of another type, and what to write instead.
_TYPES = {
    r"invalid literal for int\(\)": "write a whole number, in digits (8000)",
    "could not convert string to float": "write a number (0.5, 1e-4)",
    r"\('Non-boolean argument": "write True or False",
}

_folder = config_files.RUNS  # of the configs that this command takes


def define_config(folder: str = config_files.RUNS) -> None:
    """Define `--config=FILE[:arg]`, `--config.field=value` and `--workdir`.

    Args:
      folder: of the config files for this command, `config_files.RUNS` or `FINETUNINGS`.
    """
    global _folder
    _folder = folder
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config, with an argument after a colon: quickstart, bert:tiny, your/own.py. "
        "--config.FIELD=VALUE sets a field; bert_jax/config/ lists them",
    )
    define_workdir("Where the run lives. Default: runs/<config file>[-<argument>]")


def define_workdir(help: str, required: bool = False) -> None:
    """Define `--workdir`, a directory of a mounted file system or gs://bucket/directory."""
    flags.DEFINE_string("workdir", None, help, required=required)
    flags.register_validator(
        "workdir",
        lambda value: not re.match(_URL, value or "") or re.match(r"gs://[^/]+/.", value),
        message="give a path of a local or mounted file system, or gs://BUCKET/DIRECTORY",
    )


def define_as_local(flag: str) -> None:
    """Reject URLs such as gs://bucket/run, which would be taken for a local path."""
    flags.register_validator(
        flag,
        lambda value: not re.match(_URL, value or ""),
        message="URLs are not supported here: give a path of a local or mounted file system",
    )


def define_compile_cache() -> None:
    """Define `--compile_cache`."""
    flags.DEFINE_string(
        "compile_cache",
        None,
        "Directory that keeps compiled programs for later starts; 'off': none. Default: "
        "JAX_COMPILATION_CACHE_DIR, else ~/.cache/bert_jax/compiled",
    )
    define_as_local("compile_cache")


def config() -> ConfigDict:
    """The run's config as the command line gives it."""
    return FLAGS.config


def config_name() -> str:
    """`--config` without the fields that are set: `configs/bert.py:tiny`."""
    return config_flags.get_config_filename(FLAGS["config"])


def config_file() -> tuple[str, str]:
    """The config file and its argument."""
    file, _, arg = config_name().partition(":")
    return file, arg


def workdir() -> Path:
    """The run's directory as the command line gives it; for gs:// a new local copy."""
    if FLAGS.workdir:
        return bucket.opened(FLAGS.workdir)
    file, arg = config_file()
    return Path("runs") / "-".join(filter(None, [Path(file).stem, arg]))


def expect_one_process(environ: Mapping[str, str]) -> None:
    """Raise if this process is one of several tasks, each of which would train by itself.

    Raises:
      UserError: names the variable that counts the tasks.
    """
    for name in TASKS:
        count = environ.get(name, "")
        if count.isdigit() and int(count) > 1:
            raise UserError(
                f"{name}={count}: this is one of {count} tasks. Add --distributed so that they "
                f"train one run together, or start a single task (with SLURM: srun --ntasks=1), "
                f"or unset {name}"
            )


def run(main: Callable[[], None]) -> None:
    """Parse the flags and run `main`; an error the user can fix is one line and exit status 1.

    `--help` prints the command's docstring and its flags.
    """
    _run(lambda argv: _guarded(main), _parse)


def run_with_arguments(main: Callable[[list[str]], None]) -> None:
    """`run` for a command whose command line also holds arguments that are not flags."""
    _run(lambda argv: _guarded(lambda: main(argv[1:])), _parse_flags)


def _run(main: Callable[[list[str]], None], parse: Callable[[list[str]], list[str]]) -> None:
    loading.clear()
    logging.set_verbosity(logging.WARNING)  # Orbax and TensorFlow log each step of their work
    platforms.hide_missing_tpu()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # TensorFlow computes nothing here
    if asked := [arg for arg in sys.argv[1:] if arg in HELP]:
        app.usage(shorthelp="--helpfull" not in asked, writeto_stdout=True)
        sys.exit(0)  # absl's own exits with 1
    app.run(main, flags_parser=lambda argv: _guarded(lambda: parse(argv)))


def _parse(argv: list[str]) -> list[str]:
    rest = _parse_flags(argv)
    if unknown := rest[1:]:
        raise UserError(f"{unknown[0]!r} is not a flag: flags begin with --")
    return rest


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        rest = FLAGS([_with_config_file(argument) for argument in argv])
        if "config" in FLAGS:
            if FLAGS.config is None:
                raise UserError(f"--config=FILE[:argument] is missing; {_known_configs()}")
            FLAGS.config.lock()  # raises now if the file could not be loaded
            _expect_kind(FLAGS.config)
    except (UserError, flags.Error):
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(_config_problem(str(error))) from error
    return rest


def _expect_kind(config: ConfigDict) -> None:
    for folder, (field, command) in _KINDS.items():
        if folder != _folder and field in config:
            raise UserError(f"--config={config_name()} is one for {command}; {_known_configs()}")


def _known_configs() -> str:
    names = ", ".join(config_files.names(_folder))
    return f"for this command there are {names}, and your own files (path.py)"


def _with_config_file(argument: str) -> str:
    """`--config=quickstart` as `--config=.../configs/quickstart.py`; any other flag as it is."""
    if not argument.startswith(("--config=", "-config=")):
        return argument
    flag, _, value = argument.partition("=")
    name, _, arg = value.partition(":")
    return f"{flag}={config_files.find(name)}{arg and f':{arg}'}"


def _config_problem(message: str) -> str:
    """One line for an error of ml_collections about a bad config file or field."""
    if match := re.search(r"No such file or directory: '(.*?)'", message):
        return f"--config: {match[1]} does not exist; {_known_configs()}"
    for old, new in RENAMED_FIELDS.items():
        if re.search(rf"[\"'.]{old}[\"']", message):
            return f"the config field {old!r} is now called {new!r}: rename it"
    if match := re.search(r'Did you mean "(.*?)" instead of "(.*?)"', message):
        return f"the config has no field {match[2]!r}: did you mean {match[1]!r}?"
    if match := re.search(r"Key \"(.*?)\" does not exist|^\"?'(\w+)'", message):
        field = match[1] or match[2]
        return f"the config has no field {field!r}: bert_jax/config/ lists all fields"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"--config: {lines[-1]}"


def _flag_problem(error: flags.Error) -> str:
    """One line for an error of absl about a flag."""
    text = str(error).strip().splitlines()[-1].removeprefix("flag ")
    if missing := re.search(r"Flag (--\w+) must have a value other than None", text):
        return f"{missing[1]} is missing"
    for said, fix in _TYPES.items():
        if wrong := re.match(rf"(--.*?): {said}", text):
            return f"{wrong[1]}: {fix}"
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"there is no flag --{error.flagname}; a config field is --config.FIELD=VALUE"
    return text


def _guarded(action: Callable):
    try:
        return action()
    except UserError as error:
        _leave(f"error: {error}")
    except FirstProcessEndedError as error:
        _leave(str(error))
    except flags.Error as error:
        _leave(f"error: {_flag_problem(error)}\nRun with --help for the flags.")
    except KeyboardInterrupt:
        _leave("stopped", status=130)
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        texts = [os.strerror(number) for number in full]
        if getattr(error, "errno", 0) in full or any(text in str(error) for text in texts):
            place = getattr(error, "filename", None) or "the workdir"
            _leave(  # after a line end: another thread may be in the middle of a line
                f"\nerror: the disk that holds {place} is full: free some space and run the same "
                "command again; it continues from the last file that is complete"
            )
        if jax.distributed.is_initialized():
            _leave(traceback.format_exc())
        raise


def _leave(message: str, status: int = 1) -> NoReturn:
    """Exit; without waiting for the other processes, which wait for this one."""
    sys.stderr.write(message + "\n")  # one call: lines of other processes are not mixed in
    sys.stderr.flush()
    if jax.distributed.is_initialized():
        os._exit(status)
    sys.exit(status)
