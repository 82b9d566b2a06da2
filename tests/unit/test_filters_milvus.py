"""Milvus expressions select what a filter selects, whatever Milvus means by a negation."""

from __future__ import annotations

import json
import operator
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.attributes import clean_attributes
from storage.filter_parser import parse_filter
from storage.filters import matches, type_name
from storage.filters_milvus import expression
from tests.support.filter_examples import ATTRIBUTES, FILTERS, about

_TOKENS = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|&&|\|\||[<>=]=|[<>()\[\],]|not|in|exists|[a-z_]+|-?[\d.]+(?:e[-+]?\d+)?)'
)
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_MISSING = object()
Truth = bool | None  # None is unknown


class Evaluator:
    """Evaluates an expression for one row, as Milvus 2.3 or, with ``unknown`` None, as 2.6.

    ``unknown`` is the truth value of a comparison with a missing or differently typed key.
    """

    def __init__(self, text: str, attributes: dict[str, Any], unknown: Truth) -> None:
        self._tokens = _TOKENS.findall(text)
        assert "".join(self._tokens) == re.sub(r'("(?:[^"\\]|\\.)*")|\s', r"\1", text)
        self._attributes = attributes
        self._unknown = unknown

    def evaluate(self) -> Truth:
        value = self._disjunction()
        assert not self._tokens
        return value

    def _accept(self, token: str) -> bool:
        found = bool(self._tokens) and self._tokens[0] == token
        if found:
            self._tokens.pop(0)
        return found

    def _disjunction(self) -> Truth:
        values = [self._conjunction()]
        while self._accept("||"):
            values.append(self._conjunction())
        return True if True in values else None if None in values else False

    def _conjunction(self) -> Truth:
        values = [self._negation()]
        while self._accept("&&"):
            values.append(self._negation())
        return False if False in values else None if None in values else True

    def _negation(self) -> Truth:
        if self._accept("not"):
            value = self._negation()
            return None if value is None else not value
        if self._accept("("):
            value = self._disjunction()
            assert self._accept(")")
            return value
        return self._comparison()

    def _comparison(self) -> Truth:
        if self._accept("exists"):
            return self._field() is not _MISSING
        if self._accept("json_contains"):
            assert self._accept("(")
            value = self._field()
            assert self._accept(",")
            wanted = self._literal()
            assert self._accept(")")
            if not isinstance(value, list):
                return self._unknown
            return any(_same(item, wanted) for item in value)
        value = self._field()
        if self._accept("in"):
            assert self._accept("[")
            listed = [self._literal()]
            while self._accept(","):
                listed.append(self._literal())
            assert self._accept("]")
            comparable = any(type_name(value) == type_name(one) for one in listed)
            found = any(_same(value, one) for one in listed)
            return found if value is not _MISSING and comparable else self._unknown
        sign, wanted = self._tokens.pop(0), self._literal()
        if value is _MISSING or type_name(value) != type_name(wanted):
            return self._unknown
        return _same(value, wanted) if sign == "==" else _COMPARE[sign](value, wanted)

    def _field(self) -> object:
        name = self._tokens.pop(0)
        if name == "id":
            return "the id of a master"
        assert name == "attributes"
        value: object = self._attributes
        while self._tokens[:1] == ["["]:
            self._tokens.pop(0)
            key = self._literal()
            assert self._accept("]")
            inside = isinstance(value, dict) and key in value
            value = value[key] if inside else _MISSING  # type: ignore[index]
        return value

    def _literal(self) -> Any:
        return json.loads(self._tokens.pop(0))


def _same(value: object, wanted: object) -> bool:
    return type_name(value) == type_name(wanted) and value == wanted


def selected(text: str, attributes: dict[str, Any], unknown: Truth) -> bool:
    return not text or Evaluator(text, attributes, unknown).evaluate() is True


@settings(deadline=None, max_examples=300)
@given(
    masters=st.lists(ATTRIBUTES, min_size=1, max_size=6),
    forms=st.lists(FILTERS, min_size=1, max_size=6),
)
def test_every_master_that_matches_is_selected_under_both_meanings_of_a_negation(
    masters: list[dict[str, Any]], forms: list[dict[str, Any]]
) -> None:
    kept = [clean_attributes(attributes) for attributes in masters]
    for form in forms + [form for attributes in kept for form in about(attributes)]:
        parsed = parse_filter(form)
        text = expression(parsed)
        for attributes in kept:
            for unknown in (False, None):
                if matches(parsed, attributes):
                    assert selected(text, attributes, unknown), (form, text, attributes)


@settings(deadline=None, max_examples=100)
@given(masters=st.lists(ATTRIBUTES, min_size=1, max_size=6))
@example([{"a": {}}, {"a": ""}])
def test_without_a_negation_nothing_else_is_selected(masters: list[dict[str, Any]]) -> None:
    kept = [clean_attributes(attributes) for attributes in masters]
    for form in [form for attributes in kept for form in about(attributes)]:
        if not re.search(r"\$(n|like)", json.dumps(form)):  # of a pattern, only the start is sent
            parsed = parse_filter(form)
            text = expression(parsed)
            for attributes in kept:
                assert selected(text, attributes, None) == matches(parsed, attributes), form


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"a": {"$ne": 1}}, ""),
        ({"a": {"$exists": False}}, ""),
        ({"$not": {"$not": {"a": 1}}}, '(attributes["a"] == 1)'),
        ({"a": 1, "b": {"$nin": [1]}}, '(attributes["a"] == 1)'),
        ({"$or": [{"a": 1}, {"b": {"$ne": 1}}]}, ""),
        ({"$not": {"a": 1, "b": {"$ne": 2}}}, ""),
        ({"$not": {"$or": [{"a": 1}, {"b": {"$ne": 2}}]}}, '(attributes["b"] == 2)'),
        ({"a": {"$in": []}}, 'id in [""]'),
        ({"a": {"$nin": []}}, ""),
        ({"a": {"$prefix": "re"}}, '(attributes["a"] >= "re" && attributes["a"] < "rf")'),
        (
            {"a": {"$prefix": "\ud7ff"}},
            '(attributes["a"] >= "\ud7ff" && attributes["a"] < "\ue000")',
        ),
        (
            {"a": {"$prefix": "a\U0010ffff"}},
            '(attributes["a"] >= "a\U0010ffff" && attributes["a"] < "b")',
        ),
        ({"a": {"$prefix": "\U0010ffff"}}, '(attributes["a"] >= "\U0010ffff")'),
        ({"a": {"$like": "%re"}}, '(attributes["a"] >= "")'),
        ({"a": {"$prefix": ""}}, '(attributes["a"] >= "")'),
        ({"a": {"$like": "re_"}}, '(attributes["a"] >= "re" && attributes["a"] < "rf")'),
        ({"a": {"$not": {"$prefix": "re"}}}, ""),
    ],
)
def test_only_what_holds_without_a_negation_is_sent(form: dict[str, Any], text: str) -> None:
    assert expression(parse_filter(form)) == text
