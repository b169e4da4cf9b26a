"""How figures are written, wherever they are."""


def number(value: float | None) -> str:
    """Return a value in three digits, or in whole ones; None is what never came to be."""
    if value is None:
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def cores(value: float) -> str:
    """Return how many cores were used; a difference of two counts may be a billionth."""
    return number(round(value, 3))
