"""The tests on several versions of the dependencies: ``pip install nox && nox``.

Install the project with its extra ``tests`` first, and nox beside it: the sessions see all that is
installed there, torch above all, and put only the versions that they are about in front of it.
"""

import os
import sysconfig
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


# Each with the SciPy of its time: on later ones, old scikit-learn warns, and warnings are errors.
SCIPY = {"1.6": "1.14", "1.7": "1.15", "1.8": "1.16", "1.9": "1.17"}


@nox.session
@nox.parametrize("version", list(SCIPY))
def scikit_learn(session, version):
    """Run the tests on one version of scikit-learn."""
    run(session, [f"scikit-learn=={version}.*", f"scipy=={SCIPY[version]}.*"])


@nox.session
def oldest(session):
    """Run the tests on the oldest versions that pyproject.toml states, of all but torch."""
    stated = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["plots"]
    run(session, [line.replace(">=", "==") for line in stated if not line.startswith("torch")])


def run(session, requirements):
    """Install requirements in front of what is installed beside nox, and run pytest."""
    site = session.run(
        "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True
    )
    Path(site.strip(), "shared.pth").write_text(sysconfig.get_path("purelib"))
    session.install(*requirements)
    session.run("python", "-m", "pytest", *session.posargs, env={"PYTHONPATH": os.getcwd()})
