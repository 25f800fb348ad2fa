"""The README's first command does what it says, on a user's own folder too."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart.py"


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, QUICKSTART, *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_a_users_folder(tmp_path, digits):
    for index, (image, label) in enumerate(zip(*digits, strict=True)):
        if label in ("one", "two", "three"):
            folder = tmp_path / "photos" / label
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((image * 255).astype("uint8")).resize((40, 48))
            picture.save(folder / f"{index}.png")
    result = run("--images", "photos", "--draws", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "90 images of 3 classes: one, three, two" in result.stdout
    for row in (
        "tiny/ViT-4 alone",
        "average of probabilities",
        "AdaptiveBackboneEnsemble",
        "oracle",
    ):
        assert row in result.stdout
    assert len(result.stdout.splitlines()) < 30
    with Image.open(tmp_path / "quickstart.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(
    ("folders", "message"),
    [([], "There are no images in"), (["cat"], "Found 1 classes, the smallest with 1")],
)
def test_a_folder_that_is_too_small_is_explained(tmp_path, folders, message):
    (tmp_path / "photos").mkdir()
    for name in folders:
        (tmp_path / "photos" / name).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / "photos" / name / "1.png")
    result = run("--images", "photos", cwd=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
