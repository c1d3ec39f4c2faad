"""What the parser makes of the values of a constructor's parameters: scalars, paths, objects, or code to import."""

import inspect
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cache
from os import PathLike
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_SCALARS = (str, int, float, NoneType, Enum, PathLike, timedelta)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What the parser makes of the values of a parameter.

    Args:
        classes: Classes of which a mapping gives an object.
        names_code: Whether a text may be an import path, or a file with a further configuration.
        is_path: Whether a text is a path.
        text: Whether a text stays one; otherwise it may hold mappings and lists.
        default: Value that it has without a configuration.
    """

    classes: tuple[type, ...] = ()
    names_code: bool = False
    is_path: bool = False
    text: bool = False
    default: Any = None

    def is_default(self, value: Any) -> bool:
        """Whether a value says what is so without it; the parser writes functions as their import path."""
        if inspect.isfunction(self.default):
            return bool(value == f"{self.default.__module__}.{self.default.__qualname__}")
        return type(value) is type(self.default) and bool(value == self.default)


@cache
def parameters_of(chosen: Any) -> dict[str, Parameter]:
    """The parameters of a class, with those of its bases, to which constructors hand on what they do not know."""
    hints: dict[str, list[Any]] = {}
    defaults: dict[str, Any] = {}
    for base in inspect.getmro(chosen) if isinstance(chosen, type) else ():
        constructor = vars(base).get("__init__")
        if not inspect.isfunction(constructor):
            continue
        for name, parameter in inspect.signature(constructor).parameters.items():
            hints.setdefault(name, []).append(_hint(constructor, parameter.annotation))
            defaults.setdefault(name, parameter.default)
    return {name: _parameter(types, defaults[name]) for name, types in hints.items()}


def _hint(constructor: Callable[..., None], annotation: Any) -> Any:
    """The type of a parameter; `type` where it cannot be known, which takes import paths."""
    if annotation is inspect.Parameter.empty:
        return type
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__={"it": annotation}), inspect.unwrap(constructor).__globals__
        )["it"]
    except NameError:  # imported for type checkers only
        return type


def _parameter(hints: Collection[Any], default: Any) -> Parameter:
    alternatives = [kind for hint in hints for kind in _alternatives(hint)]
    others = [kind for kind in alternatives if not (isinstance(kind, type) and issubclass(kind, _SCALARS))]
    objects = [kind for kind in others if not _is_container(kind)]
    return Parameter(
        classes=tuple(kind for kind in objects if _is_base(kind)),
        names_code=bool(objects),
        is_path=any(isinstance(kind, type) and issubclass(kind, PathLike) for kind in alternatives),
        text=not others,
        default=default,
    )


def _alternatives(hint: Any) -> Iterator[Any]:
    """The types that a type is made of, containers among them."""
    origin = get_origin(hint)
    if origin is Literal:
        yield str
    elif origin in (None, type, Callable):
        yield origin or hint
    else:
        if origin not in (Union, UnionType):
            yield origin
        for argument in get_args(hint):
            yield from _alternatives(argument)


def _is_container(kind: Any) -> bool:
    if kind in (Any, object, Ellipsis, list, dict, tuple, set, frozenset):
        return True
    return (
        isinstance(kind, type) and kind.__module__.startswith("collections") and issubclass(kind, Iterable | Container)
    )


def _is_base(kind: Any) -> bool:
    return isinstance(kind, type) and kind not in (type, Callable) and not getattr(kind, "_is_protocol", False)
