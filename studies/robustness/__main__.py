"""Put 1,000 damaged inputs of every kind to the verbs that read them; count how each run ends.

python -m studies.robustness --out studies/results/robustness
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

from causalms.stats import keyed_generator
from causalms.tables import write_table
from studies.common import out_option, seed_option, workers_option
from studies.robustness import checkpoints, files, images, tables
from studies.robustness.argued import why_right
from studies.robustness.command import Ended, listed, load_everything, start, wait
from studies.robustness.damage import DAMAGES, Damage
from studies.robustness.undamaged import FORMATS, Bed, interrupted_training, make_bed, write
from studies.robustness.verbs import QUESTIONS, SHARES, Question
from studies.robustness.verdict import ENDS, verdict

ONE_OTHER_FORM = {
    **dict.fromkeys(("policy", "plan", "design"), "yaml"),
    "mask": "nii",
    **dict.fromkeys(("checkpoint", "shipped"), "safetensors"),
    "run": "resume.safetensors",
    "trial": "",
}
assert all((checkpoints, files, images, tables)), "the damages are entered when their files are imported"


@dataclass(frozen=True)
class Case:
    """One damaged input and the question put to it."""

    number: int
    kind: str
    form: str
    damage: Damage | None
    question: Question


def cases(inputs: int, kinds: tuple[str, ...]) -> list[Case]:
    """Inputs of every kind by its share; damages, formats and questions of a kind are gone through in turn."""
    whole, made = sum(SHARES[kind] for kind in kinds), []
    for kind in kinds:
        forms = FORMATS[kind] if kind in FORMATS else (ONE_OTHER_FORM[kind],)
        pairs = [(each, form) for form in forms for each in damages_of(kind, form)]
        number = max(1, round(inputs * SHARES[kind] / whole))
        order = keyed_generator("robustness", kind).permutation(len(pairs))
        for place in range(number):
            each, form = pairs[int(order[place % len(pairs)])]
            made.append(Case(len(made), kind, form, each, QUESTIONS[kind][place % len(QUESTIONS[kind])]))
    return made


def damages_of(kind: str, form: str) -> list[Damage]:
    """Damages that are made for a kind of input in a format."""
    return [each for each in DAMAGES if {kind, f"{kind}.{form}"} & set(each.kinds)]


def made(case: Case, bed: Bed, seed: int, folder: Path) -> tuple[Case, list[str]]:
    """Lay the input into a folder; where the format cannot hold the damage (a word in a Stata number), the next damage."""
    choice = damages_of(case.kind, case.form)
    first = 0 if case.damage is None else choice.index(case.damage)
    for step in range(len(choice)):
        one = case if case.damage is None else replace(case, damage=choice[(first + step) % len(choice)])
        try:
            return one, prepare(one, bed, seed, folder)
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            if case.damage is None:
                raise
    raise RuntimeError(f"no damage of {case.kind}.{case.form} can be written")


def prepare(case: Case, bed: Bed, seed: int, folder: Path) -> list[str]:
    """Lay the damaged input into a folder; the command line to run there."""
    folder.mkdir(parents=True)
    (folder / "bed").symlink_to(bed.folder)
    undamaged = bed.place(case.kind, case.form)
    target = folder / undamaged.name.replace(case.kind, "damaged", 1)
    record = undamaged.with_suffix(".queries.json")
    if record.is_file():
        shutil.copy(record, target.with_suffix(".queries.json"))
    random = keyed_generator("damage", case.number, seed)
    if case.damage is None or case.damage.level == "path":
        (shutil.copytree if undamaged.is_dir() else shutil.copy)(undamaged, target)
        if case.damage is not None:
            case.damage.apply(target, random)
    elif case.damage.level == "bytes":
        target.write_bytes(case.damage.apply(undamaged.read_bytes(), random))
    else:
        write(case.damage.apply(pd.read_csv(bed.place(case.kind, "csv")), random), target)
    return [case.question.verb, *(word.format(target.name) if word == "{}" else word for word in case.question.arguments)]


def run_all(todo: list[Case], bed: Bed, seed: int, place: Path, workers: int, stop: float = np.inf) -> list[Ended | None]:
    """How every case ended, in order; None where none was begun. A damage that a format cannot hold is replaced in ``todo``."""
    ends: list[Ended | None] = [None] * len(todo)
    waiting, running = deque(range(len(todo))), {}
    while waiting or running:
        if time.monotonic() > stop:
            waiting.clear()
        while waiting and len(running) < workers:
            index = waiting.popleft()
            folder = place / str(index)
            todo[index], arguments = made(todo[index], bed, seed, folder)
            before = {name: value for name, value in listed(folder).items() if not name.startswith("bed")}
            running[start(arguments, folder)] = (index, folder, time.monotonic(), before)
        for process, (index, folder, begun, before) in list(running.items()):
            ended = wait(process, folder, begun)
            if ended is None:
                continue
            del running[process]
            if ended.hung or ended.code not in (0, 1, 2) or "unexpected" in ended.error:
                click.echo(f"{_named(todo[index])}: exit {ended.code}, hung {ended.hung}: {ended.error.strip()[-300:]}")
            done = todo[index].kind == "run" and not ended.code  # a training that goes on removes what it went on from
            touched = not done and any(listed(folder).get(name) != value for name, value in before.items())
            strange = {"INPUT CHANGED OR CODE RAN": ""} if touched or (folder / "ran").exists() else {}
            ends[index] = Ended(**{**vars(ended), "outputs": {**ended.outputs, **strange}})
            shutil.rmtree(folder, ignore_errors=True)
            if index % 50 == 0:
                click.echo(f"{index} of {len(todo)}")
        time.sleep(0.01)
    return ends


def _named(case: Case) -> str:
    return f"{case.number} {case.kind}.{case.form} {case.damage.name if case.damage else 'undamaged'}, {case.question.verb}"


def judged(todo: list[Case], ends: list[Ended | None], undamaged: dict[tuple[str, str, Question], Ended]) -> pd.DataFrame:
    """One row an input."""
    rows = []
    for case, ended in zip(todo, ends, strict=True):
        if ended is None or case.damage is None:
            continue
        clean = undamaged[case.kind, case.form, case.question]
        end = "partial" if "INPUT CHANGED OR CODE RAN" in ended.outputs else verdict(ended, clean, case.damage, case.question)
        words = [line for line in (ended.error or ended.printed).strip().splitlines() if line.strip()] or [""]
        rows.append({"kind": case.kind, "format": case.form, "group": case.damage.group, "damage": case.damage.name,
                     "verb": case.question.verb, "right": case.damage.right, "end": end, "exit": ended.code,
                     "last_line": words[-1][:240], "case": case.number})  # fmt: skip
    return pd.DataFrame(rows)


def counted(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Inputs and ends of every group."""
    ends = pd.get_dummies(rows["end"]).reindex(columns=list(ENDS), fill_value=False).astype(int)
    return (
        pd.concat([rows[by], ends], axis=1)
        .groupby(by)
        .agg(inputs=("refused", "size"), **{e: (e, "sum") for e in ENDS})
        .reset_index()
    )


