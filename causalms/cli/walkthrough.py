"""The demonstration, stage by stage, on the public functions only."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from causalms.agreement import agree
from causalms.benefit import Policies, who_benefits
from causalms.calibration import assess, forecasts_again, frequency_maps, pair, place_scores, risk_maps
from causalms.causal import CausalModel, Running, Twin, diagnostics_table, recalibrated, rung_three_results, write_draws
from causalms.effects import Design, Method, analyse, estimate, recomputation
from causalms.errors import CausalmsError, ConvergenceError, RefusalError
from causalms.phantom import PhantomTrial, load_design, simulate_trial
from causalms.report import DEMONSTRATION, RECOMPUTE, Report, figures, read_credibility
from causalms.subgroups import forest, simulated_forest
from causalms.tables import fixed, net2_column, write_table
from causalms.trials import template_anatomy

DESIGN = load_design("lifelike")
ARMS = DESIGN.arms
REFERENCE, STRONGEST = ARMS[0], ARMS[-1]
#: The trial that randomised the reference against one drug alone: its comparison is looked at by subgroup.
COMPARISON = next(trial for trial in DESIGN.trials if REFERENCE in trial.arms and len(trial.arms) == 2)
SUBGROUPS = ("gd_lesions > 0", "age >= 40")
#: Patients whose masks are sampled, and twins are made; each mask takes about a tenth of a second.
SAMPLED_PATIENTS = 16
DRAWS = 6
TWINS = 10
PARTICLES = 4
#: Patients whose risk maps are held against their masks.
MAPPED = 60


@dataclass
class Walkthrough:
    """One demonstration: every table it makes is written to ``out`` and shown in the report."""

    out: Path
    patients: int
    week: int
    model_name: str
    workers: int
    seed: int

    def run(self) -> Path:
        """Make every table and figure, and the report."""
        self._begin = time.monotonic()
        self.report.add_section(
            "Simulated treatment effects",
            "Every patient under every arm, by one evaluation a patient and arm: simulated contrasts. Where no trial randomised "
            "both arms they are transported as well, assuming that nothing unmeasured differs between trials.",
        )
        for stage in (
            self.effects,
            self.recalibrated,
            self.truth,
            self.sampled,
            self.calibration,
            self.places,
            self.subgroups,
            self.agreement,
            self.twins,
            self.recomputed,
        ):
            self._say(f"{stage.__name__}")
            try:
                stage()
            except (RefusalError, ConvergenceError) as refusal:
                self._not_shown(stage.__name__, refusal)
        path = self.report.write(self.out / "report.html")
        self._say("done")
        return path

    @cached_property
    def trial(self) -> PhantomTrial:
        """The simulated trial; its participants are written to the folder."""
        trial = simulate_trial("lifelike", patients=self.patients, seed=self.seed)
        write_table(trial.participants, self.out / "participants.csv")
        return trial

    @cached_property
    def model(self) -> CausalModel:
        """The causal model around the shipped generator."""
        return CausalModel.load(self.model_name)

    @cached_property
    def carried(self) -> dict[str, dict[str, Any]]:
        """Analyses whose patients the page carries, so that its reader computes them again."""
        return {}

    @property
    def running(self) -> Running:
        """How the queries are run."""
        return Running(self.workers, progress=True)

    @cached_property
    def expected(self) -> pd.DataFrame:
        """Expected outcomes of everyone under every arm."""
        table = self.model.do(self.trial, arm=list(ARMS), week=self.week, expected=True, running=self.running)
        write_draws(table, self.out / "expected.parquet")
        return table

    @cached_property
    def report(self) -> Report:
        """The report that the stages fill."""
        options = f"--patients {self.patients} --week {self.week} --model {self.model_name} --seed {self.seed}"
        command = f"causalms demo --out {self.out.name} {options}"
        summary = (
            f"{self.patients} simulated patients of four pooled trials, week {self.week}. Simulated data: a demonstration of "
            "methods. Not for clinical use."
        )
        plan = read_credibility(DEMONSTRATION)
        return Report("What would these patients have had under another drug?", summary, commands=[command], credibility=plan)

    @cached_property
    def simulated(self) -> pd.DataFrame:
        """Rate ratios, activity and volume, every arm against the reference."""
        measures = ("rate-ratio", "risk-difference", "mean-difference")
        return pd.concat([estimate(self.expected, reference=REFERENCE, measure=m).results for m in measures], ignore_index=True)

    def effects(self) -> None:
        """Effects of the shipped model as it is, beside the randomised ones."""
        write_table(self.simulated, self.out / "effects.csv")
        self.report.add_results(
            self.simulated, "Simulated effects against the reference, the model as it is, its own error in the interval"
        )
        ratios = self.simulated[self.simulated["measure"] == "simulated rate ratio"]
        ratios = ratios if len(ratios) else self.simulated[self.simulated["measure"].str.contains("rate ratio")]
        self.report.add_figure(figures.effect_forest(ratios), "Simulated rate ratios of new and enlarging T2 lesions")
        self.report.add_results(
            self.randomised_effects(), "Randomised effects observed in the same trials, adjusted for baseline columns"
        )

    def randomised_effects(self) -> pd.DataFrame:
        """What each trial's own randomised arms say: standardized Poisson rate ratio with exposure."""
        tables = []
        for name, rows in self.trial.participants.groupby("trial", sort=False):
            people = rows[rows[net2_column(self.week)].notna()].assign(years=self.week / 52.1775)
            reference = next(arm for arm in ARMS if arm in set(people["arm"]))
            try:
                analysis = analyse(
                    people,
                    outcome=net2_column(self.week),
                    reference=reference,
                    exposure="years",
                    adjust="age + gd_lesions",
                    design=Design(population=f"{name}, patients seen at week {self.week}"),
                    method=Method(variance="leave-one-out-t"),
                )
            except (RefusalError, ConvergenceError) as refusal:
                self._not_shown(f"randomised effect of {name}", refusal)
            else:
                tables.append(analysis.results)
                self.carried[f"randomised effect of {name}"] = recomputation(analysis)
        if not tables:
            raise RefusalError("no trial is large enough for an effect of its own; simulate more patients with `patients`")
        table = pd.concat(tables, ignore_index=True)
        write_table(table, self.out / "randomised_effects.csv")
        return table

    def recalibrated(self) -> None:
        """Effects after the model has been moved to what the observed arms say."""
        expected, recalibration = recalibrated(self.model, self.trial, self.expected, self.running)
        table = estimate(expected, reference=REFERENCE, measure="rate-ratio").results
        write_table(table, self.out / "effects_recalibrated.csv")
        self.report.add_results(table, f"Simulated rate ratios, recalibrated on the observed arms; {recalibration.words}")

    def truth(self) -> None:
        """The phantom's truth beside the estimates: only a simulated trial can show this."""
        known = self.trial.truth.table
        true = known[known["visit_week"] == self.week].groupby("arm")["true_rate"].mean()
        mean = self.expected.groupby("arm")["expected_net2_lesions"].mean()
        table = pd.DataFrame({"true mean": true, "expected mean": mean}).loc[list(ARMS)]
        table["expected / true"] = table["expected mean"] / table["true mean"]
        table["true rate ratio"] = table["true mean"] / table["true mean"][REFERENCE]
        table["simulated rate ratio"] = table["expected mean"] / table["expected mean"][REFERENCE]
        table = table.rename_axis("arm").reset_index()
        write_table(table, self.out / "truth.csv")
        self.report.add_section(
            "Against the truth", "A phantom trial's potential outcomes are known; no real trial can be judged so."
        )
        self.report.add_table(
            table, f"True and expected counts of new and enlarging lesions at week {self.week}, all patients under every arm"
        )

    def sampled(self) -> None:
        """Masks sampled from the diffusion model, counted by the lesion rule, beside the expected counts."""
        few = list(self.trial.participants["participant_id"].sample(SAMPLED_PATIENTS, random_state=self.seed))
        arms = [REFERENCE, STRONGEST]
        draws = self.model.do(
            self.trial,
            arm=arms,
            week=self.week,
            draws=DRAWS,
            seed=self.seed,
            running=replace(self.running, participants=few),
        )
        write_draws(draws, self.out / "draws.parquet")
        same = self.expected[self.expected["participant_id"].isin(few)]
        rows = []
        for arm in arms:
            counts = draws[draws["arm"] == arm].groupby("participant_id")["net2_lesions"]
            rows.append(
                {
                    "arm": arm,
                    "sampled mean": counts.mean().mean(),
                    "Monte-Carlo error": float(np.sqrt((counts.var() / DRAWS).mean() / SAMPLED_PATIENTS)),
                    "expected mean": same.loc[same["arm"] == arm, "expected_net2_lesions"].mean(),
                }
            )
        self.report.add_section(
            "Sampled masks", f"{SAMPLED_PATIENTS} patients, {DRAWS} masks a patient and arm, the same noise under both arms."
        )
        self.report.add_table(pd.DataFrame(rows), "Lesions counted in sampled masks, and the expected count of the same patients")
        shares = draws.groupby("arm")["net2_lesions"].value_counts(normalize=True).rename("share").reset_index()
        shares = shares.rename(columns={"net2_lesions": "count"}).sort_values(["arm", "count"])
        self.report.add_figure(figures.count_distribution(shares), "Distribution of sampled counts by arm")

    def calibration(self) -> None:
        """Judge the count law against the arm each patient was given."""
        pairs = pair(self.expected, self.trial.participants, self.week)
        assessment = assess(pairs, by=("arm",), repetitions=499, seed=self.seed)
        self.carried["calibration"] = forecasts_again(pairs, assessment)
        write_table(assessment.results, self.out / "calibration.csv")
        self.report.add_section("Calibration", "Forecasts under the arm each patient was given, against what was observed.")
        everyone = assessment.results[assessment.results["subgroup"] == "all"]
        self.report.add_results(everyone, "Calibration of the predicted counts, all patients")
        whole = {
            name: getattr(assessment, name).query("subgroup == 'all'") for name in ("pit", "reliability", "rootogram", "coverage")
        }
        self.report.add_figure(figures.pit_histogram(whole["pit"]), "Probability integral transform with a simultaneous band")
        self.report.add_figure(figures.reliability(whole["reliability"]), "Reliability of the probability of any new lesion")
        self.report.add_figure(figures.rootogram(whole["rootogram"]), "Hanging rootogram of counts")
        self.report.add_figure(figures.coverage(whole["coverage"]), "Coverage of prediction intervals by level")

    def places(self) -> None:
        """Where lesions were expected and where they came."""
        chosen = self.trial.participants["participant_id"].sample(min(MAPPED, self.patients), random_state=self.seed)
        maps = risk_maps(self.model, self.trial, self.week, list(chosen))
        expected, observed = frequency_maps(maps)
        table = place_scores(maps, reference=expected)
        write_table(table, self.out / "places.csv")
        anatomy, sizes = template_anatomy(self.trial.space).t1, self.trial.space.voxel_sizes_mm
        figure = figures.lesion_frequency(anatomy, expected, observed, voxel_mm=(sizes[0], sizes[1], sizes[2]))
        self.report.add_figure(figure, f"Expected and observed lesion frequency of {len(maps)} patients, smoothed alike by 8 mm")
        self.report.add_table(
            table, "Log score of lesion places (nats a lesion), and what is won over no knowledge and over the mean map"
        )

    @property
    def compared(self) -> str:
        """The comparison that is looked at by subgroup, in words."""
        (drug,) = (arm for arm in COMPARISON.arms if arm != REFERENCE)
        return f"{drug} against {REFERENCE}"

    def subgroups(self) -> None:
        """Prespecified subgroups of one randomised comparison with the reference."""
        people = self.trial.participants
        rows = people[(people["trial"] == COMPARISON.name) & people[net2_column(self.week)].notna()]
        observed = forest(rows, SUBGROUPS, outcome=net2_column(self.week), reference=REFERENCE)
        trial_rows = self.expected[self.expected["participant_id"].isin(rows["participant_id"])]
        arms = trial_rows[trial_rows["arm"].isin(list(COMPARISON.arms))]
        simulated = simulated_forest(arms, rows, SUBGROUPS, reference=REFERENCE, week=self.week)
        table = pd.concat([observed.table, simulated.table], ignore_index=True)
        results = pd.concat([observed.results, simulated.results], ignore_index=True)
        write_table(results, self.out / "subgroups.csv")
        self.report.add_section(
            "Subgroups",
            f"{self.compared} in the {COMPARISON.name}-like trial, observed and simulated in the same patients.",
        )
        self.report.add_figure(figures.subgroup_forest(table), "Rate ratio by subgroup, with interaction p")
        self.report.add_results(results, "Effects in prespecified subgroups and their interactions")
        self.who_benefits(rows, arms)

    def who_benefits(self, people: pd.DataFrame, draws: pd.DataFrame) -> None:
        """Judge the benefit that the model predicts on the randomised outcomes."""
        benefit = who_benefits(
            people, outcome=net2_column(self.week), reference=REFERENCE, draws=draws, policies=Policies(caps=(1.0, 0.3))
        )
        write_table(benefit, self.out / "benefit.csv")
        self.report.add_section(
            "Who benefits",
            f"Patients of the same trial ranked by the lesions that are predicted to be spared, {self.compared}, judged on the "
            "randomised outcomes, which the model has not seen.",
        )
        self.report.add_figure(figures.benefit_curves(benefit), "Observed effect among the most promising patients")
        self.report.add_figure(figures.benefit_groups(benefit), "Observed benefit in groups of predicted benefit")
        kept = benefit[~benefit["analysis"].isin(["benefit: curve", "benefit: groups"])]
        self.report.add_results(
            kept, "How well predicted benefit ranks patients, its calibration, and what treating by it is worth"
        )

    def agreement(self) -> None:
        """Simulated against randomised effect, trial by trial."""
        agreement = agree(self.expected, self.trial.participants, week=self.week)
        write_table(agreement.results, self.out / "agreement.csv")
        self.report.add_section(
            "Agreement with the randomised arms", "The same patients: simulated effect over randomised effect, within each trial."
        )
        self.report.add_figure(
            figures.agreement_scatter(agreement.table), "Simulated against randomised rate ratio, one point a contrast"
        )
        self.report.add_results(agreement.results, "Ratio of simulated to randomised rate ratio, with equivalence margin 1.25")

    def twins(self) -> None:
        """Rung 3: what patients of the reference would have had under the last arm of the design, given what they had."""
        people = self.trial.participants
        seen = people[(people["arm"] == REFERENCE) & people[net2_column(self.week)].notna()]
        chosen = list(seen["participant_id"].sample(min(TWINS, len(seen)), random_state=self.seed))
        twins = self.model.counterfactual(
            self.trial,
            arm=STRONGEST,
            week=self.week,
            coupling="ancestral",
            particles=PARTICLES,
            twin=Twin(checked_patients=5),
            seed=self.seed,
            running=replace(self.running, participants=chosen),
        )
        write_draws(twins, self.out / "twins.parquet")
        results = rung_three_results(self.model, self.trial, twins, Running(self.workers))
        write_table(results, self.out / "twins.csv")
        self.report.add_section(
            "Individual counterfactuals",
            f"{len(chosen)} patients given {REFERENCE}, and their twins under {STRONGEST} given the mask that was seen. No trial "
            "identifies this: the coupling of the two worlds is an assumption, and the bounds hold under every coupling.",
        )
        self.report.add_results(results, "Probability of benefit and harm with sharp bounds, and the diagnostics of the run")
        pages = figures.counterfactual_pages(diagnostics_table(twins))
        for figure, words in pages[0] if pages else ():
            self.report.add_figure(figure, words)

    def recomputed(self) -> None:
        """The randomised effects, computed again by whoever reads the page."""
        self.report.add_section("Recompute", RECOMPUTE)
        for name, bundle in self.carried.items():
            self.report.add_recomputation(bundle, name)

    def effect_table(self) -> str:
        """The effect table as text."""
        columns = [
            "arm",
            "reference",
            "measure",
            "estimate",
            "lower",
            "upper",
            "se_patient",
            "se_monte_carlo",
            "se_generator",
            "randomised",
            "rung",
        ]
        return self.simulated[columns].to_string(index=False, float_format=lambda value: fixed(value, 3))

    def _not_shown(self, what: str, refusal: CausalmsError) -> None:
        """Say on the page and at once what a trial of this size cannot show."""
        self.report.add_text(f"Not shown, {what.replace('_', ' ')}: {refusal}")
        click.echo(f"note: {what.replace('_', ' ')} not shown: {refusal}", err=True)

    def _say(self, stage: str) -> None:
        click.echo(f"[{time.monotonic() - self._begin:5.0f} s] {stage.replace('_', ' ')}", err=True)
