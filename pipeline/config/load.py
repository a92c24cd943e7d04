"""Configs from YAML files, with errors that name place and remedy.

`load(path, overrides)` leads from a file to a `Config`; `read_text`, `parse_values` and `as_model` are its parts, for
files elsewhere (`store.config_file`) or of something else (`studies.kinds`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.project import Config
from pipeline.errors import ConfigError, nearest

MAX_CONFIG_BYTES = 1 << 20

M = TypeVar("M", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Safe YAML without duplicate keys.

    Reads 1e-3 as a number, and a date as text.
    """


class _Dumper(yaml.SafeDumper):
    """A writer of YAML that `_Loader` reads back."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is not text", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands here a second time", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


# Only what JSON can say too: no dates, sets or binaries.
_TAGS = [f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq")]
_constructors: dict[Any, Any] = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in _TAGS}
_constructors[None] = yaml.SafeLoader.construct_undefined
_constructors["tag:yaml.org,2002:timestamp"] = yaml.SafeLoader.construct_yaml_str
_constructors[yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG] = _mapping
_Loader.yaml_constructors = _constructors
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def _parse(text: str, where: str) -> Any:
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise ConfigError(f"{where}: YAML aliases (*name) are not read here; write the value out")
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise ConfigError(f"{place}: {getattr(error, 'problem', None) or _line(error)}") from None
    except ValueError as error:  # 5000 digits, or a tag that promises a number
        raise ConfigError(f"{where}: not a number: {_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply") from None


def _override(data: dict[str, Any], assignment: str, root: type[BaseModel]) -> None:
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {assignment}: write it as key.path=value")
    place = data
    for key in keys[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {assignment}: {key} holds a value, not a section")
        place = inner
    place[keys[-1]] = _value(text, f"--set {path}", _annotation(root, keys))


def _value(text: str, where: str, kind: Any) -> Any:
    """Read the value of an assignment to a key of some type.

    Where the key holds text, it is taken as it stands, but for `null` and text in quotes. Where it holds texts, one
    that is no list in brackets stands for a list of it alone.
    """
    plain = text.strip()
    quoted = len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\""
    as_text, as_texts = _is_text(kind), _is_texts(kind)
    if not (as_text or as_texts) or quoted or plain in ("", "null", "~"):
        return _parse(text, where)
    if as_texts and plain[0] == "[" and plain[-1] == "]":
        try:
            return _parse(text, where)
        except ConfigError as error:
            hint = "put texts with signs such as * or : in quotes, as in ['*.jpg', 'a: b']"
            raise ConfigError(f"{error}; {hint}") from None
    return plain if as_text else [plain]


def _annotation(root: type[BaseModel], path: Sequence[str]) -> Any:
    """Return the type of the key at `path`, if it is known."""
    model: Any = root
    for i, key in enumerate(path):
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or key not in model.model_fields:
            return None
        annotation = model.model_fields[key].annotation
        if i == len(path) - 1:
            return annotation
        options = [annotation, *get_args(annotation)]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
    return None


def _is_text(annotation: Any) -> bool:
    """Return whether a key of this type holds text alone."""
    if annotation is str:
        return True
    if get_origin(annotation) is Literal:
        return all(isinstance(option, str) for option in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        options = [option for option in get_args(annotation) if option is not NoneType]
        return any(map(_is_text, options)) and all(_is_text(each) or _is_texts(each) for each in options)
    return False


def _is_texts(annotation: Any) -> bool:
    """Return whether a key of this type may hold texts."""
    if get_origin(annotation) is Annotated:
        return _is_texts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return any(map(_is_texts, get_args(annotation)))
    return get_origin(annotation) is tuple and _is_text(get_args(annotation)[0])


def _fields_at(root: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Return the names of the keys that the section at `path` knows."""
    model: Any = root
    for key in path:
        if isinstance(key, int):  # an element of a list of `model`
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or key not in model.model_fields:
            return []
        annotation = model.model_fields[str(key)].annotation
        options = [annotation, *get_args(annotation)]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _above(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) < len(other) and other[: len(place)] == place


