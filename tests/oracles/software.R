# Makes software_r.csv: the digits of the page "For SAS and R users", in R with MASS, sandwich and base R.
# Run in this folder: Rscript software.R   (Debian: r-base-core r-cran-mass r-cran-sandwich)
library(MASS)
library(sandwich)

polyps <- read.csv("polyps.csv")
polyps$treat <- relevel(factor(polyps$treat), "placebo")
epil <- read.csv("epil_totals.csv")
epil$trt <- relevel(factor(epil$trt), "placebo")
epil$active <- as.integer(epil$y > 20)
control <- glm.control(epsilon = 1e-14, maxit = 200)
rows <- list()
add <- function(id, estimate, se) rows[[length(rows) + 1]] <<- data.frame(id = id, estimate = estimate, se = se)

# MASS::glm.nb: expected information of the coefficients; HC0 from sandwich.
nb <- glm.nb(number ~ treat + age, polyps, control = control)
add("glm.nb", coef(nb)[["treatdrug"]], sqrt(vcov(nb)["treatdrug", "treatdrug"]))
add("glm.nb HC0", coef(nb)[["treatdrug"]], sqrt(vcovHC(nb, type = "HC0")["treatdrug", "treatdrug"]))

# PROC GENMOD's convention: the observed information of coefficients and dispersion together, by its definition
# (second differences of the negative-binomial log likelihood, its dispersion k = 1/theta).
x <- model.matrix(nb)
minus_log_likelihood <- function(p) {
  -sum(dnbinom(polyps$number, size = 1 / p[4], mu = exp(as.vector(x %*% p[1:3])), log = TRUE))
}
fit <- optim(c(coef(nb), 1 / nb$theta), minus_log_likelihood, method = "BFGS", control = list(reltol = 1e-15))
hessian <- optimHess(c(coef(nb), 1 / nb$theta), minus_log_likelihood, control = list(ndeps = rep(1e-4, 4), parscale = c(1, 1, 0.02, 1)))
stopifnot(max(abs(fit$par - c(coef(nb), 1 / nb$theta))) < 1e-3)
add("GENMOD convention", coef(nb)[["treatdrug"]], sqrt(solve(hessian)["treatdrug", "treatdrug"]))

# The standardized mean of Ye, Shao, Yi and Zhao (2023) for simple randomisation, as RobinCar2 has it.
standardized <- function(fit, data, arm, y) {
  arms <- levels(data[[arm]])
  n <- nrow(data)
  predicted <- sapply(arms, function(a) { d <- data; d[[arm]][] <- a; predict(fit, d, type = "response") })
  own <- outer(as.character(data[[arm]]), arms, "==")
  share <- colMeans(own)
  residual <- data[[y]] - predicted
  theta <- colMeans(predicted) + colSums(residual * own) / colSums(own)
  v <- matrix(0, 2, 2)
  for (a in 1:2) for (b in 1:2) {
    ia <- own[, a]; ib <- own[, b]
    if (a == b) {
      q <- cov(data[[y]][ia], predicted[ia, a])
      s <- var(predicted[, a])
      v[a, a] <- ((var(data[[y]][ia]) - 2 * q + s) / share[a] + 2 * q - s) / n
    } else {
      v[a, b] <- (cov(data[[y]][ia], predicted[ia, b]) + cov(data[[y]][ib], predicted[ib, a]) - cov(predicted[, a], predicted[, b])) / n
    }
  }
  list(theta = theta, v = v)
}
logratio <- function(id, s) {
  g <- c(-1, 1) / s$theta
  add(id, log(s$theta[[2]] / s$theta[[1]]), sqrt(as.numeric(t(g) %*% s$v %*% g)))
}
logratio("RobinCar2 formula, log ratio", standardized(nb, polyps, "treat", "number"))

# g-computation of a logistic model: risks, their difference; delta method through a sandwich of the coefficients.
logistic <- glm(active ~ trt + log(base), binomial, epil, control = control)
frames <- lapply(levels(epil$trt), function(a) { d <- epil; d$trt[] <- a; model.matrix(delete.response(terms(logistic)), d) })
gradient <- Reduce(`-`, rev(lapply(frames, function(m) colMeans(dlogis(as.vector(m %*% coef(logistic))) * m))))
difference <- Reduce(`-`, rev(lapply(frames, function(m) mean(plogis(as.vector(m %*% coef(logistic)))))))
for (kind in c("model", "HC0", "HC3")) {
  v <- if (kind == "model") vcov(logistic) else vcovHC(logistic, type = kind)
  add(paste("risk difference by the delta method,", kind), difference, sqrt(as.numeric(t(gradient) %*% v %*% gradient)))
}
# Ye and others (2023) for the same working model: patients, not coefficients, are what varies.
s <- standardized(logistic, epil, "trt", "active")
add("beeca, risk difference (Ye)", s$theta[[2]] - s$theta[[1]], sqrt(s$v[1, 1] + s$v[2, 2] - 2 * s$v[1, 2]))
# Welch and analysis of covariance
welch <- t.test(y ~ trt, epil)
add("t.test (Welch)", unname(diff(welch$estimate)), welch$stderr)
ancova <- lm(y ~ trt + base, epil)
add("lm HC3", coef(ancova)[["trtprogabide"]], sqrt(vcovHC(ancova, type = "HC3")["trtprogabide", "trtprogabide"]))
write.csv(format(do.call(rbind, rows), digits = 12), "software_r.csv", row.names = FALSE, quote = c(1))
cat(R.version.string, "MASS", format(packageVersion("MASS")), "sandwich", format(packageVersion("sandwich")), "\n")
