"""Settings are frozen dataclasses with plain values; each value has the type of its default."""

import math
from collections.abc import Mapping
from dataclasses import fields

from .errors import ConfigError

ABOVE_0, BELOW_1 = math.ulp(0.0), math.nextafter(1.0, 0.0)  # as limits: the numbers next to these
WORDS = {ABOVE_0: "above 0", BELOW_1: "below 1"}


def settle(settings, choices: Mapping = {}, limits: Mapping = {}) -> None:
    """For `__post_init__` of a frozen dataclass: converts each field to its default's type (whole
    numbers to float, lists to tuple). Raises ConfigError for others, for a value that is not among
    the `choices` of its name, and for numbers outside the `limits` (low, high) of theirs."""
    for field in fields(settings):
        name = field.name
        value = _like(name, getattr(settings, name), field.default)
        if value not in choices.get(name, (value,)):
            raise ConfigError(f"{name}={value!r}: choose one of {choices[name]}")
        if name in limits:
            low, high = limits[name]
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(low <= number <= high for number in numbers):
                most = "" if high == math.inf else f" and {WORDS.get(high, f'at most {high}')}"
                raise ConfigError(f"{name}={value}: must be {WORDS.get(low, f'at least {low}')}"
                                  + most)
        object.__setattr__(settings, name, value)


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
