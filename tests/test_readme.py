"""The README's code and its commands run, with the bundled backbones in place of large ones."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sklearn_clipensemble._command_line import main

ROOT = Path(__file__).parents[1]
SMALL = '["tiny/RN-1221", "tiny/ViT-4"]'


def blocks(page, language):
    """Return the code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits):
    """A folder with photos of three classes."""
    home = tmp_path_factory.mktemp("home")
    for label in ("one", "two", "seven"):
        (home / "photos" / label).mkdir(parents=True)
        for row in np.flatnonzero(digits[1] == label)[:13]:
            picture = Image.fromarray((digits[0][row] * 255).astype("uint8")).resize((40, 48))
            picture.save(home / "photos" / label / f"{row}.png")
    (home / "new_photos").symlink_to(home / "photos", target_is_directory=True)
    return home


def test_the_code_of_the_readme(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    code = "".join(blocks(ROOT / "README.md", "python"))
    code = code.replace('"openai-small"', SMALL).replace('"ViT-B-32", "RN50"', '"tiny/RN-1221"')
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert float(printed[0]) > 0.5
    assert printed[-1].startswith("4 ")
    assert len(names["search"].cv_results_["params"]) == 4
    assert (home / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("page", ["README.md", "docs/command_line.md"])
def test_the_commands_of_a_page(page, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    lines = [
        line
        for block in blocks(ROOT / page, "sh")
        for line in block.splitlines()
        if line.startswith("clipensemble ")
    ]
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line.replace("--shots 16", "--shots 4"))[1:]
        if words[0] in ("fit", "embed"):
            words += ["--backbones", "tiny/RN-1221", "tiny/ViT-4"]
        assert main(words) == 0, (line, capsys.readouterr().err)


def test_the_links_of_the_readme_lead_somewhere():
    page = ROOT / "README.md"
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match("https?:", target):
            continue
        path, _, anchor = target.partition("#")
        heads = (
            re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.M)
            if anchor
            else []
        )
        slugs = [re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads]
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in slugs, target
