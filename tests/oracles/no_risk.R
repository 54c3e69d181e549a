# Makes no_risk_r.csv: ratios of risks and of odds where an arm has no event, in base R.
# Run in this folder: Rscript no_risk.R   (Debian: r-base-core)
# Upper profile-likelihood bounds by optimize and uniroot; p by the deviance of glm; exact bound and p of the odds ratio by fisher.test.
rows <- list()
for (case in list(c(5, 10, 10), c(12, 30, 30), c(2, 20, 8))) {
  x <- case[1]; m <- case[2]; n <- case[3]
  loglik <- function(p, q) x * log(p) + (m - x) * log1p(-p) + n * log1p(-q)
  top <- x * log(x / m) + (m - x) * log1p(-x / m)
  risk <- function(p, r) r * p
  odds <- function(p, r) r * p / (1 - p + r * p)
  bound <- function(q, highest) {
    fall <- function(r) 2 * (top - optimize(function(p) loglik(p, q(p, r)), c(1e-9, min(1, highest / r) - 1e-9), maximum = TRUE,
                                            tol = 1e-12)$objective) - qchisq(0.95, 1)
    uniroot(fall, c(1e-6, 50), tol = 1e-12)$root
  }
  d <- data.frame(y = c(x, 0), n = c(m, n), arm = 0:1)
  null <- glm(cbind(y, n - y) ~ 1, binomial, d)
  p <- pchisq(2 * (top - loglik(x / (m + n), x / (m + n))), 1, lower.tail = FALSE)
  fisher <- fisher.test(rbind(c(0, n), c(x, m - x)))
  rows[[length(rows) + 1]] <- data.frame(events = x, size = m, treated = n, risk_ratio = bound(risk, 1), odds_ratio = bound(odds, Inf),
                                         p_value = p, exact_odds_ratio = fisher$conf.int[2], fisher = fisher$p.value)
}
table <- do.call(rbind, rows)
for (name in names(table)[-(1:3)]) table[[name]] <- sprintf("%.10g", table[[name]])
write.csv(table, "no_risk_r.csv", row.names = FALSE, quote = FALSE)
