"""The layers of the package: what may import what, read from the import statements."""

import ast
from collections.abc import Iterator
from pathlib import Path

import bert_jax

ROOT = Path(bert_jax.__file__).parent

# From the bottom up. A package imports itself and packages of lower layers; those of one layer do
# not import each other.
LAYERS = (
    {"common"},
    {"corpus", "model"},
    {"stream", "inference", "interop"},
    {"training"},
    {"tasks"},
    {"config"},
    {"performance"},
    {"run"},
)
HEIGHT = {package: height for height, layer in enumerate(LAYERS) for package in layer}
COMMANDS = len(LAYERS)  # the height of every other top-level module

# TensorFlow takes seconds to import, and the step, the conversion and inference run without it.
USES_TENSORFLOW = {"stream/pipeline.py", "corpus/readers/tfds.py"}
# Library code has no command line: commands pass values on.
USES_FLAGS = {"common/command_line.py"}

MODULES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py"))


def imported(module: str) -> Iterator[str]:
    """The full names of what a module imports, wherever the statement is."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    """`stream` for stream/rows.py, `train` for train.py."""
    return module.split("/")[0].removesuffix(".py")


def height(package: str) -> int:
    """Of a package in LAYERS, or of a command."""
    if (ROOT / package).is_dir():
        assert package in HEIGHT, f"add the package {package} to LAYERS"
    return HEIGHT.get(package, COMMANDS)


def test_a_module_imports_only_packages_below_its_own():
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imported(module)
        if name.startswith("bert_jax.")
        and (other := name.split(".")[1]) != package_of(module)
        and height(other) >= height(package_of(module))
    ]
    assert wrong == []


def test_only_the_pipeline_and_the_tfds_reader_import_tensorflow():
    users = {
        module
        for module in MODULES
        if any(
            name.split(".")[0] in ("tensorflow", "tensorflow_datasets") for name in imported(module)
        )
    }
    assert users == USES_TENSORFLOW


def test_only_commands_read_flags():
    users = {
        module
        for module in MODULES
        if any(name.startswith("absl.flags") for name in imported(module))
    }
    assert {module for module in users if "/" in module} == USES_FLAGS
