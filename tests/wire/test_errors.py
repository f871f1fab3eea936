"""What errors quote can be printed and stored, whatever it was."""

from agentrft.errors import EndpointError, UserError, describe


def test_halves_of_surrogate_pairs_in_a_message_are_replaced() -> None:
    for kind in (UserError, EndpointError):
        error = kind("the file '\ud83d.yaml' is none", "Rename \udc00.")
        assert (error.cause, error.remedy) == ("the file '\ufffd.yaml' is none", "Rename \ufffd.")
        assert str(error).encode().decode() == f"{error.cause}\n{error.remedy}"
    assert describe(ValueError("\ud83d")) == "ValueError: \ufffd"
