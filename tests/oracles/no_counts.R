# Makes no_counts_r.csv: rate ratio of counts where one of two arms of 30 has no event.  Run in this folder: Rscript no_counts.R
# (Debian: r-base-core r-cran-mass).  Negative-binomial profile likelihood by glm.nb with an offset, uniroot for its upper bound;
# likelihood-ratio p; exact conditional Poisson bound by binom.test.
library(MASS)
cases <- list(c(5, 2, 0, 6, 8, 1, 0, 5, 0, 2, 0, 2, 3, 0, 2, 15, 0, 5, 4, 0, 1, 1, 2, 3, 7, 0, 1, 4, 10, 1),
              c(rep(c(0, 1, 2, 1, 0, 3, 1, 0, 1, 4), 3)))
rows <- lapply(cases, function(y) {
  d <- data.frame(y = c(y, rep(0, 30)), drug = rep(0:1, each = 30))
  fit <- function(b) glm.nb(y ~ 1 + offset(b * drug), d, control = glm.control(epsilon = 1e-14, maxit = 500))
  top <- as.numeric(logLik(glm.nb(y ~ 1, d[1:30, ], control = glm.control(epsilon = 1e-14, maxit = 500))))
  deviance <- function(b) 2 * (top - as.numeric(logLik(fit(b))))
  upper <- exp(uniroot(function(b) deviance(b) - qchisq(0.95, 1), c(-7, -0.5), tol = 1e-12)$root)
  share <- binom.test(0, sum(y), alternative = "two.sided")$conf.int[2]
  data.frame(counts = paste(y, collapse = " "), upper = upper, p = pchisq(deviance(0), 1, lower.tail = FALSE), exact = share / (1 - share))
})
table <- do.call(rbind, rows)
for (name in names(table)[-1]) table[[name]] <- sprintf("%.10g", table[[name]])
write.csv(table, "no_counts_r.csv", row.names = FALSE, quote = FALSE)
