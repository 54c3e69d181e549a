"""Ten thousand bootstrap replicates of an adjusted rate ratio at n = 1,000, against loops over statsmodels fits, in one run.

python -m studies.benchmarks.bootstrap_speed --out results
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd

from causalms.effects import Method, analyse
from causalms.effects.bootstrap import bootstrap
from causalms.tables import write_table

REPLICATES, LOOP = 10_000, 60


def seconds(call: Callable[[], object], times: int = 1) -> float:
    """Processor seconds of one call, averaged over ``times`` calls (wall time would measure the neighbours as well)."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(out: Path) -> None:
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    n = 1000
    x, arm, years = rng.normal(size=n), np.repeat([0, 1], n // 2), rng.uniform(0.5, 1, n)
    y = rng.poisson(rng.gamma(0.8, 1.25, n) * years * np.exp(0.5 - 0.6 * arm + 0.4 * x))
    table = pd.DataFrame({"y": y, "arm": arm, "x": x, "years": years, "log_years": np.log(years)})

    def formula_loop(family: str) -> Callable[[], float]:
        def once() -> float:
            sample = table.sample(n, replace=True, random_state=rng)
            if family == "poisson":
                fit = smf.glm("y ~ arm + x", sample, family=sm.families.Poisson(), offset=sample["log_years"]).fit()
            else:
                fit = smf.negativebinomial("y ~ arm + x", sample, offset=sample["log_years"]).fit(disp=0)
            rates = [fit.predict(sample.assign(arm=value), offset=np.zeros(n)).mean() for value in (0, 1)]
            return float(np.log(rates[1] / rates[0]))

        return once

    def array_loop() -> float:
        rows = rng.integers(0, n, n)
        X = np.column_stack([np.ones(n), arm, x])[rows]
        fit = sm.GLM(y[rows], X, family=sm.families.Poisson(), offset=np.log(years[rows])).fit()
        rates = [np.exp(np.column_stack([X[:, 0], np.full(n, value), X[:, 2]]) @ fit.params).mean() for value in (0, 1)]
        return float(np.log(rates[1] / rates[0]))

    rows = []
    for family, loops in (
        ("poisson", {"formula": formula_loop("poisson"), "arrays": array_loop}),
        ("negbin", {"formula": formula_loop("negbin")}),
    ):
        analysis = analyse(table, outcome="y", reference="0", exposure="years", adjust="x", method=Method(working_model=family))
        assert analysis.means is not None
        means = analysis.means
        ours = min(seconds(lambda: bootstrap(means, scale="log", replicates=REPLICATES, seed=1)) for _ in range(3))  # noqa: B023
        for interface, once in loops.items():
            loop = seconds(once, LOOP) * REPLICATES
            rows.append(
                {
                    "working_model": family,
                    "loop": f"statsmodels, {interface}",
                    "loop_seconds": loop,
                    "seconds": ours,
                    "times_faster": loop / ours,
                }
            )
    result = pd.DataFrame(rows).round(2)
    write_table(result, out / "bootstrap_speed.csv")
    print(result.to_string(index=False))


if __name__ == "__main__":
    main()
