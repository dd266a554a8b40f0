"""Typed values out of parsed JSON, which may hold anything: users edit these files, and disks damage them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

_T = TypeVar("_T")
_REQUIRED: Any = object()
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
MAX_WHOLE = 2**53  # every program reads whole numbers up to here exactly


def kind(value: Any) -> str:
    """What a JSON value is, e.g. "a list"."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


class _WrongValue(ValueError):
    """What one value is instead of what was expected: the predicate of a sentence about its field."""


class Fields:
    """The fields of one JSON object. Every method raises ValueError, which names the field and what it holds.

    A `default` is for a field that is missing or null; without one the field is required.
    """

    def __init__(self, value: Any, name: str = "") -> None:
        """name: of the object, for messages, e.g. "mask 3"; empty for the whole file."""
        if not isinstance(value, dict):
            raise ValueError(f"{name or 'the file'} is {kind(value)}, expected an object")
        self.value = value
        self._name = name

    def __contains__(self, key: str) -> bool:
        return self.value.get(key) is not None

    def text(self, key: str, default: _T = _REQUIRED) -> str | _T:
        return self._get(key, default, _text)

    def path(self, key: str, default: _T = _REQUIRED) -> str | _T:
        """A text that may hold bytes of a file name that are not UTF-8, as surrogates."""
        return self._get(key, default, lambda value: _text(value, "surrogateescape"))

    def number(self, key: str, default: _T = _REQUIRED) -> float | _T:
        """A finite number."""
        return self._get(key, default, _number)

    def whole(self, key: str, default: _T = _REQUIRED) -> int | _T:
        """A whole number from 0 to MAX_WHOLE."""
        return self._get(key, default, _whole)

    def array(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """Nested lists of finite numbers as a float64 array of this shape."""
        return self._get(key, _REQUIRED, lambda value: _array(value, shape))

    def fields(self, key: str, default: Any = _REQUIRED) -> Fields:
        return self._get(key, default, lambda value: Fields(value, self._path(key)))

    def rows(self, key: str, each: str) -> Iterator[Fields]:
        """The objects of a list; `each` names one of them in messages, e.g. "mask"."""
        found = self._get(key, _REQUIRED, _list)
        return (Fields(value, f"{each} {number}") for number, value in enumerate(found, start=1))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty if it is missing."""
        return tuple(self._get(key, [], lambda value: [_text(item) for item in _list(value)]))

    def each_text(self, key: str) -> dict[str, str]:
        """An object of texts; empty if it is missing."""
        fields = self.fields(key, Fields({}))
        return {name: fields.text(name) for name in fields.value}

    def each_number(self, key: str) -> dict[str, float]:
        fields = self.fields(key, Fields({}))
        return {name: fields.number(name) for name in fields.value}

    def each_whole(self, key: str) -> dict[str, int]:
        fields = self.fields(key, Fields({}))
        return {name: fields.whole(name) for name in fields.value}

    def _path(self, key: str) -> str:
        return f"{self._name}: {key}" if self._name else key

    def _get(self, key: str, default: Any, read: Callable[[Any], Any]) -> Any:
        value = self.value.get(key)
        if value is None and default is not _REQUIRED:
            return default
        try:
            return read(value)
        except _WrongValue as error:
            raise ValueError(f"{self._path(key)} {error}") from error


def _text(value: Any, errors: str = "strict") -> str:
    if not isinstance(value, str):
        raise _WrongValue(f"is {kind(value)}, expected text")
    try:
        value.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        raise _WrongValue("has half of a surrogate pair") from error
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _WrongValue(f"is {kind(value)}, expected a number")
    return float(value)  # `read_json` lets no infinite number through


def _whole(value: Any) -> int:
    if isinstance(value, float) or (type(value) is int and not 0 <= value <= MAX_WHOLE):
        raise _WrongValue(f"is {value:.6g}, expected a whole number from 0 on")
    if type(value) is not int:
        raise _WrongValue(f"is {kind(value)}, expected a whole number")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _WrongValue(f"is {kind(value)}, expected a list")
    return value


def _array(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not shape:
        return np.asarray(_number(value))
    if len(_list(value)) != shape[0]:
        raise _WrongValue(f"is a list of {len(value)}, expected {' x '.join(map(str, shape))} numbers")
    return np.stack([_array(item, shape[1:]) for item in value])
