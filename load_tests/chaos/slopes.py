"""Does a figure grow: a straight line through its samples, and how sure that is. Pure functions."""

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

BLOCKS = 24
"""Neighbouring samples are alike; their means over so many parts of the time are nearly independent."""
FEWEST = 4
SURE = 2.0
"""Standard errors from zero at which a slope is held to be one."""
MATTERS = 0.03
"""The part of its mean by which a figure must have grown in the time to be held to grow."""


NOISE = 1e-9
"""The part of its mean below which a change is one of rounding."""


class Trend(StrEnum):
    """What a slope says of a figure."""

    FLAT = "flat"
    """It does not surely grow."""
    SLOW = "grows slowly"
    """It surely grows, and in this time by less than matters."""
    GROWS = "GROWS"


class Slope(NamedTuple):
    """``per_hour`` and its standard error, the ``mean`` and the hours that were looked at."""

    mean: float
    per_hour: float
    error: float
    hours: float

    @property
    def trend(self) -> Trend:
        """Tell whether the figure surely grows, and whether by more than matters."""
        if self.per_hour <= max(SURE * self.error, NOISE * self.mean):
            return Trend.FLAT
        return Trend.GROWS if self.per_hour * self.hours > max(MATTERS * self.mean, 1.0) else Trend.SLOW


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the slope of values at times in seconds."""
    if len(times) < FEWEST:
        raise ValueError(f"{len(times)} samples tell nothing of a slope; at least {FEWEST} do.")
    hours, means = _blocks([at / 3600 for at in times], values)
    fit = statistics.linear_regression(hours, means)
    residuals = [y - (fit.intercept + fit.slope * x) for x, y in zip(hours, means, strict=True)]
    spread = sum((x - statistics.fmean(hours)) ** 2 for x in hours)
    error = math.sqrt(sum(r * r for r in residuals) / (len(hours) - 2) / spread)
    return Slope(statistics.fmean(values), fit.slope, error, (times[-1] - times[0]) / 3600)


def _blocks(times: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the means of neighbouring samples."""
    count = min(BLOCKS, len(times))
    cuts = [round(number * len(times) / count) for number in range(count + 1)]
    parts = [slice(*cut) for cut in pairwise(cuts)]
    return [statistics.fmean(times[part]) for part in parts], [statistics.fmean(values[part]) for part in parts]
