"""How the documentation is built: `make docs`. Warnings are errors, and so are links that lead nowhere."""

import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_extensions")]

# autodoc imports with TYPE_CHECKING set, which pydantic cannot take while FastAPI's own models are made.
import api.app  # noqa: E402, F401

project = "bitalloc"
copyright = "2026, the bitalloc developers"
version = release = metadata.version("bitalloc")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "generated_pages",
]
exclude_patterns = ["_build", "_extensions"]
html_theme = "furo"
html_title = "bitalloc"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# Names such as FloatArray say more than what they stand for.
autodoc_type_aliases = {
    name: name for name in ("FloatArray", "IntArray", "BoolArray", "Batch", "LossFunction", "Encode")
}
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are documented where the class is, once
# Every reference to something of ours must lead somewhere; other projects' names are left as they are.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!(allocator|quantize|sensitivity|api)\.).*"),
    (r"py:.*", r".*\.(Annotated|T)"),
]
# An annotation says Format, and two rooms have one.
suppress_warnings = ["ref.python"]
linkcheck_anchors = False
linkcheck_timeout = 20
