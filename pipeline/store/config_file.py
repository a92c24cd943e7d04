"""Config files on disk or S3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.load import MAX_CONFIG_BYTES, as_model, parse, parse_values, read_text, too_large
from pipeline.config.project import Config
from pipeline.config.sections import Storage
from pipeline.errors import ArtefactMissing, ConfigError
from pipeline.store.opening import open_store


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config from a file or from S3; see `config.load.parse`."""
    return parse(config_text(path, overrides), str(path), overrides)


def config_text(path: str | Path, overrides: Sequence[str] = ()) -> str:
    """Read the text of a config from a file or from S3.

    S3 is asked with the standard AWS variables, and with what overrides say of `storage`: what the file itself says is
    not known before.

    Raises:
        ConfigError: no such file, or none of text.
        StorageError: S3 refuses it.
    """
    uri = str(path)
    if not uri.startswith("s3://"):
        return read_text(path)
    said = [each for each in overrides if each.lstrip().startswith("storage.")]
    values = parse_values("{}", "--set", said, Config).get("storage", {})
    store = open_store(uri, as_model(Storage, values, "--set storage"))
    try:
        with store.open("") as file:
            if file.size() > MAX_CONFIG_BYTES:
                raise too_large(uri)
            return bytes(file.read()).decode()
    except ArtefactMissing:
        raise ConfigError(f"{uri}: no such object") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{uri}: cannot be read: {error}") from None
