import string

from hypothesis import given
from hypothesis import strategies as st

from services.rpc import tokens

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
SPELLED = st.builds(
    tokens.Token,
    st.sampled_from([tokens.SENSOR, tokens.API]),
    st.text(BASE62, min_size=16, max_size=16),
    st.text(BASE62, min_size=43, max_size=43),
)


@given(SPELLED)
def test_a_token_survives_being_spelled(token: tokens.Token) -> None:
    assert tokens.parse_token(str(token)) == token


@given(SPELLED, st.data())
def test_any_single_typing_error_is_seen(token: tokens.Token, data: st.DataObject) -> None:
    text = str(token)
    place = data.draw(st.integers(0, len(text) - 1))
    wrong = data.draw(st.characters().filter(lambda character: character != text[place]))
    assert tokens.parse_token(text[:place] + wrong + text[place + 1 :]) is None


@given(st.text())
def test_other_text_is_no_token(text: str) -> None:
    assert tokens.parse_token(text) is None


def test_new_tokens_differ() -> None:
    assert len({str(tokens.new_token(tokens.API)) for _ in range(100)}) == 100
