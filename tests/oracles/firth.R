# Makes firth_r.csv: Firth's penalised likelihood of the arm's coefficient, in R with brglm2 and base R.
# Run in this folder: Rscript firth.R   (Debian: r-base-core r-cran-brglm2)
# Estimates and standard errors by brglm2 (type = "AS_mean"); intervals and p-values by the penalised profile likelihood,
# as R's logistf has them, written out: the log likelihood + log(det(information)) / 2, maximised by optim.
suppressMessages(library(brglm2))
y <- c(5, 2, 0, 6, 8, 1, 0, 5, 0, 2, 0, 2, 3, 0, 2, 15, 0, 5, 4, 0, 1, 1, 2, 3, 7, 0, 1, 4, 10, 1, rep(0, 30))
silent <- data.frame(y = y, any = as.integer(y > 0), drug = rep(0:1, each = 30), x = ((1:60) * 7) %% 11, years = 1 + ((1:60) %% 3) / 2)
epil <- read.csv("epil_totals.csv")
epil$drug <- as.integer(epil$trt == "progabide")
epil$any <- as.integer(epil$y > 60)
epil$x <- epil$age
epil$years <- 1
rows <- list()
firth <- function(id, data, outcome, family) {
  X <- cbind(1, data$drug, data$x)
  y <- data[[outcome]]
  offset <- if (family == "poisson") log(data$years) else 0
  penalised <- function(b) {
    eta <- drop(X %*% b) + offset
    if (family == "poisson") { l <- sum(y * eta - exp(eta)); w <- exp(eta) }
    else { l <- sum(y * eta - log1p(exp(eta))); w <- plogis(eta) * (1 - plogis(eta)) }
    l + as.numeric(determinant(crossprod(X * sqrt(w)))$modulus) / 2
  }
  fit <- glm.fit(X, y, family = if (family == "poisson") poisson() else binomial(), offset = rep(offset, length.out = length(y)))
  best <- brglmFit(X, y, family = fit$family, offset = rep(offset, length.out = length(y)),
                   control = list(type = "AS_mean", epsilon = 1e-13, maxit = 10000))
  b <- unname(best$coefficients)
  w <- if (family == "poisson") exp(drop(X %*% b) + offset) else { p <- plogis(drop(X %*% b)); p * (1 - p) }
  se <- sqrt(solve(crossprod(X * sqrt(w)))[2, 2])
  top <- penalised(b)
  scale <- c(1, max(abs(data$x)))
  drop_at <- function(value) {
    at <- b[c(1, 3)] * scale
    for (i in 1:8) at <- optim(at, function(a) -penalised(c(a[1], value, a[2] / scale[2])), method = if (i %% 2) "Nelder-Mead" else "BFGS",
                               control = list(reltol = 1e-15, maxit = 5000))$par
    2 * (top - penalised(c(at[1], value, at[2] / scale[2])))
  }
  limit <- qchisq(0.95, 1)
  lower <- uniroot(function(v) drop_at(v) - limit, c(b[2] - 8 * se, b[2]), tol = 1e-11)$root
  upper <- uniroot(function(v) drop_at(v) - limit, c(b[2], b[2] + 8 * se), tol = 1e-11)$root
  rows[[length(rows) + 1]] <<- data.frame(id = id, estimate = b[2], se = se, lower = lower, upper = upper,
                                          p_value = pchisq(drop_at(0), 1, lower.tail = FALSE))
}
firth("silent logistic", silent, "any", "logistic")
firth("silent poisson", silent, "y", "poisson")
firth("epil logistic", epil, "any", "logistic")
firth("epil poisson", epil, "y", "poisson")
table <- do.call(rbind, rows)
for (name in names(table)[-1]) table[[name]] <- sprintf("%.10g", table[[name]])
write.csv(table, "firth_r.csv", row.names = FALSE, quote = 1)
