# Makes effects_r.csv: sandwich and model-based standard errors of the public examples, in R.
# Run in this folder: Rscript effects.R   (needs MASS and sandwich, both in Debian as r-cran-mass and r-cran-sandwich)
library(MASS)
library(sandwich)

polyps <- read.csv("polyps.csv")
polyps$treat <- relevel(factor(polyps$treat), "placebo")
epil <- read.csv("epil_totals.csv")
epil$trt <- relevel(factor(epil$trt), "placebo")
# A made-up time at risk, the same on every machine, so that the offset is tested too.
epil$years <- 0.5 + (epil$subject %% 7) / 10
epil$active <- as.integer(epil$y > 20)

rows <- list()
add <- function(id, fit, name, kinds) {
  for (kind in kinds) {
    v <- if (kind == "model") vcov(fit) else vcovHC(fit, type = kind)
    rows[[length(rows) + 1]] <<- data.frame(id = id, variance = kind, estimate = coef(fit)[[name]], se = sqrt(v[name, name]))
  }
}
control <- glm.control(epsilon = 1e-14, maxit = 200)
kinds <- c("model", "HC0", "HC1", "HC2", "HC3")
add("polyps-poisson", glm(number ~ treat + age, poisson, polyps, control = control), "treatdrug", kinds)
add("polyps-negbin", glm.nb(number ~ treat + age, polyps, control = control), "treatdrug", kinds)
add("epil-poisson-offset", glm(y ~ trt + log(base) + age + offset(log(years)), poisson, epil, control = control), "trtprogabide", kinds)
add("epil-negbin-offset", glm.nb(y ~ trt + log(base) + age + offset(log(years)), epil, control = control), "trtprogabide", kinds)
add("epil-logistic", glm(active ~ trt + log(base), binomial, epil, control = control), "trtprogabide", kinds)
add("epil-linear", lm(y ~ trt + base, epil), "trtprogabide", kinds)
write.csv(format(do.call(rbind, rows), digits = 15), "effects_r.csv", row.names = FALSE, quote = FALSE)
