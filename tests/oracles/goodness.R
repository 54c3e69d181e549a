# Makes goodness_r.csv: log-likelihood, deviance, AIC, theta with its error (MASS), zero-inflated and hurdle models (pscl).
# Run in this folder: Rscript goodness.R   (Debian: r-base-core r-cran-mass r-cran-pscl)
suppressMessages({library(MASS); library(pscl)})
quine <- read.csv("quine.csv")
epil <- read.csv("epil_totals.csv")
quine$Sex <- relevel(factor(quine$Sex), "F"); epil$trt <- relevel(factor(epil$trt), "placebo")
control <- glm.control(epsilon = 1e-13, maxit = 200)
rows <- list()
add <- function(id, quantity, value) rows[[length(rows) + 1]] <<- data.frame(id, quantity, value)
fits <- list("quine negbin" = glm.nb(Days ~ Sex + Age, quine, control = control), "epil poisson" = glm(y ~ trt + log(base), poisson, epil),
             "epil logistic" = glm(I(y > 30) ~ trt + age, binomial, epil, control = control), "epil linear" = lm(y ~ trt + age, epil))
for (id in names(fits)) {
  fit <- fits[[id]]
  add(id, "log_likelihood", as.numeric(logLik(fit))); add(id, "deviance", deviance(fit)); add(id, "aic", AIC(fit))
  if (!is.null(fit$theta)) { add(id, "theta", fit$theta); add(id, "theta_se", fit$SE.theta) }
}
line <- confint(fits[["epil linear"]])["trtprogabide", ]
add("epil linear", "lower", line[[1]]); add("epil linear", "upper", line[[2]])
add("epil linear", "p_value", summary(fits[["epil linear"]])$coefficients["trtprogabide", 4])
for (kind in c("zero-inflated", "hurdle")) {
  call <- if (kind == "hurdle") hurdle else zeroinfl
  for (dist in c("poisson", "negbin")) {
    fit <- call(Days ~ Sex + Lrn | Sex, quine, dist = dist,
                control = if (kind == "hurdle") hurdle.control(reltol = 1e-15) else zeroinfl.control(EM = FALSE, reltol = 1e-15))
    id <- paste(kind, dist)
    add(id, "log_likelihood", as.numeric(logLik(fit))); add(id, "aic", AIC(fit))
    s <- sqrt(diag(vcov(fit)))
    for (part in c("count", "zero")) {
      add(id, paste(part, "arm"), coef(fit)[[paste0(part, "_SexM")]]); add(id, paste(part, "se"), s[[paste0(part, "_SexM")]])
    }
    if (dist == "negbin") add(id, "theta", fit$theta)
    m <- function(sex) mean(predict(fit, transform(quine, Sex = factor(sex, levels(quine$Sex))), type = "response"))
    add(id, "ratio", m("M") / m("F"))
  }
}
table <- do.call(rbind, rows)
table$value <- sprintf("%.10g", table$value)
write.csv(table, "goodness_r.csv", row.names = FALSE, quote = 1:2)
