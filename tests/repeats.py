"""How often tests of races and kills repeat them."""

import os

REPEATS = int(os.environ.get("FACEGAN_REPEATS", "1"))
