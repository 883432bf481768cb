"""How the library words a refusal, and a package that is not there."""

import pytest

from sparseconv._errors import complain
from sparseconv._optional import require


def test_a_refusal_names_argument_expectation_finding_and_cure():
    assert complain("a", "b", 3) == "a: expected b, found 3"
    assert complain("a", "b", 3, "do c").endswith("found 3; do c")


def test_require_returns_what_is_there_and_says_how_to_get_what_is_not():
    assert require("json").dumps([]) == "[]"
    with pytest.raises(ImportError, match=r"no_such_package.*pip install 'sparseconv\[io\]'"):
        require("no_such_package.inner", extra="io")
    with pytest.raises(ImportError, match="pip install no_such_package"):
        require("no_such_package.inner")
