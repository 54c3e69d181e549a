"""Tables in, tables and reports out: this half runs without torch, pyro, image libraries, Word or a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
REFUSED = ("torch", "pyro", "safetensors", "nibabel", "nilearn", "cc3d", "docx", "dask", "distributed")

#: Runs verbs one after the other in a process that cannot import what the extras install; prints every exit code.
WITHOUT_EXTRAS = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
from causalms.cli.main import main
for line in sys.stdin.read().splitlines():
    try:
        main(line.split())
    except SystemExit as end:
        print("ended", line.split()[0], end.code)
        print(f"ended {{line.split()[0]}}", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Participants and expected outcomes of 80 patients under two drugs."""
    place, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(1)
    people = pd.DataFrame(
        {
            "participant_id": [f"sub-{number:03d}" for number in range(80)],
            "trial": "HEAD-TO-HEAD",
            "arm": ["teriflunomide", "fingolimod"] * 40,
            "age": rng.uniform(20, 50, 80).round(1),
            "sex": np.where(np.arange(80) // 2 % 2, "F", "M"),
        }
    )
    people["net2_lesions_week48"] = rng.poisson(np.where(people["arm"] == "fingolimod", 2, 4))
    people.to_csv(place / "people.csv", index=False)
    worlds = [
        people[["participant_id", "trial"]].assign(
            arm=arm,
            arm_randomised=people["arm"],
            visit_week=48,
            query="interventional",
            query_id="q",
            expected_net2_lesions=mean * np.exp(0.02 * (people["age"] - 35)),
            expected_net2_volume_ml=0.5,
            activity_probability=0.8,
            dispersion=0.5,
        )
        for arm, mean in (("teriflunomide", 4.0), ("fingolimod", 2.1))
    ]
    pd.concat(worlds).to_csv(place / "expected.csv", index=False)
    return place


def _run(tables: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHOUT_EXTRAS]
    return subprocess.run(
        command, input="\n".join(lines), cwd=tables, env=environment, capture_output=True, text=True, check=True, timeout=300
    )


def test_five_verbs_run_on_tables_without_any_extra(tables: Path) -> None:
    observed = "people.csv --outcome net2_lesions_week48 --reference teriflunomide"
    ended = _run(
        tables,
        f"effects {observed} --adjust age --out effects.csv",
        "effects expected.csv --reference teriflunomide --out simulated.csv",
        f"subgroups {observed} --by sex --out subgroups.csv",
        "calibrate expected.csv --observed people.csv --repetitions 19 --out calibration.csv",
        "agree expected.csv --observed people.csv --reference teriflunomide --out agreement.csv --figure agreement.png",
        "report report.html effects.csv simulated.csv subgroups.csv calibration.csv agreement.csv",
    )
    codes = [line for line in ended.stdout.splitlines() if line.startswith("ended")]
    verbs = ("effects", "effects", "subgroups", "calibrate", "agree", "report")
    assert codes == [f"ended {verb} 0" for verb in verbs], ended.stderr
    assert "fingolimod" in (tables / "report.html").read_text()


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("demo --out demo", "all"),
        ("simulate trial --patients 4", "images"),
        ("check .", "images"),
        ("lesions mask.nii.gz --out lesions.csv", "images"),
        ("train trial --out model.safetensors", "model"),
        ("forecast trial --out forecast", "model"),
        ("query people.csv --do fingolimod --out draws.csv", "model"),
        ("effects people.csv --outcome net2_lesions_week48 --reference teriflunomide --publication table.docx", "publish"),
    ],
)
def test_a_verb_without_its_extra_says_in_one_line_what_installs_it(tables: Path, line: str, extra: str) -> None:
    ended = _run(tables, line)
    assert ended.stdout.splitlines()[-1] == f"ended {line.split()[0]} 1"
    errors = [text for text in ended.stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].endswith(f'is not installed; install it with: pip install "causalms[{extra}]"')


def test_a_room_without_its_extra_says_so_in_python_too(tables: Path) -> None:
    code = WITHOUT_EXTRAS.partition("from causalms.cli")[0] + "import causalms\ncausalms.generator"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert 'pip install "causalms[' in ended.stderr.splitlines()[-1]


def test_the_core_names_none_of_the_packages_of_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {name.partition(">")[0].partition("[")[0] for name in project["dependencies"]}
    assert not core & {"torch", "pyro-ppl", "safetensors", "nibabel", "nilearn", "connected-components-3d", "python-docx", "dask"}