def other_on_rerun(todo: list[Case], ends: list[Ended | None], rerun: list[int], again: list[Ended | None]) -> list[int]:
    """Cases whose outputs differ when the same command is run again."""
    return [todo[i].number for i, end in zip(rerun, again, strict=True) if end and ends[i] and end.outputs != ends[i].outputs]  # type: ignore[union-attr]


@click.command()
@out_option
@click.option("--inputs", default=1000, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(sorted(SHARES)), help="Default: every kind.")
@click.option("--minutes", default=60.0, show_default=True, help="No input is begun after this.")
@seed_option(1)
@workers_option(1)
def main(out: Path, inputs: int, kinds: tuple[str, ...], minutes: float, seed: int, workers: int) -> None:
    """Write counts.csv (by kind and verb), damages.csv (by damage) and silent.csv (one line each); failures.csv if any."""
    load_everything()
    begun, chosen = time.monotonic(), kinds or tuple(SHARES)
    with tempfile.TemporaryDirectory() as scratch:
        bed = _laid(Path(scratch), needs_trial=bool({"trial", "checkpoint", "run"} & set(chosen)))
        todo = cases(inputs, chosen)
        values = list(dict.fromkeys((case.kind, case.form, case.question) for case in todo))
        clean = [Case(i, kind, form, None, question) for i, (kind, form, question) in enumerate(values)]
        ended = run_all(clean, bed, seed, Path(scratch, "clean"), workers)
        accepted = {key: end for key, end in zip(values, ended, strict=True) if end and not end.code}
        for key, end in zip(values, ended, strict=True):
            if key not in accepted:
                raise click.ClickException(f"the undamaged {key[0]}.{key[1]} is refused by {key[2].verb}: {end and end.error}")
        order = keyed_generator("order of cases", seed).permutation(len(todo))
        todo, stop = [todo[int(place)] for place in order], begun + 60 * minutes
        ends = run_all(todo, bed, seed, Path(scratch, "damaged"), workers, stop)
        rerun = [i for i in range(0, len(todo), 20) if ends[i] is not None]
        again = run_all([todo[i] for i in rerun], bed, seed, Path(scratch, "again"), workers)
    rows = judged(todo, ends, accepted)
    rows.loc[rows["case"].isin(other_on_rerun(todo, ends, rerun, again)), "end"] = "partial"
    write_table(counted(rows, ["kind", "verb"]).assign(seed=seed), out / "counts.csv")
    write_table(counted(rows, ["kind", "group", "damage", "right"]), out / "damages.csv")
    silent = rows[rows["end"] == "silent"].drop(columns=["end", "last_line"])
    why = [why_right(*row) for row in silent[["kind", "format", "damage", "verb"]].itertuples(index=False)]
    write_table(silent.assign(why_right=why), out / "silent.csv")
    failures = rows[rows["end"].isin(ENDS[4:])]
    (out / "failures.csv").unlink(missing_ok=True)
    if len(failures):
        write_table(failures, out / "failures.csv")
    totals = rows["end"].value_counts().reindex(list(ENDS), fill_value=0)
    click.echo(
        f"{len(rows)} inputs, {len(rerun)} run twice, {time.monotonic() - begun:.0f} s: "
        + ", ".join(f"{n} {e}" for e, n in totals.items())
    )


