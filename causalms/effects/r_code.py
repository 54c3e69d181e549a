"""Passages of the R programs that :func:`causalms.effects.r_program` prints: fits, means, variances, contrasts."""

from __future__ import annotations

_CONTROL = "epsilon = 1e-14, maxit = 200"
#: Working model -> its fit in R.
FITS = {
    "poisson": f"glm({{}}, family = poisson, data = d, control = list({_CONTROL}))",
    "negbin": f"MASS::glm.nb({{}}, data = d, control = glm.control({_CONTROL}))",
    "logistic": f"glm({{}}, family = binomial, data = d, control = list({_CONTROL}))",
    "linear": "lm({}, data = d)",
}
#: Inverse links, and derivatives of the mean by the linear predictor, of the mean m.
INVERSE = {"poisson": "exp", "negbin": "exp", "logistic": "plogis", "linear": "identity"}
SLOPES = {"poisson": "m", "negbin": "m", "logistic": "m * (1 - m)", "linear": "rep(1, length(m))"}
#: Variance of a count with mean m, over which scores are weighted.
LAWS = {"poisson": "m", "negbin": "m + m^2 / size", "logistic": "m * (1 - m)", "linear": "rep(1, length(m))"}
#: Scale of inference of a measure: transformation, derivative, and back.
SCALES = {
    "log": ("log(m)", "1 / m", "exp"),
    "logit": ("qlogis(m)", "1 / (m * (1 - m))", "exp"),
    "identity": ("m", "rep(1, length(m))", "identity"),
}
#: The fit as matrices; covariates that repeat others are left out.
PARTS = """\
parts <- function(d) {{
  fit <- {fit}
  kept <- !is.na(coef(fit)); b <- coef(fit)[kept]; size <- if (is.null(fit$theta)) Inf else fit$theta
  under <- function(a) {{
    e <- d; if (!is.null(a)) e${arm} <- factor(arms[a], levels = arms)
    model.matrix(delete.response(terms(fit)), e)[, kept, drop = FALSE]
  }}
  X <- under(NULL); m <- time(d) * {inverse}(drop(X %*% b)); v <- {law}; s <- {slope}
  w <- s^2 / v; M <- solve(crossprod(X * sqrt(w)))
  list(fit = fit, b = b, X = X, m = m, v = v, s = s, w = w, M = M, h = rowSums((X %*% M) * X) * w, size = size, under = under,
       scores = X * ((outcome(d) - m) * s / v))
}}"""
#: Observed information of the coefficients with the dispersion; residual variance over n of a linear model.
SAS = {
    "negbin": """\
observed <- function(p, y) {
  t <- p$size; m <- p$m
  bb <- crossprod(p$X * sqrt(m * t * (t + y) / (m + t)^2)); bt <- -colSums(p$X * (m * (y - m) / (m + t)^2))
  tt <- -sum(trigamma(y + t) - trigamma(t) + 1 / t - 2 / (m + t) + (y + t) / (m + t)^2)
  solve(rbind(cbind(bb, bt), c(bt, tt)))[seq_along(p$b), seq_along(p$b), drop = FALSE]
}""",
    "linear": "observed <- function(p, y) p$M * sum((y - p$m)^2) / length(y)",
}
#: Means of the arms by standardisation with the arm-wise correction, and what their variances need.
MEANS = """\
means <- function(d) {{
  p <- parts(d); y <- outcome(d); t <- time(d); n <- nrow(d); K <- length(arms)
  A <- as.integer(d${arm}); own <- outer(A, 1:K, "==") * 1
  weight <- {weight}; share <- weight / mean(weight); sizes <- colSums(own)
  rates <- slopes <- matrix(0, n, K); G <- D <- matrix(0, K, length(p$b))
  for (a in 1:K) {{
    X <- p$under(a); m <- {inverse}(drop(X %*% p$b)); rates[, a] <- m; z <- X * ({slope}); i <- A == a
    G[a, ] <- colSums(z * weight) / sum(weight) - colSums(z[i, , drop = FALSE] * t[i]) / sum(t[i])
    D[a, ] <- colSums(z * weight) / sum(weight) - colSums(z * t) / sum(t)
  }}
  correction <- colSums(own * (y - t * rates)) / colSums(own * t)
  theta <- colSums(rates * weight) / sum(weight) + correction
  corrected <- sweep(rates, 2, correction, "+")
  P <- sweep(share * sweep(corrected, 2, theta), 2, theta, "+")
  average <- drop((colSums(own * t) / sizes)[A])
  e <- (y - t * corrected[cbind(1:n, A)]) / average
  c(p, list(theta = theta, P = P, e = e, G = G, D = D, own = own, A = A, n = n, K = K, y = y, t = t, average = average,
            pi = sizes / n, sizes = sizes))
}}"""
#: Means without a model.
PLAIN = """\
means <- function(d) {{
  y <- outcome(d); t <- time(d); n <- nrow(d); K <- length(arms)
  A <- as.integer(d${arm}); own <- outer(A, 1:K, "==") * 1; sizes <- colSums(own)
  theta <- colSums(own * y) / colSums(own * t); average <- drop((colSums(own * t) / sizes)[A]); none <- matrix(0, K, K)
  list(theta = theta, P = matrix(theta, n, K, byrow = TRUE), e = (y - t * theta[A]) / average, G = none, D = none, own = own,
       A = A, n = n, K = K, y = y, t = t, average = average, pi = sizes / n, sizes = sizes,
       h = (1 / sizes)[A], M = none, X = own, scores = own * 0)
}}"""
#: Covariance with covariates random, of residuals e.
INFLUENCE = """\
drift <- function(q) q$n * q$scores %*% q$M %*% t(q$D)
influence <- function(q, e = q$e) q$P - matrix(q$theta, q$n, q$K, byrow = TRUE) + q$own * (e / q$pi[q$A]) + drift(q)
over <- function(q, e) {
  S <- cov(q$P); C <- matrix(0, q$K, q$K); own <- numeric(q$K)
  for (a in 1:q$K) {
    i <- q$A == a; y <- e[i] + q$P[i, a]
    C[a, ] <- cov(y, q$P[i, , drop = FALSE]); own[a] <- (var(y) + S[a, a] - 2 * C[a, a]) / q$pi[a]
  }
  V <- diag(own) + C + t(C) - S - blocks(q)
  if (any(q$D != 0)) { f <- influence(q); V <- V + (crossprod(f) - crossprod(f - drift(q))) / q$n }
  V / q$n
}"""
#: What permuted blocks within strata of many patients an arm take away.
BLOCKS = """\
blocks <- function(q) {{
  z <- factor(d${strata}); r <- tapply(q$e, list(z, q$A), mean); share <- as.numeric(table(z)) / q$n
  if (nlevels(z) > 1 && min(table(z, q$A)) < {small}) stop("a stratum has fewer than {small} patients in an arm")
  Reduce(`+`, lapply(seq_len(nlevels(z)), function(k) share[k] * outer(r[k, ], r[k, ]))) * (diag(1 / q$pi) - 1)
}}"""
#: Dispersion of an arm's counts y with means m by the adjusted profile likelihood, and the variance with its floor.
SMALL_SAMPLE = """\
dispersion <- function(y, m) {
  value <- function(a)
    sum(lgamma(y + 1 / a) - lgamma(1 / a) + y * log(a) - (y + 1 / a) * log1p(a * m)) - log(sum(m / (1 + a * m))) / 2
  slope <- function(l) {
    a <- exp(l); k <- 1 / a; z <- m / (1 + a * m)
    a * (sum(z^2) / sum(z) / 2 - k^2 * sum(digamma(y + k) - digamma(k) + log(k / (m + k)) + 1 - (y + k) / (m + k)))
  }
  grid <- seq(log(1e-5), log(1e3), length.out = 400); at <- which.max(sapply(exp(grid), value))
  if (at == 1) 0 else exp(uniroot(slope, grid[c(at - 1, min(at + 1, 400))], tol = 1e-13, extendInt = "downX")$root)
}
floored <- function(q, left) sapply(1:q$K, function(a) {
  i <- q$A == a; n <- sum(i); t <- mean(q$t[i]); m <- q$y[i] - q$e[i] * t
  m <- pmax(m, 1e-8 * max(mean(m), 1e-8)); law <- sum(m + dispersion(q$y[i], m) * m^2) / (n - 1) / t^2
  min(1, sqrt(50 / n)) * max(law - var(left[i]), 0) / n
})"""
#: Variance with covariates fixed: delta method through coefficients and arm residuals.
FIXED = """\
own_share <- function(q) sweep(q$own, 2, colSums(q$own * q$t), "/")
sandwich_of_means <- function(q, f) crossprod((q$scores %*% q$M %*% t(q$G) + own_share(q) * (q$e * q$average)) * f)"""
MODEL = """\
model_of_means <- function(q, V, scale) {
  B <- own_share(q); C <- q$G %*% q$M %*% (crossprod(q$X * q$s, B) * scale)
  q$G %*% V %*% t(q$G) + C + t(C) + diag(colSums(scale * q$v * B^2))
}"""
#: Every cluster left out once and everything fitted again.
JACKKNIFE = """\
jackknife <- function(cluster) {
  without <- t(sapply(unique(cluster), function(g) means(d[cluster != g, ])$theta)); G <- nrow(without)
  crossprod(sweep(without, 2, colMeans(without))) * (G - 1) / G
}"""
#: Degrees of freedom of the working model's contrasts of arms.
SATTERTHWAITE = """\
model <- {model}
tested <- clubSandwich::coef_test(model, vcov = clubSandwich::vcovCR(model, d${cluster}, type = "CR2"), test = "Satterthwaite")"""
#: Firth's penalised likelihood: modified scores, and the profile of one coefficient.
FIRTH = """\
firth <- function(X, y, t, held = 0, at = 0) {{
  free <- setdiff(seq_len(ncol(X)), held); b <- numeric(ncol(X)); {start}; if (held) b[held] <- at
  likelihood <- function(b) {{
    m <- t * {inverse}(drop(X %*% b)); w <- {law}; sum({log}) + determinant(crossprod(X * sqrt(w)))$modulus[1] / 2
  }}
  for (step in 1:500) {{
    m <- t * {inverse}(drop(X %*% b)); w <- {law}; I <- crossprod(X * sqrt(w)); h <- rowSums((X %*% solve(I)) * X) * w
    move <- solve(I[free, free], crossprod(X, y - m + h * ({pull}))[free]); size <- min(1, 1 / max(abs(move)))
    repeat {{
      new <- b; new[free] <- b[free] + size * move
      if (likelihood(new) >= likelihood(b) - 1e-10 || size < 1e-8) break
      size <- size / 2
    }}
    b <- new; if (max(abs(move)) < 1e-12) break
  }}
  m <- t * {inverse}(drop(X %*% b)); list(b = b, l = likelihood(b), M = solve(crossprod(X * sqrt({law}))))
}}"""
FIRTH_OF = {
    "poisson": {"start": "b[1] <- log((sum(y) + 0.5) / sum(t))", "log": "y * log(m) - m", "pull": "0.5"},
    "logistic": {"start": "b[1] <- 0", "log": "y * log(m) + (1 - y) * log1p(-m)", "pull": "0.5 - m"},
}
FIRTH_ROWS = """\
X <- model.matrix(fit0); y <- outcome(d); best <- firth(X, y, time(d)); limit <- qchisq({level}, 1)
for (a in 2:length(arms)) {{
  fall <- function(b) 2 * (best$l - firth(X, y, time(d), a, b)$l)
  se <- sqrt(best$M[a, a])
  end <- function(side) uniroot(function(b) fall(b) - limit, sort(best$b[a] + side * c(0, 9) * se), tol = 1e-11)$root
  row(arms[a], exp(best$b[a]), se, exp(end(-1)), exp(end(1)), pchisq(fall(0), 1, lower.tail = FALSE))
}}"""
#: Score test that survives overdispersion, each arm with the reference.
SCORE = """\
score_p <- function(a) {{
  e <- d[d${arm} %in% arms[c(1, a)], ]; p <- parts_of(e); z <- as.numeric(e${arm} == arms[a])
  z <- z - drop(p$X %*% (p$M %*% crossprod(p$X, p$w * z))); u <- z * (outcome(e) - p$m) * p$s / p$v
  2 * pnorm(-abs(sum(u)) / sqrt(sum(u^2)))
}}"""
ROW = 'row <- function(arm, ...) cat(paste(c(arm, sprintf("%.12g", c(...))), collapse = ","), "\\n", sep = "")'
#: A coefficient of each arm; se, df and quantiles.
COEFFICIENTS = """\
for (a in 2:length(arms)) {{
  b <- coef(fit)[[a]]; se <- sqrt(V[a, a]); k <- rep(df, length.out = a)[a]; ends <- b + c(-1, 1) * qt({tail}, k) * se
  row(arms[a], {back}(b), se, {back}(ends[1]), {back}(ends[2]), {p})
}}"""
CONTRASTS = """\
m <- q$theta; value <- {transformed}; slope <- {derivative}
for (a in 2:q$K) {{
  s <- c(-1, 1) * slope[c(1, a)]; se <- sqrt(drop(s %*% V[c(1, a), c(1, a)] %*% s)); b <- value[a] - value[1]
  k <- {df}
  ends <- b + c(-1, 1) * qt({tail}, k) * se
  row(arms[a], {back}(b), se, {back}(ends[1]), {back}(ends[2]), {p})
}}"""
WELCH = "{ part <- s^2 * own[c(1, a)]; sum(part)^2 / sum(part^2 / (q$sizes[c(1, a)] - 1)) }"
