from collections.abc import Iterator

import pytest

from facegan.features.extractors import EXTRACTORS, EfficientNetLite0
from small_extractor import NAME, SRC


@pytest.fixture(scope="module", autouse=True)
def real_extractor(small_extractor: None) -> Iterator[None]:
    """EfficientNet-Lite0 itself, in child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXTRACTORS, NAME, EfficientNetLite0)
        patch.setenv("PYTHONPATH", str(SRC))
        yield
