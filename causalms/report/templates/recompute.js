"use strict";
// The numbers of a report computed again from the patients that it carries. Effects: working model, means of all patients under
// every arm, their covariance, and the contrast (docs/effects/models_and_variances.md). Forecasts: the probability integral
// transform and the coverage of prediction intervals (docs/calibration.md). Nothing leaves the page.

// ---- Sums and small matrices (arrays of rows) ---------------------------------------------------------------------------------

const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0);
const covariance = (a, b) => {
  const [centreA, centreB] = [mean(a), mean(b)];
  return sum(a.map((value, i) => (value - centreA) * (b[i] - centreB))) / (a.length - 1);
};

function inverse(matrix) { // Gauss and Jordan, with the largest pivot of each column
  const n = matrix.length;
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let column = 0; column < n; column++) {
    let best = column;
    for (let i = column + 1; i < n; i++) if (Math.abs(rows[i][column]) > Math.abs(rows[best][column])) best = i;
    [rows[column], rows[best]] = [rows[best], rows[column]];
    const pivot = rows[column][column];
    rows[column] = rows[column].map((value) => value / pivot);
    for (let i = 0; i < n; i++) {
      const factor = rows[i][column];
      if (i !== column && factor !== 0) rows[i] = rows[i].map((value, j) => value - factor * rows[column][j]);
    }
  }
  return rows.map((row) => row.slice(n));
}

function crossProduct(X, weights) { // X' diag(weights) X
  const p = X[0].length;
  const result = Array.from({ length: p }, () => new Array(p).fill(0));
  X.forEach((row, i) => {
    for (let a = 0; a < p; a++) for (let b = 0; b < p; b++) result[a][b] += weights[i] * row[a] * row[b];
  });
  return result;
}

// ---- Normal and t ---------------------------------------------------------------------------------------------------------------

function logGamma(x) { // Lanczos
  const terms = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const base = x + 6.5;
  const series = terms.slice(1).reduce((total, term, i) => total + term / (x + i), terms[0]);
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(base) - base + Math.log(series);
}

function incompleteBeta(a, b, x) { // regularised, by its continued fraction
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(b, a, 1 - x);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
  const tiny = 1e-300;
  let [f, c, d] = [1, 1, 0];
  for (let i = 0; i <= 1000; i++) {
    const m = Math.floor(i / 2);
    let term = 1;
    if (i > 0 && i % 2 === 0) term = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    if (i % 2 === 1) term = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 + term * d;
    d = 1 / (Math.abs(d) < tiny ? tiny : d);
    c = 1 + term / c;
    if (Math.abs(c) < tiny) c = tiny;
    f *= c * d;
    if (Math.abs(1 - c * d) < 1e-16) break;
  }
  return front * (f - 1);
}

function normalTails(z) { // P(|Z| > z): the complementary error function by its series or its continued fraction
  const x = (z * z) / 2;
  if (x < 2) {
    let [term, total] = [2, 2];
    for (let n = 1; n < 200; n++) {
      term *= x / (n + 0.5);
      total += term;
    }
    return 1 - total * Math.exp(-x) * Math.sqrt(x / Math.PI);
  }
  let fraction = 0;
  for (let n = 300; n >= 1; n--) fraction = (n * (n - 0.5)) / (x + 2 * n + 0.5 - fraction);
  return (Math.exp(-x) * Math.sqrt(x / Math.PI)) / (x + 0.5 - fraction);
}

const twoTails = (t, degrees) => (Number.isFinite(degrees)
  ? incompleteBeta(degrees / 2, 0.5, degrees / (degrees + t * t)) : normalTails(Math.abs(t)));

