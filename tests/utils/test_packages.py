from attendgen.utils.packages import require_packages
from helpers.errors import refusal


def test_missing_package_is_refused_with_its_extra():
    require_packages({"torch": "captions"})
    message = refusal(require_packages, {"torch": "captions", "absent_package": "metrics"})
    assert message == "absent_package is not installed; run pip install 'attendgen[metrics]'"
