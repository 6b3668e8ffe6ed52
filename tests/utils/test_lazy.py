import importlib
import pkgutil

import pytest

import attendgen
from attendgen.utils.lazy import attach


def test_public_names_are_imported_when_used():
    get, names = attach("attendgen.utils", {"UserError": "errors", "read_text": "files"})
    from attendgen.utils.errors import UserError

    assert get("UserError") is UserError
    assert names() == ["UserError", "read_text"]
    with pytest.raises(AttributeError, match=r"module 'attendgen\.utils' has no attribute 'other'"):
        get("other")


PACKAGES = [module.name for module in pkgutil.iter_modules(attendgen.__path__, "attendgen.") if module.ispkg]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_of_a_package_is_there(name):
    package = importlib.import_module(name)
    for public in getattr(package, "__all__", []):
        assert getattr(package, public) is not None
