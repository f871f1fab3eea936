"""No form of a secret that an endpoint may say back is shown."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest

from agentrft.traffic import Redactor

URL = "http://tools.example/search"
SECRETS = [
    'say "friend" and enter',
    "slash/slash/slash/slash",
    "back\\slash\\and\\more",
    "geheimnis-für-später-ß",
    "秘密の鍵は三つあります",
    "emoji-😀-in-a-password",
    "a+b=c&d<e>f'g-12345",
    "percent%20and space 12",
]


def written(secret: str) -> list[str]:
    return [
        secret,
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        json.dumps(secret).replace("/", "\\/"),
        json.dumps({"output": json.dumps({"headers": {"X-Api-Key": secret}})}),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        html.escape(secret),
        repr({"x": secret}),
        secret.encode().decode("latin-1"),
    ]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_header_value_is_redacted_in_all_forms(secret: str) -> None:
    redactor = Redactor({"X-Api-Key": secret, "Authorization": f"Bearer {secret}"}, URL)
    for text in written(secret):
        for redacted in (redactor.message(f"you sent {text}!"), redactor.output(f"you sent {text}!")):
            assert redacted.startswith("you sent ") and text not in redacted, text
            assert secret not in redacted and json.dumps(secret)[1:-1] not in redacted


def test_credentials_of_a_url_are_redacted_as_they_are_sent() -> None:
    redactor = Redactor({}, "http://ana:corr%2Fect+horse%22battery@tools.example/search?sig=s%C3%A4cret-value")
    password = 'corr/ect+horse"battery'
    basic = base64.b64encode(f"ana:{password}".encode()).decode()
    echoed = json.dumps({"Authorization": f"Basic {basic}", "password": password, "sig": "säcret-value"})
    for redacted in (redactor.message(echoed), redactor.output(echoed)):
        for secret in (basic, password, json.dumps(password)[1:-1], "s\\u00e4cret-value"):
            assert secret not in redacted
    assert "ana" in redactor.output("asked by ana")


def test_a_token_in_place_of_a_user_is_redacted() -> None:
    redactor = Redactor({}, "https://ghp_0123456789abcdef@tools.example/")
    basic = base64.b64encode(b"ghp_0123456789abcdef:").decode()
    assert redactor.output(f"ghp_0123456789abcdef Basic {basic}") == "[redacted] Basic [redacted]"


def test_what_basic_stands_for_is_redacted_too() -> None:
    header = "Basic " + base64.b64encode(b"ana:correct horse battery").decode()
    redactor = Redactor({"Authorization": header}, URL)
    said = "user ana, password correct horse battery"
    assert redactor.output(said) == "user ana, password [redacted]"


def test_ordinary_words_and_types_stay() -> None:
    redactor = Redactor({"X-Tenant": "berlin", "Content-Type": "application/json"}, URL)
    assert redactor.output("berlin: application/json") == "berlin: application/json"


def test_parameters_of_a_url_that_are_no_secrets_stay_in_an_answer() -> None:
    redactor = Redactor({}, f"{URL}?api-version=2024-10-21&index=wikipedia&limit=10000000&code=abcdefgh12")
    answer = json.dumps({"source": "wikipedia", "published": "2024-10-21", "total": 10000000, "code": "abcdefgh12"})
    assert json.loads(redactor.output(answer)) == {
        "source": "wikipedia",
        "published": "2024-10-21",
        "total": 10000000,
        "code": "[redacted]",
    }


def test_a_key_of_digits_is_not_looked_for_inside_of_numbers() -> None:
    redactor = Redactor({"X-Api-Key": "12345678"}, URL)
    assert redactor.output('{"value": 0.123456789, "n": 91234567812}') == '{"value": 0.123456789, "n": 91234567812}'
    assert redactor.output('you sent "12345678", or key=12345678.') == 'you sent "[redacted]", or key=[redacted].'
