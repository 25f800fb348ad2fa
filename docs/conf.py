"""How the site is built: ``sphinx-build -W --keep-going -b html docs OUT``."""

import os
import re

from sphinx.pycode import ModuleAnalyzer

from sklearn_clipensemble import __version__

# Before anything imports the hub's client: the site is built without a network.
os.environ["HF_HUB_OFFLINE"] = "1"

project = "sklearn-clipensemble"
author = "The sklearn-clipensemble developers"
release = version = __version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "myst_parser",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "templates"]
templates_path = ["templates"]

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-clipensemble"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "whats_new": [], "paper": []}
copyright = author

# A block of code without a language is a command or a listing.
highlight_language = "none"
toc_object_entries_show_parents = "hide"
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autosummary_generate = True
# The docstrings say what types there are; spelt out in signatures, they hide the parameters.
autodoc_typehints = "none"
numpydoc_show_class_members = False

# Other projects' pages are asked for on the network, so only where that is wanted.
intersphinx_mapping = {}
if os.environ.get("CLIPENSEMBLE_INTERSPHINX"):
    intersphinx_mapping = {
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "python": ("https://docs.python.org/3", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
    }

sphinx_gallery_conf = {
    "backreferences_dir": "api/examples",
    "capture_repr": (),
    "doc_module": ("sklearn_clipensemble",),
    "download_all_examples": False,
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "ignore_pattern": r"(?<!plot_)(quickstart|embed_on_ray|make_gallery)\.py",
    "plot_gallery": True,
    "show_signature": False,
    "within_subsection_order": "sphinx_gallery.sorting.FileNameSortKey",
    "write_computation_times": False,
}

#: Files beside docs/ that pages link to, and the pages that they are on the site.
OUTSIDE = {
    "../README.md": "index.md",
    "../examples)": "auto_examples/index.rst)",
    "../CHANGELOG.md": "whats_new.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../sklearn_clipensemble/backbones/tiny/MODEL_CARD.md": "bundled_backbones.md",
}
OUTSIDE |= {
    f"../examples/{name}.py": f"auto_examples/{name}.rst"
    for name in (
        entry.name.removesuffix(".py")
        for entry in os.scandir(os.path.join(os.path.dirname(__file__), "..", "examples"))
        if entry.name.startswith("plot_")
    )
}


def link_to_pages(app, docname, source):
    """Let links that lead out of docs/ lead to the pages of the site."""
    for file, page in OUTSIDE.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")


def trim_code(app, docname, source):
    """Take the empty line away with which doctests end."""
    source[0] = re.sub(r"\n\n```$", "\n```", source[0], flags=re.MULTILINE)


def show_the_picture_first(app, docname, source):
    """Put an example's first picture above the code that draws it."""
    if not docname.startswith("auto_examples/plot_"):
        return
    picture = re.search(r"^\.\. image-sg::.*\n(?:   .*\n)+", source[0], re.MULTILINE)
    title = re.search(r"^=+\n.*\n=+\n", source[0], re.MULTILINE)
    title = title or re.search(r"^.*\n=+\n", source[0], re.MULTILINE)
    if picture and title:
        before, after = source[0][: title.end()], source[0][title.end() : picture.start()]
        source[0] = before + "\n" + picture[0] + after + source[0][picture.end() :]


def skip_what_is_not_ours(app, what, name, member, skip, options):
    """Leave methods of scikit-learn and of the standard library to their own documentation."""
    home = getattr(member, "__module__", None) or ""
    return True if home.split(".")[0] in ("sklearn", "builtins", "enum", "typing") else None


def keep_initials(app, what, name, obj, options, lines):
    """Keep a reference that begins with an initial, such as ``C. Guo``, from starting a list."""
    lines[:] = [re.sub(r"^( *[A-Z])\. (?=[A-Z])", r"\1\\. ", line) for line in lines]


def comment_what_is_imported(app):
    """Let tables keep the comments above them where a module imports them from a private one."""
    home, shown = map(
        ModuleAnalyzer.for_module,
        ("sklearn_clipensemble.backbones._registry", "sklearn_clipensemble.backbones"),
    )
    shown.attr_docs = shown.find_attr_docs() | home.find_attr_docs()


def setup(app):
    app.connect("autodoc-process-docstring", keep_initials)
    app.connect("builder-inited", comment_what_is_imported)
    app.connect("source-read", link_to_pages)
    app.connect("source-read", trim_code)
    app.connect("source-read", show_the_picture_first)
    app.connect("autodoc-skip-member", skip_what_is_not_ours)
