"""Compiled programs are kept in .jax_cache, for the tests that come later, every worker and the next run."""

import os
from pathlib import Path

os.environ.setdefault("MEZIKD_CACHE", str(Path(__file__).parents[1] / ".jax_cache"))

from mezikd.inference.processor import keep_programs

keep_programs()
