"""The calculator computes what accountants write, and nothing that only a programmer would."""

import pytest

from examples.finance.calculator import CannotCalculate, calculate, shown


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("8,412 - 7,901", 511),
        ("(8,412 - 7,901) / 7,901 * 100", 6.467535),
        ("$1,496.5 + $44.1", 1540.6),
        ("-(3 + 4)", -7),
        ("(9.1 / 8.2) ** (1 / 3) - 1", 0.035323),
        ("1,234,567 * 2", 2469134),
        ("  7  ", 7),
        ("((((1))))", 1),
        ("9" * 199, 1e199),
    ],
)
def test_it_computes_figures_as_reports_print_them(expression: str, value: float) -> None:
    assert calculate(expression) == pytest.approx(value, rel=1e-4)


ESCAPES = {
    "a name": "x",
    "a builtin": "open",
    "a call": "print(1)",
    "an import": "__import__('os').system('true')",
    "an attribute": "(1).__class__",
    "a subclass walk": "().__class__.__mro__",
    "a subscript": "[1][0]",
    "a text": "'a' * 9",
    "a list": "[1, 2]",
    "a tuple": "1, 2",
    "a set": "{1}",
    "a lambda": "(lambda: 1)()",
    "a comprehension": "[x for x in (1,)]",
    "a walrus": "(x := 1)",
    "a comparison": "1 < 2",
    "a condition": "1 if 1 else 2",
    "a truth value": "True + 1",
    "nothing": "",
    "none": "None",
    "an ellipsis": "...",
    "a complex number": "1j",
    "bits": "1 << 60",
    "an inversion": "~1",
    "a remainder": "7 % 2",
    "a whole division": "7 // 2",
    "an f-string": "f'{1}'",
    "a starred name": "*1",
    "a statement": "x = 1",
    "several lines": "1\n2",
    "a zero byte": "1\0",
    "unicode digits": "\u0661 + \u0662",
    "fullwidth letters": "\uff4f\uff50\uff45\uff4e",
    "division by zero": "1 / 0",
    "a huge power": "9 ** 9 ** 9",
    "a tower of powers": "(9 ** 50) ** 50",
    "a power that is too high": "2 ** 1000",
    "a huge product": "1e308 * 10",
    "what is not finite": "1e309",
    "what is not a number": "1e309 - 1e309",
    "zero to a negative power": "0 ** -1",
    "a root of a negative number": "(-8) ** 0.5",
    "commas that part no thousands": "5,3",
    "deep signs": "-" * 150 + "1",
    "a long chain": "1" + "+1" * 90,
    "a number without end": "9" * 10_000,
    "a long text": "1 + " * 5000 + "1",
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_everything_else_is_refused_in_words_of_its_own(escape: str) -> None:
    with pytest.raises(CannotCalculate) as refused:
        calculate(ESCAPES[escape])
    assert str(refused.value)
    assert not ESCAPES[escape].strip() or ESCAPES[escape] not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "text"), [(511.0, "511"), (6.467535, "6.4675"), (-0.00001234, "-0.00001234"), (0.0, "0"), (-1e-12, "0")]
)
def test_results_are_short(value: float, text: str) -> None:
    assert shown(value) == text
