"""Numbers in messages and tables."""


def significant(value: float, digits: int) -> str:
    """`value` rounded to significant digits, without an exponent below a million.

    >>> significant(19.6, 1), significant(-0.0123, 2)
    ('20', '-0.012')
    """
    return f"{float(f'{value:.{digits}g}'):g}"
