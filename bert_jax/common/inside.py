"""Names of files that come from elsewhere: a manifest, the listing of a bucket."""

from pathlib import Path, PurePosixPath

from bert_jax.common.errors import UserError


def inside(directory: Path, name: str, source: str) -> Path:
    """The file `name` in `directory`.

    Args:
      directory: that the file must be in, at any depth.
      name: relative to it, with `/`.
      source: what lists the name, for the message.

    Raises:
      UserError: the name is absolute, or leads out of the directory.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{source} lists the file {name!r}, which is outside of its directory: it was changed "
            "by hand or is not to be trusted; get it again from where it was made"
        )
    return directory / path