def _explain(error: ValidationError, root: type[BaseModel], where: str) -> ConfigError:
    by_place: dict[tuple[int | str, ...], Any] = {}
    for each in error.errors(include_url=False):
        place = tuple(
            part
            for part in each["loc"]
            if not str(part).startswith(("constrained-", "dict[", "tuple[", "function-"))
        )
        by_place.setdefault(place, each)
    # A value that may be of two types has a fault for each. The deeper one is of the type that it nearly is: show that.
    faults = [place for place in by_place if not any(_above(place, other) for other in by_place)]
    sentences = [_sentence(place, by_place[place], root) for place in faults]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    result = ConfigError.at(".".join(map(str, faults[0])), f"{where}: {sentences[0]}{more}")
    result.faults = tuple(sentences)
    return result


def _sentence(location: tuple[int | str, ...], fault: Any, root: type[BaseModel]) -> str:
    """Say in one sentence what pydantic found at a place."""
    path = ".".join(str(part) for part in location)
    value = fault.get("input")
    shown = f" (got {str(value)[:80]!r})" if not isinstance(value, dict | list) else ""
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key; {nearest(str(location[-1]), _fields_at(root, location[:-1]))}"
    if fault["type"] == "missing":
        return f"{path}: missing, and it has no default"
    if fault["type"] == "value_error":
        return (f"{path}: " if path else "") + str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "json_invalid":
        return "holds text that is not valid Unicode, or is nested too deeply"
    if fault["type"] == "string_pattern_mismatch":
        return f"{path}: holds control characters{shown}"
    text = f"{path}: {fault['msg'][0].lower()}{fault['msg'][1:]}{shown}"
    if fault["type"] == "string_type" and not isinstance(value, dict | list | None):
        text += (
            "; YAML takes no, yes, on, off, bare numbers and times for something else: put the word in quotes"
        )
    return text


def parse(text: str, where: str, overrides: Sequence[str] = ()) -> Config:
    """Read a config from YAML text.

    Args:
        text: the YAML.
        where: how to call it in messages, usually its path.
        overrides: `key.path=value` assignments, applied in order.

    Raises:
        ConfigError: an unknown key, a wrong type, an impossible value; the message says where.
    """
    return as_model(Config, parse_values(text, where, overrides, Config), where)


def as_model(model: type[M], data: dict[str, Any], where: str) -> M:
    """Validate a file's values as a model; raises like `parse`."""
    try:
        return model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise _explain(error, model, where) from None
    except (TypeError, ValueError) as error:  # a YAML date, a binary: nothing that JSON can say
        raise ConfigError(f"{where}: {error}") from None


def parse_values(text: str, where: str, overrides: Sequence[str], root: type[BaseModel]) -> dict[str, Any]:
    """Read the values of YAML text and apply overrides to them.

    `root` is the model that the text is of, whose types tell how an override is read.
    """
    data = _parse(text, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected `key: value` lines, got {type(data).__name__}")
    for assignment in overrides:
        _override(data, assignment, root)
    return data


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file; see `parse`."""
    return parse(read_text(path), str(path), overrides)


def read_text(path: str | Path) -> str:
    """Read the text of a config file.

    Raises:
        ConfigError: no such file, or none of text.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise too_large(path)
        return data.decode()
    except FileNotFoundError:
        siblings = [p.name for p in file.parent.glob("*.yaml")] if file.parent.is_dir() else []
        hint = f" ({nearest(file.name, siblings)})" if siblings else ""
        raise ConfigError(f"{path}: no such file{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null byte in the path
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def too_large(path: str | Path) -> ConfigError:
    """Make the error for a file of too many bytes."""
    return ConfigError(f"{path}: too large for a config (at most {MAX_CONFIG_BYTES} bytes)")


def dump(config: Config) -> str:
    """Write the resolved config as YAML, defaults included.

    `parse` reads it back as an equal config.
    """
    data = config.model_dump(mode="json")
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
