"""Fixtures of the tests that trace."""

import pytest
from jaxtyping import config


@pytest.fixture(scope="module")
def sizes_left_open():
    """Signatures are not checked meanwhile: a check looks at sizes, which a trace must leave open."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
