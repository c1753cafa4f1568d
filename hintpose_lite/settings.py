"""Settings are frozen dataclasses with plain values; each value has the type of its default."""

import math
from dataclasses import fields

from .errors import ConfigError


def settle(settings, **choices: tuple) -> None:
    """For `__post_init__` of a frozen dataclass: each field into its default's type (whole numbers
    pass as floats, lists as tuples), and among its `choices`. Raises ConfigError for others."""
    for field in fields(settings):
        value = _like(field.name, getattr(settings, field.name), field.default)
        if value not in choices.get(field.name, (value,)):
            raise ConfigError(f"{field.name}={value!r}: choose one of {choices[field.name]}")
        object.__setattr__(settings, field.name, value)


def _like(name: str, value, default):
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(_like(name, element, default[0]) for element in value)
    if isinstance(default, float) and type(value) in (int, float):
        if not math.isfinite(value):
            raise ConfigError(f"{name}={value}: must be finite")
        return float(value)
    if type(value) is type(default):
        return value
    raise ConfigError(f"{name}={value!r}: expected something like {default!r}")
