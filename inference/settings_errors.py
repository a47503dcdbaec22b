"""A pydantic error about fit.toml as one line for the user."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .errors import InputError, input_error, nearest_first, shown


def settings_error(path: Path, text: str, error: ValidationError, root: type[BaseModel]) -> InputError:
    """Return the first error of ``error`` as one line: file, line, key, value, allowed, remedy.

    ``text`` is the file's text and ``root`` the model that refused it.
    """
    first = error.errors()[0]
    keys = [str(k) for k in first["loc"] if not isinstance(k, int)]
    key, line = ".".join(keys), _line(text, keys)
    if first["type"] == "extra_forbidden":
        known = nearest_first(keys[-1], declaration(root, keys[:-1])[1].model_fields)
        return input_error(
            path,
            f"unknown key `{key}`",
            f"did you mean `{known[0]}`? Rename the key or delete it",
            line=line,
            allowed=", ".join(known),
        )
    field, _ = declaration(root, keys)
    if first["type"] == "missing":
        section = ".".join(keys[:-1])
        under = f"under [{section}]" if section else "as a section"
        return input_error(path, f"key `{key}` is missing", f"add it {under}", line=line, allowed=field.description)
    value = first["input"].model_dump() if isinstance(first["input"], BaseModel) else first["input"]
    why = str(first.get("ctx", {}).get("error")) if first["type"] == "value_error" else "is not allowed"
    default = None if field.is_required() or isinstance(field.default, BaseModel) else field.default
    example = f", for example {keys[-1]} = {json.dumps(default)}" if default is not None else ""
    return input_error(
        path,
        f"key `{key}`: value {shown(value)} {why}",
        f"correct it{example}",
        line=line,
        allowed=field.description,
    )


def declaration(root: type[BaseModel], keys: Sequence[Any]) -> tuple[FieldInfo, type[BaseModel]]:
    """Return the declaration at ``keys`` below ``root``, and the section that it is or that holds it."""
    section, field = root, FieldInfo(description="sections")
    for key in keys:
        if key not in section.model_fields:
            break
        field = section.model_fields[key]
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            section = field.annotation
    return field, section


def _line(text: str, keys: list[str]) -> int | None:
    """Return the line of a key, or of the section that should hold it; tomllib keeps no line numbers."""
    section: list[str] = []
    best, best_line = 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = [part.strip() for part in header[1].split(".")]
            here = section
        elif assignment := re.match(r"\s*([\w.-]+)\s*=", line):
            here = section + assignment[1].split(".")
        else:
            continue
        if here == keys[: len(here)] and len(here) > best:
            best, best_line = len(here), number
    return best_line
