"""Tokens as they are read: without the marks of their tokenizer, and with the blanks between them."""

from collections.abc import Sequence

from attendgen.text.subwords import MARKER
from attendgen.text.tokenizers import JOINER
from attendgen.utils.special_tokens import SPECIALS


def lay_out(tokens: Sequence[str], text: str | None = None) -> list[tuple[str, str]]:
    """Return what stands before each token in a text, and the token as it is read: a blank or nothing, and its text.

    Tokens are characters, subwords, or words of which marks show where they touch.

    Args:
        text: of all tokens, if it is known; it tells characters from words of one letter.
    """
    written = [token for token in tokens if token not in SPECIALS]
    if any(MARKER in token for token in written):
        return [
            (" ", token[1:]) if len(token) > 1 and token[0] == MARKER else ("", spell_token(token)) for token in tokens
        ]
    if all(len(token) == 1 for token in written) and text in (None, "".join(written)):
        return [("", token) for token in tokens]
    pieces = []
    touches = True  # at the beginning
    for token in tokens:
        gap = "" if touches or token.startswith(JOINER) else " "
        pieces.append((gap, spell_token(token)))
        touches = len(token) > 1 and token.endswith(JOINER)
    return pieces


def spell_token(token: str) -> str:
    """Return a token without the marks of its tokenizer."""
    bare = token.replace(JOINER, "") or token
    return bare.replace(MARKER, " ")


def find_phrase(tokens: Sequence[str], phrase: str, text: str | None = None) -> list[range]:
    """Return where a word or phrase stands among tokens: the runs of tokens that spell it, from blank to blank.

    Capitals do not matter.

    Args:
        text: see `lay_out`.
    """
    pieces = lay_out(tokens, text)
    wanted = " ".join(phrase.lower().split())
    found = []
    for begin in range(len(pieces)):
        run = ""
        for end in range(begin, len(pieces)):
            gap, piece = pieces[end]
            run += (gap if end > begin else "") + piece.lower()
            if run == wanted and is_word(pieces, begin, end + 1):
                found.append(range(begin, end + 1))
            if not wanted.startswith(run):
                break
    return found


def is_word(pieces: Sequence[tuple[str, str]], begin: int, end: int) -> bool:
    """Return whether pieces of a text are not a part of a longer word."""
    before = pieces[begin - 1][1][-1:] if begin and not pieces[begin][0] else ""
    after = pieces[end][1][:1] if end < len(pieces) and not pieces[end][0] and pieces[end][1] not in SPECIALS else ""
    return not before.isalnum() and not after.isalnum()
