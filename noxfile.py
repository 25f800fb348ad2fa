"""The tests on several versions of the dependencies: ``pip install nox && nox``.

Install the project with its extra ``tests`` first, and nox beside it: the sessions see all that is
installed there, torch above all, and put only the versions that they are about in front of it.
"""

import os
import re
import sysconfig
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


# Each with the SciPy and the polars of its time: old scikit-learn warns on later SciPy, and warnings
# are errors; it reads polars through a protocol that polars 1.40 gave up.
OF_ITS_TIME = {
    "1.6": ["scipy==1.14.*", "polars<1.40"],
    "1.7": ["scipy==1.15.*", "polars<1.40"],
    "1.8": ["scipy==1.16.*", "polars<1.40"],
    "1.9": [],
}


@nox.session
@nox.parametrize("version", list(OF_ITS_TIME))
def scikit_learn(session, version):
    """Run the tests on one version of scikit-learn."""
    run(session, [f"scikit-learn=={version}.*", *OF_ITS_TIME[version]])


@nox.session
def oldest(session):
    """Run the tests on the oldest versions that pyproject.toml states, of all but torch.

    What they leave untested is counted: ``setup.cfg`` has the least share that must be tested.
    """
    extras = PROJECT["optional-dependencies"]
    stated = PROJECT["dependencies"] + extras["plots"] + extras["ray"]
    pinned = [re.sub(">=([^,]+).*", r"==\1", line) for line in stated]
    # torch is shared; the newest datasets reads no older pyarrow than 19.
    pinned = [line for line in pinned if not line.startswith(("torch", "pyarrow"))]
    run(session, [*pinned, "polars<1.40", "pyparsing<3.2", "pyarrow<20"])
    session.run("python", "-m", "coverage", "report", "--skip-covered")


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def pythons(session):
    """Install the project anew and run the tests; Pythons that are not there are skipped."""
    session.install(".[tests,plots]")
    session.run("python", "-m", "pytest", *session.posargs)


def run(session, requirements):
    """Install requirements in front of what is installed beside nox, run pytest, count coverage."""
    site = session.run(
        "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True
    )
    Path(site.strip(), "shared.pth").write_text(sysconfig.get_path("purelib"))
    session.install(*requirements)
    # Old scikit-learn hands the checks to pytest in a generator, which new pytest warns of.
    quiet = "ignore:Passing a non-Collection iterable::"
    pytest = ["coverage", "run", "-m", "pytest", "-W", quiet, *session.posargs]
    session.run("python", "-m", *pytest, env={"PYTHONPATH": os.getcwd()})