function quantile(level, degrees) { // where both tails together hold 1 - level
  let [low, high] = [0, 2];
  while (twoTails(high, degrees) > 1 - level) high *= 2;
  for (let step = 0; step < 200 && high - low > 1e-15 * high; step++) {
    const middle = (low + high) / 2;
    if (twoTails(middle, degrees) > 1 - level) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

// ---- Step 1: the working model ------------------------------------------------------------------------------------------------

const FAMILIES = {
  poisson: { inverseLink: Math.exp, slope: (m) => m, variance: (m) => m },
  negbin: { inverseLink: Math.exp, slope: (m) => m, variance: (m, alpha) => m + alpha * m * m },
  logistic: { inverseLink: (eta) => 1 / (1 + Math.exp(-eta)), slope: (m) => m * (1 - m), variance: (m) => m * (1 - m) },
  linear: { inverseLink: (eta) => eta, slope: () => 1, variance: () => 1 },
};

function designRow(part, i, arm) { // intercept, arms but the first, covariates, and by choice arm x covariate
  const arms = part.arms.slice(1).map((_, k) => (arm === k + 1 ? 1 : 0));
  const covariates = part.covariates[i];
  const products = part.interaction ? arms.flatMap((one) => covariates.map((value) => one * value)) : [];
  return [1, ...arms, ...covariates, ...products];
}

function newton(part, X, alpha) { // maximum likelihood by Fisher scoring, at a given dispersion
  const { inverseLink, slope, variance } = FAMILIES[part.family];
  const average = sum(part.outcome) / sum(part.time);
  const start = { linear: 0, logistic: Math.log(average / (1 - average)) };
  let coefficients = X[0].map((_, k) => (k === 0 ? start[part.family] ?? Math.log(average) : 0));
  for (let step = 0; ; step++) {
    const fitted = X.map((row, i) => part.time[i] * inverseLink(dot(row, coefficients)));
    const weights = fitted.map((m) => slope(m) ** 2 / variance(m, alpha));
    const scores = fitted.map((m, i) => (slope(m) / variance(m, alpha)) * (part.outcome[i] - m));
    const inverseInformation = inverse(crossProduct(X, weights));
    const gradient = X[0].map((_, k) => sum(X.map((row, i) => row[k] * scores[i])));
    const change = inverseInformation.map((row) => dot(row, gradient));
    const largest = Math.max(...change.map(Math.abs));
    if (largest < 1e-14 || step === 100) return { X, coefficients, fitted, weights, scores, inverseInformation, alpha };
    const damping = part.family === "linear" ? 1 : Math.min(1, 2 / largest);
    coefficients = coefficients.map((value, k) => value + damping * change[k]);
    if (largest < 1e-11) step = 99; // one more evaluation at the maximum
  }
}

// (log(1 + x) - x / (1 + x)) / x^2, and its derivative
function remainder(x) {
  return x < 1e-3 ? 0.5 - x * (2 / 3 - x * (3 / 4 - x * (4 / 5 - (x * 5) / 6))) : (Math.log1p(x) - x / (1 + x)) / (x * x);
}
function remainderSlope(x) {
  return x < 1e-3 ? -2 / 3 + x * (3 / 2 - x * (12 / 5 - (x * 10) / 3)) : 1 / (x * (1 + x) ** 2) - (2 * remainder(x)) / x;
}

function overEvents(y, term) { // sum of term(j) over every patient's events j = 0, ..., y - 1
  let total = 0;
  for (const count of y) for (let j = 0; j < count; j++) total += term(j);
  return total;
}

function alphaSlope(y, fitted, alpha) { // derivative of the negative-binomial log likelihood by the dispersion
  return overEvents(y, (j) => j / (1 + alpha * j))
    + sum(fitted.map((m, i) => m * m * remainder(alpha * m) - (y[i] * m) / (1 + alpha * m)));
}

function fallingRoot(slope, low, high) { // by bisection and the secant in turn
  let [below, above] = [slope(low), slope(high)];
  for (let step = 0; step < 100; step++) {
    const secant = low + ((high - low) * below) / (below - above);
    const middle = step % 3 === 2 || !Number.isFinite(secant) ? (low + high) / 2 : Math.min(Math.max(secant, low), high);
    const value = slope(middle);
    if (value > 0) [low, below] = [middle, value]; else [high, above] = [middle, value];
    if (value === 0 || high - low <= 4 * Number.EPSILON * Math.max(Math.abs(low), 1)) break;
  }
  return Math.abs(below) < Math.abs(above) ? low : high;
}

function fitModel(part, X) {
  const plain = newton({ ...part, family: part.family === "negbin" ? "poisson" : part.family }, X, 0);
  if (part.family !== "negbin" || alphaSlope(part.outcome, plain.fitted, 0) <= 0) return plain;
  const slope = (logAlpha) => alphaSlope(part.outcome, newton(part, X, Math.exp(logAlpha)).fitted, Math.exp(logAlpha));
  let [low, high] = [-2, 2];
  while (slope(low) <= 0) low -= 2;
  while (slope(high) > 0) high += 2;
  return newton(part, X, Math.exp(fallingRoot(slope, low, high)));
}

// ---- Step 2: the mean of all patients under every arm --------------------------------------------------------------------------

function armMeans(part) {
  const { arm, outcome, time } = part;
  const patients = outcome.map((_, i) => i);
  const members = part.arms.map((_, a) => patients.filter((i) => arm[i] === a));
  const meanTime = members.map((rows) => mean(rows.map((i) => time[i])));
  const byArm = (values) => members.map((rows) => rows.map((i) => values[i]));
  const shares = members.map((rows) => rows.length / outcome.length);
  if (part.estimator === "unadjusted") {
    const estimates = part.arms.map((_, a) => sum(byArm(outcome)[a]) / sum(byArm(time)[a]));
    const predictions = patients.map(() => estimates);
    const residuals = patients.map((i) => (outcome[i] - time[i] * estimates[arm[i]]) / meanTime[arm[i]]);
    const left = residuals.map((value, i) => value / (1 - 1 / members[arm[i]].length));
    const columns = part.arms.length;
    return { arm, estimates, predictions, residuals, left, members, meanTime, shares, columns, drift: null };
  }
  const { inverseLink, slope } = FAMILIES[part.family];
  const fit = fitModel(part, patients.map((i) => designRow(part, i, arm[i])));
  const weight = part.rate === "exposure-weighted" ? time : time.map(() => 1);
  const average = (values, weights) => dot(weights, values) / sum(weights);
  const under = part.arms.map((_, a) => {
    const X = patients.map((i) => designRow(part, i, a));
    const rates = X.map((row) => inverseLink(dot(row, fit.coefficients)));
    const own = members[a];
    const correction = sum(own.map((i) => outcome[i] - time[i] * rates[i])) / sum(own.map((i) => time[i]));
    const slopes = X[0].map((_, k) => X.map((row, i) => row[k] * slope(rates[i])));
    const drift = slopes.map((values) => average(values, weight) - average(values, time));
    return { corrected: rates.map((rate) => rate + correction), estimate: average(rates, weight) + correction, drift };
  });
  const estimates = under.map((one) => one.estimate);
  const predictions = patients.map((i) => under.map(
    (one) => one.estimate + (weight[i] / mean(weight)) * (one.corrected[i] - one.estimate)));
  const residuals = patients.map((i) => (outcome[i] - time[i] * under[arm[i]].corrected[i]) / meanTime[arm[i]]);
  const left = residuals.map((value, i) => {
    const leverage = fit.weights[i] * dot(fit.X[i], fit.inverseInformation.map((row) => dot(row, fit.X[i])));
    return value / Math.max(1 - leverage, 1e-8);
  });
  const drifts = under.some((one) => one.drift.some((value) => value !== 0));
  const drift = !drifts ? null : patients.map((i) => under.map((one) => (
    outcome.length * fit.scores[i] * dot(fit.X[i], fit.inverseInformation.map((row) => dot(row, one.drift))))));
  return { arm, estimates, predictions, residuals, left, members, meanTime, shares, columns: fit.X[0].length, drift };
}

// ---- Step 3: the covariance of the means --------------------------------------------------------------------------------------

function influenceCovariance(means, residuals) {
  const { predictions, members, shares, estimates } = means;
  const n = predictions.length;
  const column = (a, rows) => (rows || predictions.map((_, i) => i)).map((i) => predictions[i][a]);
  const spread = estimates.map((_, a) => estimates.map((__, b) => covariance(column(a), column(b))));
  const outcomes = members.map((rows, a) => rows.map((i) => residuals[i] + predictions[i][a]));
  const cross = members.map((rows, a) => estimates.map((_, b) => covariance(outcomes[a], column(b, rows))));
  const own = members.map((_, a) => (covariance(outcomes[a], outcomes[a]) + spread[a][a] - 2 * cross[a][a]) / shares[a]);
  const added = (a, b) => {
    if (!means.drift) return 0;
    const full = predictions.map((row, i) => row.map((value, k) => value - estimates[k] + means.drift[i][k]
      + (means.arm[i] === k ? means.residuals[i] / shares[k] : 0)));
    const products = (values) => sum(values.map((row) => row[a] * row[b]));
    return (products(full) - products(full.map((row, i) => row.map((value, k) => value - means.drift[i][k])))) / n;
  };
  return estimates.map((_, a) => estimates.map((__, b) => (
    ((a === b ? own[a] : 0) + cross[a][b] + cross[b][a] - spread[a][b] + added(a, b)) / n)));
}

function adjustedAlpha(y, fitted) { // Cox and Reid's adjusted profile likelihood of one arm's dispersion
  const slope = (logAlpha) => {
    const alpha = Math.exp(logAlpha);
    const shrunk = fitted.map((m) => m / (1 + alpha * m));
    return alpha * (alphaSlope(y, fitted, alpha) + sum(shrunk.map((value) => value * value)) / sum(shrunk) / 2);
  };
  const likelihood = (alpha) => overEvents(y, (j) => Math.log1p(alpha * j))
    - sum(fitted.map((m, i) => (y[i] + 1 / alpha) * Math.log1p(alpha * m)))
    - Math.log(sum(fitted.map((m) => m / (1 + alpha * m)))) / 2;
  if (!y.some((count) => count > 0)) return 0;
  const grid = Array.from({ length: 49 }, (_, k) => -7 + k / 4);
  const heights = grid.map((value) => likelihood(Math.exp(value)));
  const top = heights.indexOf(Math.max(...heights));
  let [low, high] = [grid[Math.max(top - 1, 0)], grid[Math.min(top + 1, 48)]];
  while (slope(high) > 0) [low, high] = [high, high + 2];
  return slope(low) <= 0 ? 0 : Math.exp(fallingRoot(slope, low, high));
}

function varianceFloor(part, means, a) { // what the law of the counts adds to an arm's variance
  const rows = means.members[a];
  const [size, time] = [rows.length, means.meanTime[a]];
  const y = rows.map((i) => part.outcome[i]);
  const raw = rows.map((i) => part.outcome[i] - means.residuals[i] * time);
  const least = 1e-8 * Math.max(mean(raw), 1e-8);
  const fitted = raw.map((value) => Math.max(value, least));
  const alpha = adjustedAlpha(y, fitted);
  const law = sum(fitted.map((m) => m + alpha * m * m)) / (size - 1) / time ** 2;
  const left = rows.map((i) => means.left[i]);
  return (Math.min(1, Math.sqrt(50 / size)) * Math.max(law - covariance(left, left), 0)) / size;
}

function meansCovariance(part, means) {
  if (part.variance === "influence") return { matrix: influenceCovariance(means, means.residuals), degrees: Infinity };
  const matrix = influenceCovariance(means, means.left);
  if (part.variance === "leave-one-out") return { matrix, degrees: Infinity };
  if (part.variance === "leave-one-out-t") return { matrix, degrees: part.outcome.length - means.columns };
  const sizes = means.members.map((rows) => rows.length);
  const floors = sizes.map((_, a) => (part.counts ? varianceFloor(part, means, a) : 0));
  const own = means.members.map((rows, a) => {
    const left = rows.map((i) => means.left[i]);
    return covariance(left, left) / sizes[a] + floors[a];
  });
  floors.forEach((floor, a) => { matrix[a][a] += floor; });
  return { matrix, own, sizes };
}

// ---- Step 4: the contrast -----------------------------------------------------------------------------------------------------

const SCALES = {
  identity: { of: (m) => m, slope: () => 1 },
  log: { of: Math.log, slope: (m) => 1 / m },
  logit: { of: (m) => Math.log(m / (1 - m)), slope: (m) => 1 / (m * (1 - m)) },
};

function wald(part, value, se, degrees) {
  const back = part.scale === "identity" ? (x) => x : Math.exp;
  const half = quantile(part.level, degrees) * se;
  const ends = [back(value - half), back(value + half)];
  return { estimate: back(value), se, lower: ends[0], upper: ends[1], p_value: twoTails(value / se, degrees) };
}

function coefficientContrast(part, a) { // the arm's coefficient, with the model-based variance
  const X = part.outcome.map((_, i) => designRow(part, i, part.arm[i]));
  const fit = fitModel(part, X);
  if (part.variance === "model-r" || fit.alpha === 0) {
    return wald(part, fit.coefficients[a], Math.sqrt(fit.inverseInformation[a][a]), Infinity);
  }
  const shrink = fit.fitted.map((m) => 1 / (1 + fit.alpha * m));
  const information = crossProduct(X, fit.fitted.map((m, i) => m * (1 + fit.alpha * part.outcome[i]) * shrink[i] ** 2));
  const mixed = X[0].map((_, k) => sum(X.map(
    (row, i) => fit.fitted[i] * (part.outcome[i] - fit.fitted[i]) * shrink[i] ** 2 * row[k])));
  const curvature = sum(fit.fitted.map((m, i) => m ** 3 * remainderSlope(fit.alpha * m) + part.outcome[i] * (m * shrink[i]) ** 2))
    - overEvents(part.outcome, (j) => (j / (1 + fit.alpha * j)) ** 2);
  const whole = [...information.map((row, k) => [...row, mixed[k]]), [...mixed, -curvature]];
  return wald(part, fit.coefficients[a], Math.sqrt(inverse(whole)[a][a]), Infinity);
}

// ---- Forecasts: negative-binomial laws of counts against what was observed -----------------------------------------------------

function distributionFunction(average, size) { // P(Y <= 0), P(Y <= 1), ... as they are asked for; size null: Poisson
  const values = [];
  let logMass = size === null ? -average : -size * Math.log1p(average / size);
  return (count) => {
    if (count < 0) return 0;
    while (values.length <= count) {
      const k = values.length;
      const ratio = size === null ? average / k : (((size + k - 1) / k) * average) / (size + average);
      if (k > 0) logMass += Math.log(ratio);
      values.push((k > 0 ? values[k - 1] : 0) + Math.exp(logMass));
    }
    return Math.min(values[count], 1);
  };
}

function quantileOf(law, probability) { // the smallest count whose distribution function reaches the probability
  let count = 0;
  while (law(count) < probability) count += 1;
  return count;
}

function recomputeForecasts(part) {
  const laws = part.mean.map((average, i) => distributionFunction(average, part.size[i]));
  const ends = laws.map((law, i) => [law(part.observed[i] - 1), law(part.observed[i])]);
  const transform = (u) => mean(ends.map(([low, high]) => Math.min(Math.max((u - low) / (high - low), 0), 1)));
  const density = Array.from({ length: part.bins }, (_, k) => (transform((k + 1) / part.bins) - transform(k / part.bins)) * part.bins);
  const coverage = part.levels.map((level) => mean(laws.map((law, i) => {
    const [low, high] = [quantileOf(law, (1 - level) / 2), quantileOf(law, (1 + level) / 2)];
    return low <= part.observed[i] && part.observed[i] <= high ? 1 : 0;
  })));
  return [...coverage, ...density].map((estimate) => ({ estimate }));
}

function recompute(part) { // in the order of part.rows by their index: arms but the first; or levels, then bins
  if (part.kind === "forecasts") return recomputeForecasts(part);
  if (part.estimator === "coefficient") return part.arms.slice(1).map((_, k) => coefficientContrast(part, k + 1));
  const means = armMeans(part);
  const { matrix, degrees, own, sizes } = meansCovariance(part, means);
  const scale = SCALES[part.scale];
  return part.arms.slice(1).map((_, k) => {
    const pair = [0, k + 1];
    const slopes = pair.map((a, index) => (index ? 1 : -1) * scale.slope(means.estimates[a]));
    const variance = sum(pair.map((a, i) => sum(pair.map((b, j) => slopes[i] * matrix[a][b] * slopes[j]))));
    const parts = own ? pair.map((a, i) => slopes[i] ** 2 * own[a]) : null;
    const welch = parts ? sum(parts) ** 2 / sum(parts.map((value, i) => value ** 2 / (sizes[pair[i]] - 1))) : degrees;
    return wald(part, scale.of(means.estimates[k + 1]) - scale.of(means.estimates[0]), Math.sqrt(variance), welch);
  });
}
