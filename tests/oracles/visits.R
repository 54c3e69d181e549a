# Makes visits_r.csv (and, from the package survival, cgd.csv): counts per visit in R with geepack and survival.
# Run in this folder: Rscript visits.R   (Debian: r-base-core r-cran-geepack r-cran-survival r-cran-mass)
# cgd.csv: gamma interferon in chronic granulomatous disease (Fleming and Harrington 1991, appendix D.2), an infection a row.
# epil_visits.csv: seizures of 58 patients at four visits (Thall and Vail 1990; without patient 49, whose counts of 302 leave
# geepack's AR(1) without a solution), every ninth row set to missing.
library(geepack)
library(survival)

write.csv(cgd[, c("id", "treat", "age", "sex", "tstart", "tstop", "status")], "cgd.csv", row.names = FALSE, quote = FALSE)
epil <- MASS::epil[, c("subject", "trt", "base", "age", "period", "y")]
epil$weeks <- 2 * epil$period
epil <- epil[epil$subject != 49, ]
epil$y[seq(9, nrow(epil), by = 9)] <- NA
write.csv(epil, "epil_visits.csv", row.names = FALSE, quote = FALSE)

rows <- list()
add <- function(...) rows[[length(rows) + 1]] <<- data.frame(...)
seen <- epil[!is.na(epil$y), ]
seen$trt <- relevel(factor(seen$trt), "placebo")
for (structure in c("independence", "exchangeable", "ar1")) for (adjusted in c(FALSE, TRUE)) {
  model <- if (adjusted) y ~ trt + factor(period) + log(base) + age else y ~ trt + factor(period)
  fit <- geeglm(model, poisson, seen, id = subject, waves = period, corstr = structure,
                control = geese.control(epsilon = 1e-10, maxit = 50))
  add(id = paste0("gee ", structure, if (adjusted) " adjusted"), estimate = coef(fit)[["trtprogabide"]],
      se = summary(fit)$coefficients["trtprogabide", "Std.err"],
      correlation = if (structure == "independence") NA else fit$geese$alpha[[1]])
}
cox <- function(name, fit, term) add(id = name, estimate = coef(fit)[[term]], se = sqrt(diag(fit$var))[[match(term, names(coef(fit)))]],
                                     correlation = NA)
cox("cgd efron", coxph(Surv(tstart, tstop, status) ~ treat, cgd, cluster = id), "treatrIFN-g")
cox("cgd breslow", coxph(Surv(tstart, tstop, status) ~ treat, cgd, cluster = id, ties = "breslow"), "treatrIFN-g")
cox("cgd model", coxph(Surv(tstart, tstop, status) ~ treat, cgd), "treatrIFN-g")
cox("cgd adjusted", coxph(Surv(tstart, tstop, status) ~ treat + age + sex, cgd, cluster = id), "treatrIFN-g")
cox("cgd stratified", coxph(Surv(tstart, tstop, status) ~ treat + strata(sex), cgd, cluster = id), "treatrIFN-g")
# A count per visit: that many events at the end of the interval (Breslow's ties), written out by hand.
rate <- function(beta) {  # the estimating function of the proportional means model
  z <- as.integer(seen$trt == "progabide"); w <- exp(beta * z)
  sum(sapply(unique(seen$weeks), function(t) { r <- seen$weeks == t
    sum(seen$y[r] * (z[r] - sum(w[r] * z[r]) / sum(w[r]))) }))
}
beta <- uniroot(rate, c(-3, 3), tol = 1e-14)$root
z <- as.integer(seen$trt == "progabide"); w <- exp(beta * z); residual <- numeric(nrow(seen)); information <- 0
for (t in unique(seen$weeks)) {
  r <- seen$weeks == t; bar <- sum(w[r] * z[r]) / sum(w[r]); hazard <- sum(seen$y[r]) / sum(w[r])
  residual[r] <- (seen$y[r] - w[r] * hazard) * (z[r] - bar)
  information <- information + sum(seen$y[r]) * (bar - bar^2)
}
add(id = "visits breslow", estimate = beta, se = sqrt(sum(tapply(residual, seen$subject, sum)^2)) / information, correlation = NA)
curve <- summary(survfit(Surv(tstart, tstop, status) ~ treat, cgd, id = id), times = c(100, 200, 300))
for (i in seq_along(curve$time))
  add(id = paste("mean", sub("treat=", "", curve$strata[i]), curve$time[i]), estimate = curve$cumhaz[i], se = curve$std.chaz[i],
      correlation = NA)
write.csv(format(do.call(rbind, rows), digits = 12, trim = TRUE), "visits_r.csv", row.names = FALSE, quote = FALSE)
