"""``causalms query``: what every patient would have had under other arms, as a draws table with its record."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.cohort import Cohort, Kept, cache_option, cohort_options, kept_options, resample_option, write_skipped
from causalms.cli.inputs import ScanOptions, given_model_option, grouped, scan_options, text_options, trial_of
from causalms.cli.main import say_note
from causalms.cli.paths import InputPath, OutputPath, Verb
from causalms.cli.written import deliver, finished_patients, missing_words, say_kept
from causalms.errors import CausalmsError, UsageError
from causalms.shards import Shard, Skipped
from causalms.tables import counted, fixed, name_of

if TYPE_CHECKING:
    import pandas as pd

    from causalms.causal import CausalModel, Query, Running


_BESIDE = (
    ".queries.json",
    ".results.csv",
    ".diagnostics.csv",
    ".diagnostics.pdf",
    ".bounds.csv",
    ".bounds.pdf",
    ".confounding.csv",
    ".confounding.pdf",
    ".outside.pdf",
    ".skipped.csv",
)


@dataclass(frozen=True)
class _Options:
    """The options of the verb, as they were given."""

    arms: tuple[str, ...]
    policy: Path | None
    reference: str | None
    given_factual: bool
    coupling: str
    rho: float | None
    abduction: str
    skip_missing: bool
    checked_patients: int
    bounds_over_rho: bool
    expected: bool
    recalibrate: bool
    registry: bool
    draws: int
    weeks: tuple[float, ...]
    seed: int
    given_model: bool

    def refuse_contradictions(self, cohort: Cohort, kept: Kept) -> None:
        """Reject contradictory options before reading files."""
        if self.given_factual and self.expected:
            raise UsageError("--expected is rung 2 and --given-factual rung 3; choose one")
        if not self.given_factual and (self.rho is not None or self.skip_missing):
            raise UsageError("--rho and --skip-missing go with --given-factual; add it or leave them out")
        if self.given_factual and self.registry:
            raise UsageError("--registry is about effects in a population; leave out --given-factual")
        if self.recalibrate and not self.expected:
            raise UsageError("--recalibrate works on expected counts; add --expected")
        if self.recalibrate and self.reference:
            raise UsageError(
                "--recalibrate and --reference: run 'causalms effects OUT --reference ARM' on the recalibrated table"
            )
        if cohort.shard and not kept.keep_only and (self.reference or self.recalibrate or self.bounds_over_rho):
            raise UsageError(
                "--shard writes draws alone, and --reference, --recalibrate and --bounds-over-rho are about all patients; give "
                "each shard --keep-only and one --parts DIR, and the same command without --shard and --keep-only writes all"
            )
        if self.given_model and self.reference is None and not self.given_factual:
            raise UsageError("--given-model is about intervals: add --reference ARM, or run 'causalms effects OUT' with it")
        self._refuse_reference()

    def _refuse_reference(self) -> None:
        if self.reference is None:
            if self.bounds_over_rho:
                raise UsageError("--bounds-over-rho compares every --do arm with a reference; add --reference ARM")
            return
        if not self.given_factual and self.reference not in self.arms:
            raise UsageError(f"--reference {self.reference}: contrasts need that world too; add --do {self.reference}")
        if self.given_factual and not self.bounds_over_rho:
            raise UsageError("--reference with --given-factual goes with --bounds-over-rho; add it or leave --reference out")
        if not self.others and (self.bounds_over_rho or self.policy is None):
            raise UsageError(f"--reference {self.reference}: no world to compare with it; add --do ARM")

    @property
    def others(self) -> tuple[str, ...]:
        """The arms other than the reference."""
        return tuple(arm for arm in self.arms if arm != self.reference)

    @property
    def visits(self) -> tuple[float, ...]:
        """The visit weeks that are asked about."""
        return self.weeks or (48.0,)

    @property
    def assignment(self) -> str:
        """How the arms of the trial came about."""
        return "registry" if self.registry else "randomised"

    def query(self) -> Query:
        """The query, built once; what is wrong with it whatever the model is said here.

        Raises
        ------
        UsageError, InputError
            If a coupling, a week or the policy file is no good.
        """
        from causalms.causal import Query, read_policy, value

        policies = () if self.policy is None else (read_policy(self.policy),)
        query = Query(
            interventions=(*map(value, self.arms), *policies),
            weeks=self.visits,
            draws=1 if self.expected else self.draws,
            seed=self.seed,
            expected=self.expected,
            coupling=self.coupling,
            rho=self.rho,
            evidence_week=max(self.visits) if self.given_factual else None,
            abduction=self.abduction,
            missing="skip" if self.skip_missing else "refuse",
            assignment=self.assignment,
        )
        query.refuse_nonsense()
        return query


@click.command(cls=Verb)
@click.argument("source", metavar="DIR", type=InputPath())
@click.option("--do", "arms", multiple=True, metavar="ARM", help="Set the arm to this; repeat for several worlds.")
@click.option("--policy", type=InputPath(), help="A treatment policy (YAML: name, rules, otherwise).")
@click.option("--reference", metavar="ARM", help="Also write contrasts with this arm, which must be one of --do (see below).")
@click.option("--given-factual", is_flag=True, help="Rung 3: condition on the outcome each patient was seen to have.")
@click.option("--coupling", default="monotone", show_default=True, help="monotone, ancestral, independent or rho.")
@click.option("--rho", type=float, help="Correlation of the two worlds' noise, with --coupling rho.")
@click.option("--abduction", default="stochastic", show_default=True, help="stochastic or deterministic.")
@click.option("--skip-missing", is_flag=True, help="With --given-factual: leave out patients whose visit was missed.")
@click.option("--checked-patients", default=40, show_default=True, help="Patients that the rung-3 diagnostics look at.")
@click.option("--bounds-over-rho", is_flag=True, help="With --reference: benefit and harm over every coupling, in their bounds.")
@click.option("--expected", is_flag=True, help="Expected outcomes by one evaluation a patient and arm, no sampling.")
@click.option("--recalibrate", is_flag=True, help="With --expected: move the model to what the observed arms of DIR say.")
@click.option("--registry", is_flag=True, help="Arms of DIR were chosen by measured covariates, not randomised; needs overlap.")
@click.option("--draws", default=64, show_default=True, help="Draws (particles) a patient.")
@click.option("--week", "weeks", multiple=True, type=float, help="Visit week; repeat for several.  [default: 48]")
@click.option(
    "--model",
    default="reference",
    type=InputPath(str, or_name=True),
    show_default=True,
    help="A checkpoint, 'reference', or 'counts' (see below).",
)
@cohort_options()
@kept_options
@resample_option
@scan_options
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Key of the exogenous noise.")
@cache_option
@click.option(
    "--out", required=True, type=OutputPath(beside=_BESIDE, after=(".parts",)), help="Table to write (.parquet, .csv or .tsv)."
)
@given_model_option
@text_options
@grouped(options=_Options, cohort=Cohort, scans=ScanOptions, kept=Kept)
def command(
    source: Path,
    model: str,
    out: Path,
    options: _Options,
    cohort: Cohort,
    scans: ScanOptions,
    resample: bool,
    cache: Path | None,
    kept: Kept,
) -> int:
    """Ask what each patient of the trial DIR would have had under another arm.

    Writes the draws table and, beside it, its record (OUT with the suffix .queries.json). A killed run that is asked again
    goes on where it stopped (finished patients are kept in OUT.parts until the end).

    --reference also writes OUT.results.csv: the simulated ratio of means of every world to that arm. It says in which trial
    both arms were randomised together; where there is none, it is transported: the assumption, the overlap of covariates and
    how strong an unmeasured trial effect must be to erase it stand beside it, with the ratio in the overlap population;
    OUT.confounding.csv and OUT.confounding.pdf draw the tipping point of an unmeasured cause with measured ones as benchmarks.

    --given-factual also writes OUT.results.csv (probabilities of benefit and harm with the sharp bounds that hold under every
    coupling, and the diagnostics of the run), OUT.diagnostics.csv and their figure, OUT.diagnostics.pdf, one page a world.

    --bounds-over-rho also writes OUT.bounds.csv and OUT.bounds.pdf: the probabilities while the coupling runs from mirrored
    (-1) over unrelated (0) to shared noise (1).
    The table carries the model's own error (column model_error), which `causalms effects`, `subgroups` and `agree` add to the
    errors of patients and of Monte Carlo; a model that does not know its own error gives neither interval nor p-value there.
    Where more patients than chance lie outside what the model learned from, OUT.outside.pdf shows where.
    --recalibrate adds to it what the observed arms of DIR say, and says where they contradict the model.

    With --skip-bad, patients whose files cannot be used stand in OUT.skipped.csv with the reason (exit code 3). `causalms merge`
    puts the parts of --shard together, to the bytes that one run gives; what is about all patients (--reference, bounds and
    diagnostics of rung 3) comes of shards with --keep-only and one --parts, and the same command without --shard and --keep-only.
    --model counts fits a negative-binomial regression to the participants table of DIR (a folder, or a table): no images.

    \b
    Example:
      causalms query trial --do placebo --do DRUG --reference placebo --draws 64 --seed 0 --out draws.parquet
      causalms query trial --do placebo --do DRUG --expected --recalibrate --out expected.parquet
      causalms query trial --do DRUG --given-factual --coupling monotone --out twins.parquet
    """  # noqa: D301 - the backspace is the character that click looks for
    from causalms.causal import Running

    options.refuse_contradictions(cohort, kept)
    query = options.query()
    if (resample or cache) and model == "counts":
        raise UsageError(f"--{'resample' if resample else 'cache'} is about scans, and this model reads none; leave it out")
    trial = trial_of(source, scans)
    causal_model = _model(model, trial, query, cohort.device, cache)
    if resample:
        from causalms.trials import resample_trial

        trial = resample_trial(trial, causal_model.mechanism.generator.space)  # type: ignore[attr-defined]
    for note in trial.notes:
        say_note(note)
    parts = kept.folder(out)
    running = Running(cohort.workers, progress=True, parts=None if cache else parts, skip_bad=cohort.skip_bad, shard=cohort.shard)
    run = _Run(causal_model, trial, query, options, cohort.participants or None, running)
    try:
        with cohort.cluster():
            if kept.keep_only:
                return run.keep(parts, out)
            table, beside = run.answer()
        deliver(table, beside, out, parts)
    except CausalmsError as error:
        say_kept(error, finished_patients(parts), parts)
        raise
    if cohort.shard is None or kept.parts is None:
        shutil.rmtree(parts, ignore_errors=True)
    _print(table, out, beside)
    return write_skipped([Skipped(**one) for one in table.attrs.get("skipped", [])], out.with_suffix(".skipped.csv"))


def _model(model: str, trial: Any, query: Query, device: str, cache: Path | None) -> CausalModel:
    """Load a model, or fit one of counts once it is known that it can answer."""
    from causalms.causal import CausalModel, NegativeBinomialMechanism

    query.refuse_unknown_columns(trial.participants)
    if model == "counts":
        arms = tuple(sorted(str(arm) for arm in trial.participants["arm"].dropna().unique()))
        query.refuse_if_unanswerable(NegativeBinomialMechanism(arms, (0.0,) * len(arms)))
        fitted = CausalModel.fit_counts(trial)
        for note in getattr(fitted.mechanism, "notes", ()):
            say_note(note)
        return fitted
    causal_model = CausalModel.load(model, device, cache or "")
    query.refuse_if_unanswerable(causal_model.mechanism)
    return causal_model


@dataclass(frozen=True)
class _Run:
    """One query that is being answered: its model, trial and options."""

    model: CausalModel
    trial: Any
    query: Query
    options: _Options
    participants: Sequence[str] | None
    running: Running

    def keep(self, parts: Path, out: Path) -> int:
        """Answer these patients and keep all that the whole run needs of them; the exit code."""
        from causalms.causal import rung_three_results

        table = self._asked_of_model(0)
        if self.options.given_factual:
            rung_three_results(
                self.model, self.trial, table, replace(self.running, shard=self.running.shard or Shard(1, 1)), self._asked
            )
        if self.options.bounds_over_rho:
            self._bounds_over_rho(table)
        answered, whole = table["participant_id"].nunique(), "the same command without --keep-only and --shard"
        click.echo(f"{counted(answered, 'patient')} answered and kept in {parts}; {whole} writes {out}")
        return write_skipped([Skipped(**one) for one in table.attrs.get("skipped", [])], out.with_suffix(".skipped.csv"))

    def _asked_of_model(self, checked_patients: int) -> pd.DataFrame:
        running = replace(self.running, participants=self.participants)
        return self.model.ask(self.trial, self.query, running, checked_patients)

    @property
    def _asked(self) -> list[str]:
        """Whom the question is about, shard or not."""
        return [str(name) for name in self.participants or self.trial.participants["participant_id"]]

    def answer(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The draws table, and by suffix what is written beside it."""
        from causalms.effects import given_model
        from causalms.tables import outside_notes, patient_distances

        table, beside = self._rung_three() if self.options.given_factual else self._rung_two()
        if self.options.given_model and ".results.csv" in beside:
            beside[".results.csv"] = given_model(beside[".results.csv"])
        if self.options.bounds_over_rho:
            beside |= self._bounds_over_rho(table)
        notes = [] if self.running.shard else outside_notes(patient_distances(table))
        if any("extrapolated" in note for note in notes):
            beside[".outside.pdf"] = table
        return table, beside

    def _rung_two(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        import pandas as pd

        from causalms.causal import contrasts_with_reference, recalibrated

        options = self.options
        table = self._asked_of_model(0)
        if options.recalibrate:
            table, recalibration = recalibrated(self.model, self.trial, table, replace(self.running, parts=None))
            click.echo(recalibration.words)
            return table, {}
        if options.reference is None:
            return table, {}
        results = contrasts_with_reference(table, self.trial.participants, options.reference, assignment=options.assignment)
        beside: dict[str, Any] = {".results.csv": results}
        if causes := results.attrs.pop("confounding"):
            beside |= dict.fromkeys((".confounding.csv", ".confounding.pdf"), pd.DataFrame(causes))
        return table, beside

    def _rung_three(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        from causalms.causal import diagnostics_table, rung_three_results
        from causalms.report import figures

        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always", UserWarning)
            table = self._asked_of_model(self.options.checked_patients)
        for doubt in doubts:
            click.echo(f"warning: {doubt.message}", err=True)
        if self.running.shard is not None:
            click.echo("note: bounds and diagnostics are about all patients: not written for a shard; --keep-only leads to them")
            return table, {}
        rows = rung_three_results(self.model, self.trial, table, self.running, self._asked)
        beside: dict[str, Any] = {".results.csv": rows}
        if self.options.checked_patients > 0:
            verdicts = diagnostics_table(table)
            pages = [figures.diagnostics_page(verdicts, str(arm)) for arm in verdicts["arm"].unique()]
            beside |= {".diagnostics.csv": verdicts, ".diagnostics.pdf": pages}
        return table, beside

    def _bounds_over_rho(self, table: pd.DataFrame) -> dict[str, Any]:
        """The sweep over the coupling of the patients of a table of answers."""
        import pandas as pd

        from causalms.causal import rho_sweep

        options, week = self.options, max(self.options.visits)
        assert options.reference is not None
        people = [str(name) for name in table["participant_id"].unique()]
        sweep = partial(rho_sweep, draws=options.draws, seed=options.seed, participants=people, running=self.running)
        tables = [sweep(self.model, self.trial, (arm, options.reference), week) for arm in options.others]
        return dict.fromkeys((".bounds.csv", ".bounds.pdf"), pd.concat(tables, ignore_index=True))


def _print(table: pd.DataFrame, out: Path, beside: dict[str, Any]) -> None:
    from causalms.effects import simulated_words
    from causalms.tables import outside_notes, patient_distances

    (query_id, record), *_ = table.attrs["queries"].items()
    outcome = "expected_net2_lesions" if record["expected"] else "net2_lesions"
    people = counted(record["participants_answered"], "patient")
    click.echo(f"query {query_id}: rung {record['rung']} ({record['query']}), {people}")
    click.echo(f"model {record['mechanism']} {record['model_checksum']}, coupling {record['coupling']}, seed {record['seed']}")
    for inputs, count in record.get("participants_with_missing_inputs", {}).items():
        click.echo(f"  {missing_words(inputs, count)}")
    click.echo("".join(f"  {note}\n" for note in outside_notes(patient_distances(table))), nl=False)
    means = table[table["query"] != "observed"].groupby(["arm", "visit_week"], sort=False)[outcome].mean()
    for arm, week, mean in means.reset_index().itertuples(index=False):
        click.echo(f"  {arm:<28} week {name_of(week)}: mean NET2 lesions {fixed(mean, 2)}")
    for row in beside.get(".results.csv", table.head(0)).to_dict("records"):
        if row.get("measure") == "mean ratio":
            together = "randomised together in" + row["estimand"].partition("; randomised together in")[2].partition(";")[0]
            click.echo(f"  {row['arm']} / {row['reference']}: ratio of means {simulated_words(row)}; {together}")
    names = [out.with_suffix(suffix).name for suffix in (".queries.json", *beside)]
    click.echo(f"wrote {out} and {', '.join(names)}")
