"""A YAML mapping with checked values, whose errors name file and key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sam3d_gs.errors import BadInputError

_ABSENT: Any = object()
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same language, ten times faster where it was built


class Section:
    """One mapping of a YAML file. Every key must be read or passed to `done`, so that no setting is overlooked."""

    def __init__(self, value: dict[str, Any], file: Path, key: str = "") -> None:
        self._value = value
        self._unread = set(value)
        self.file = file
        self.key = key

    @classmethod
    def read(cls, file: Path, what: str) -> Section:
        """The top level of a file. Raises BadInputError when it is missing, not YAML, or not a mapping."""
        if not file.is_file():
            raise BadInputError(f"No {what} at {file}. Download it, or correct the folder given to --checkpoints.")
        try:
            value = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise BadInputError(f"{file} is not a readable {what}: {reason}. Download it again.") from error
        if not isinstance(value, dict):
            raise BadInputError(f"{file} is not a {what}: it holds no keys. Download it again.")
        return cls(value, file)

    def fault(self, key: str, expected: str, why: str = "") -> BadInputError:
        """The error for one key, with its value and what is expected."""
        place = f"{self.key}.{key}" if self.key and key else self.key or key
        found = repr(self._value[key]) if key in self._value else "nothing"
        found = found if len(found) <= 80 else found[:77] + "..."
        reason = f" ({why})" if why else ""
        return BadInputError(f"{self.file}: {place} must be {expected}{reason}, found {found}.")

    def has(self, key: str) -> bool:
        """Whether the key is there with a value other than null."""
        return self._value.get(key) is not None

    def _take(self, key: str, default: Any, expected: str) -> Any:
        self._unread.discard(key)
        if key in self._value:
            return self._value[key]
        if default is _ABSENT:
            raise self.fault(key, expected)
        return default

    def section(self, key: str) -> Section:
        value = self._take(key, _ABSENT, "a mapping")
        if not isinstance(value, dict):
            raise self.fault(key, "a mapping")
        return Section(value, self.file, f"{self.key}.{key}" if self.key else key)

    def names(self) -> tuple[str, ...]:
        """The keys, in the file's order."""
        return tuple(self._value)

    def items(self, key: str) -> list[Any]:
        """A list, unchecked."""
        value = self._take(key, _ABSENT, "a list")
        if not isinstance(value, list):
            raise self.fault(key, "a list")
        return value

    def sections(self, key: str) -> list[Section]:
        """A list of mappings."""
        value = self.items(key)
        if not all(isinstance(item, dict) for item in value):
            raise self.fault(key, "a list of mappings")
        return [Section(item, self.file, f"{self.key}.{key}[{i}]".lstrip(".")) for i, item in enumerate(value)]

    def text(self, key: str, default: str = _ABSENT) -> str:
        value = self._take(key, default, "a text")
        if not isinstance(value, str) or not value:
            raise self.fault(key, "a text")
        return value

    def integer(self, key: str, default: int = _ABSENT, *, least: int = 1) -> int:
        expected = f"a whole number of at least {least}"
        value = self._take(key, default, expected)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.fault(key, expected)
        return value

    def number(self, key: str, default: float = _ABSENT, *, least: float | None = None) -> float:
        expected = "a number" if least is None else f"a number of at least {least:g}"
        value = _number(self._take(key, default, expected))
        if value is None or (least is not None and value < least):
            raise self.fault(key, expected)
        return value

    def positive(self, key: str, default: float = _ABSENT) -> float:
        value = self.number(key, default)
        if value <= 0:
            raise self.fault(key, "a positive number")
        return value

    def numbers(self, key: str, count: int | None = None, default: Sequence[float] = _ABSENT) -> tuple[float, ...]:
        expected = "a list of numbers" if count is None else f"a list of {count} numbers"
        value = self._take(key, default, expected)
        found = [_number(item) for item in value] if isinstance(value, (list, tuple)) else []
        numbers = tuple(item for item in found if item is not None)
        if not numbers or len(numbers) != len(found) or count not in (None, len(numbers)):
            raise self.fault(key, expected)
        return numbers

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers of at least 1."""
        value = self._take(key, _ABSENT, "a list of whole numbers")
        right = isinstance(value, list) and value and all(type(item) is int and item >= 1 for item in value)
        if not right:
            raise self.fault(key, "a list of whole numbers")
        return tuple(value)

    def flag(self, key: str, default: bool = _ABSENT) -> bool:
        value = self._take(key, default, "true or false")
        if not isinstance(value, bool):
            raise self.fault(key, "true or false")
        return value

    def fixed(self, key: str, value: Any, default: Any = _ABSENT, *, why: str = "this runtime knows no other") -> None:
        """A setting of which only one value is supported."""
        if self._take(key, default, repr(value)) != value:
            raise self.fault(key, repr(value), why)

    def target(self, *known: str) -> str:
        """The class named by `_target_`, without its module."""
        name = self.text("_target_").rpartition(".")[2]
        if name not in known:
            raise self.fault("_target_", " or ".join(known), "this runtime knows no other")
        return name

    def done(self, *without_effect: str) -> None:
        """Refuse whatever was neither read nor is listed here as having no effect on the result."""
        left = sorted(self._unread - set(without_effect), key=str)
        if left:
            place = f"{self.key}.{left[0]}" if self.key else left[0]
            raise BadInputError(f"{self.file}: {place} is a setting this runtime does not know. Use the official file.")


def _number(value: Any) -> float | None:
    """A finite float; PyYAML reads 1e-3 as text, which the official loader does not."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
