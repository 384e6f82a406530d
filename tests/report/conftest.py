"""Training curves shared by the tests of the report."""

import pytest

from .examples import make_curves


@pytest.fixture(scope="session")
def curves():
    return make_curves()
