import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrft.data import TemplateError, render_template, template_fields
from agentrft.errors import UserError

ITEM = {"answer": "42", "key with space": "yes", "nested": {"list": [{"deep": 7}]}, "number": 1.5, "none": None}
SAMPLE = {"output_text": "forty-two", "output_tools": [{"function": {"name": "search", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ item.answer }}", "42"),
        ("{{item.answer}}", "42"),
        ("a {{ item.answer }} b {{ sample.output_text }} c", "a 42 b forty-two c"),
        ("{{sample.output_tools[0].function.name}}", "search"),
        ("{{ sample.output_tools[-1].function.name }}", "search"),
        ('{{ item["key with space"] }}', "yes"),
        ("{{ item['key with space'] }}", "yes"),
        ('{{ item["nested"]["list"][ 0 ].deep }}', "7"),
        ("no reference }} { here", "no reference }} { here"),
        ("", ""),
        ('{{ "{{" }} x }}', "{{ x }}"),
    ],
)
def test_a_reference_is_replaced_by_its_value(template: str, text: str) -> None:
    assert render_template(template, item=ITEM, sample=SAMPLE) == text


def test_values_that_are_not_strings_are_written_as_json() -> None:
    template = "{{ item.number }} {{ item.none }} {{ item.nested }} {{ item.flag }}"
    text = render_template(template, item={**ITEM, "flag": True, "nested": {"é": [1]}}, sample=None)
    assert text == '1.5 null {"é": [1]} true'


def test_values_are_never_rendered_again() -> None:
    assert render_template("{{ item.a }}", item={"a": "{{ item.b }}", "b": "secret"}, sample=None) == "{{ item.b }}"


def test_a_missing_key_names_the_key_the_path_and_the_keys_that_exist() -> None:
    with pytest.raises(TemplateError) as error:
        render_template("{{ item.nested.lisst[0] }}", item=ITEM, sample=None)
    assert "'item.nested'" in error.value.cause
    assert "'lisst'" in error.value.cause
    assert "'list'" in error.value.cause
    assert isinstance(error.value, UserError)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ item.nested.list[3] }}", "list of 1"),
        ("{{ item.answer.upper }}", "a string"),
        ("{{ item.answer[0] }}", "a string"),
        ("{{ item.nested[0] }}", "an object"),
        ("{{ item.nested.list.deep }}", "a list"),
        ("{{ item.none.x }}", "null"),
        ("{{ item.__class__ }}", "no key '__class__'"),
        ("{{ sample.output_text }}", "no 'sample' here"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match="(?s)" + message.replace("[", "\\[")):
        render_template(template, item=ITEM, sample=None)


@pytest.mark.parametrize(
    ("template", "position"),
    [
        ("{{ item.answer", "line 1 column 15"),
        ("{{", "line 1 column 3"),
        ("{{ }}", "line 1 column 4"),
        ("ok\n{{ answer }}", "line 2 column 4"),
        ("{{ item.my-key }}", "line 1 column 11"),
        ("{{ item..x }}", "line 1 column 9"),
        ("{{ item[x] }}", "line 1 column 9"),
        ("{{ item[0 }}", "line 1 column 11"),
        ("{{ item.answer | upper }}", "line 1 column 16"),
        ("{{ item.answer() }}", "line 1 column 15"),
    ],
)
def test_a_malformed_template_is_refused_with_its_position(template: str, position: str) -> None:
    for read in (template_fields, lambda text: render_template(text, item=ITEM, sample=SAMPLE)):
        with pytest.raises(TemplateError, match=position):
            read(template)


def test_template_fields_lists_each_reference_once_in_order() -> None:
    template = "{{ sample.output_tools[0]['function'].name }} {{item.b}} {{ item['a key'] }} {{ item.b }} {{ item }}"
    fields = ["sample.output_tools[0].function.name", "item.b", 'item["a key"]', "item"]
    assert template_fields(template) == fields


@given(st.text(min_size=1), st.text())
def test_any_key_can_be_reached_and_a_field_reads_back_as_itself(key: str, value: str) -> None:
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    template = '{{ item["' + quoted + '"] }}'
    assert render_template(template, item={key: value}, sample=None) == value
    assert render_template("{{ " + template_fields(template)[0] + " }}", item={key: value}, sample=None) == value


@given(st.dictionaries(st.text(), st.integers() | st.lists(st.text())))
def test_a_rendered_object_parses_back_to_itself(item: dict) -> None:
    assert json.loads(render_template("{{ item }}", item=item, sample=None)) == item


@given(st.text(alphabet="{}[]\"'.item sample0-\\\n"))
def test_arbitrary_text_renders_or_raises_a_template_error(template: str) -> None:
    try:
        render_template(template, item={"a": 1}, sample={})
    except TemplateError:
        pass