def _laid(scratch: Path, needs_trial: bool) -> Bed:
    """The bed of undamaged inputs; a trial of two patients and results are made by the command line itself."""
    people = scratch / "people"
    bed = scratch / "bed"
    bed.mkdir()
    folder = scratch / "making"
    folder.mkdir()
    make_bed(bed, None, pd.DataFrame({"estimate": [np.nan]}))
    made = [f"effects {bed}/participants.csv --outcome net2_lesions_week48 --reference placebo --out out/results.csv"]
    if needs_trial:
        made += [f"simulate out/trial --design {bed}/design.yaml --patients 6 --seed 1"]
        made += ["train out/trial --config tiny --out out/model.safetensors"]
    for text in made:
        _make(text, folder)
    if needs_trial:
        interrupted_training(folder / "out" / "trial", folder / "out" / "killed.safetensors")
    shutil.rmtree(bed)
    bed.mkdir()
    results = pd.read_csv(folder / "out" / "results.csv")
    other = results.assign(measure="mean ratio", estimand=results["estimand"].str.replace("rate ratio", "mean ratio"))
    shutil.rmtree(people, ignore_errors=True)
    laid = make_bed(bed, folder / "out" / "trial" if needs_trial else None, pd.concat([results, other], ignore_index=True))
    for number, name in ((1, "shard"), (2, "other")):
        people = "--model counts --do placebo --do drug --draws 4"
        _make(f"query {bed}/participants.csv {people} --shard {number}/2 --out {bed}/{name}.csv", folder)
    return laid


def _make(text: str, folder: Path) -> None:
    ended, begun, process = None, time.monotonic(), start(text.split(), folder)
    while ended is None:
        time.sleep(0.01)
        ended = wait(process, folder, begun)
    if ended.code:
        raise click.ClickException(f"{text}: {ended.error}")


if __name__ == "__main__":
    main()
