import pytest

from attendgen.utils.lazy import attach


def test_public_names_are_imported_when_used():
    get, names = attach("attendgen.utils", {"UserError": "errors", "read_text": "files"})
    from attendgen.utils.errors import UserError

    assert get("UserError") is UserError
    assert names() == ["UserError", "read_text"]
    with pytest.raises(AttributeError, match=r"module 'attendgen\.utils' has no attribute 'other'"):
        get("other")
