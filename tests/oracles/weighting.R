# Makes weighting_r.csv: missing outcomes by (augmented) inverse probability weights with the sandwich of all stacked estimating
# equations, its bread by central differences; missing covariates by mean and indicator.  Run in this folder: Rscript weighting.R
# Base R only.  The epilepsy trial; outcomes of patients with (7 subject + base) divisible by 4 are taken for missing.
d <- read.csv("epil_totals.csv")
a <- as.numeric(d$trt == "progabide"); n <- nrow(d)
r <- as.numeric((7 * d$subject + d$base) %% 4 != 0)
Z <- cbind(1, log(d$base), d$age)
links <- list(poisson = exp, logistic = plogis, linear = identity)

case <- function(family, y, X, scale) {
  h <- links[[family]]; y <- ifelse(r == 1, y, 0); p <- ncol(X) + 2
  under <- function(arm) cbind(1, arm, X)
  split <- function(t) list(g0 = t[1:3], g1 = t[4:6], b = t[6 + 1:p], m = t[6 + p + 1:2])
  equations <- function(t) {
    s <- split(t)
    e <- ifelse(a == 1, plogis(Z %*% s$g1), plogis(Z %*% s$g0))
    w <- r / e
    left <- w * (y - h(under(a) %*% s$b))
    means <- sapply(0:1, function(arm) h(under(arm) %*% s$b) + (a == arm) / mean((a == arm) * w) * left - s$m[arm + 1])
    cbind(Z * as.vector((a == 0) * (r - e)), Z * as.vector((a == 1) * (r - e)), under(a) * as.vector(left), means)
  }
  complete <- function(arm) coef(glm(r ~ Z - 1, binomial, subset = a == arm, control = list(epsilon = 1e-14)))
  gamma <- c(complete(0), complete(1))
  w <- r / ifelse(a == 1, plogis(Z %*% gamma[4:6]), plogis(Z %*% gamma[1:3]))
  law <- list(poisson = quasipoisson, logistic = quasibinomial, linear = gaussian)[[family]]
  beta <- coef(glm(y ~ under(a) - 1, law, weights = as.vector(w), control = list(epsilon = 1e-15, maxit = 100)))
  theta <- c(gamma, beta, 0, 0)
  theta[6 + p + 1:2] <- colMeans(equations(theta))[6 + p + 1:2]
  bread <- sapply(seq_along(theta), function(k) {
    up <- down <- theta; step <- 1e-5 * max(1, abs(theta[k])); up[k] <- up[k] + step; down[k] <- down[k] - step
    (colMeans(equations(up)) - colMeans(equations(down))) / (2 * step)
  })
  inverse <- solve(bread); psi <- equations(theta)
  V <- (inverse %*% (t(psi) %*% psi / n) %*% t(inverse) / n)[6 + p + 1:2, 6 + p + 1:2]
  m <- theta[6 + p + 1:2]
  slope <- if (scale == "log") c(-1, 1) / m else c(-1, 1)
  c(if (scale == "log") m[2] / m[1] else m[2] - m[1], sqrt(t(slope) %*% V %*% slope))
}
none <- matrix(0, n, 0); base <- cbind(log(d$base))
active <- as.numeric(d$y > 20)
rows <- rbind(weighted = case("poisson", d$y, none, "log"), augmented = case("poisson", d$y, base, "log"),
              risk = case("logistic", active, base, "identity"), mean = case("linear", d$y, base, "identity"))

# A missing baseline covariate: its mean beside an indicator; Poisson coefficient with HC0.
age <- ifelse(d$subject %% 4 == 0, NA, d$age); lacks <- as.numeric(is.na(age)); d$age <- ifelse(lacks == 1, mean(age, na.rm = TRUE), age)
fit <- glm(y ~ a + log(base) + age + lacks, poisson, d, control = list(epsilon = 1e-14))
X <- model.matrix(fit); mu <- fitted(fit); B <- solve(t(X) %*% (X * mu)); S <- X * (d$y - mu)
rows <- rbind(rows, indicator = c(exp(coef(fit)["a"]), sqrt((B %*% t(S) %*% S %*% B)[2, 2])))
# Visits: patients leave after the second or third visit by rules written down here; missing visits before stay missing.  Weights by a
# pooled logistic model of staying in each arm on age, the visit and log1p of the mean count so far, over visits at which some leave.
v <- read.csv("epil_visits.csv"); weeks <- sort(unique(v$weeks)); people <- unique(v$subject)
first <- v[match(people, v$subject), ]; arm <- as.numeric(first$trt == "progabide")
y <- t(sapply(people, function(s) v$y[v$subject == s][match(weeks, v$weeks[v$subject == s])]))
y[(3 * people + first$age) %% 5 == 0, 3:4] <- NA; y[(people + first$base) %% 6 == 1, 4] <- NA
seen <- !is.na(y); P <- length(people); J <- length(weeks)
inside <- t(apply(seen, 1, function(s) rev(cummax(rev(s)))))
total <- t(apply(ifelse(seen, y, 0), 1, cumsum)); number <- t(apply(seen, 1, cumsum))
before <- cbind(0, log1p(total / pmax(number, 1))[, -J])
risk <- cbind(1, inside[, -J])
leave <- sapply(1:J, function(j) tapply(risk[, j] == 1 & !inside[, j], arm, any))
active <- function(j) leave[arm + 1, j] * risk[, j]
z <- function(j) cbind(1, first$age, j - 1, before[, j])
h <- matrix(diff(c(0, weeks)), P, J, byrow = TRUE)
X <- function(j) cbind(1, arm, j == 2, j == 3, j == 4, log(first$base))
sums <- function(t) {
  w <- rep(1, P); S <- matrix(0, P, 14)
  for (j in 1:J) {
    e <- ifelse(arm == 1, plogis(z(j) %*% t[5:8]), plogis(z(j) %*% t[1:4]))
    e[!leave[arm + 1, j]] <- 1
    S[, 1:4] <- S[, 1:4] + z(j) * as.vector(active(j) * (arm == 0) * (inside[, j] - e))
    S[, 5:8] <- S[, 5:8] + z(j) * as.vector(active(j) * (arm == 1) * (inside[, j] - e))
    w <- w / as.vector(e)
    S[, 9:14] <- S[, 9:14] + X(j) * as.vector(ifelse(seen[, j], w * (ifelse(seen[, j], y[, j], 0) - h[, j] * exp(X(j) %*% t[9:14])), 0))
  }
  S
}
long <- do.call(rbind, lapply(1:J, function(j) data.frame(z = I(z(j)), stay = inside[, j], risk = active(j), arm = arm)))
fits <- lapply(0:1, function(a) coef(glm(stay ~ z - 1, binomial, long[long$risk == 1 & long$arm == a, ], control = list(epsilon = 1e-14))))
theta <- c(unlist(fits), log(mean(y, na.rm = TRUE) / h[1]), rep(0, 5))
for (step in 1:60) {
  J0 <- sapply(9:14, function(k) { u <- d0 <- theta; u[k] <- u[k] + 1e-6; d0[k] <- d0[k] - 1e-6
    (colSums(sums(u)) - colSums(sums(d0)))[9:14] / 2e-6 })
  theta[9:14] <- theta[9:14] - pmax(pmin(solve(J0, colSums(sums(theta))[9:14]), 1), -1)
}
bread <- sapply(1:14, function(k) { u <- d0 <- theta; s <- 1e-5 * max(1, abs(theta[k])); u[k] <- u[k] + s; d0[k] <- d0[k] - s
  (colSums(sums(u)) - colSums(sums(d0))) / (2 * s) })
V <- solve(bread) %*% crossprod(sums(theta)) %*% t(solve(bread))
rows <- rbind(rows, censoring = c(exp(theta[10]), sqrt(V[10, 10])))
write.csv(format(data.frame(id = rownames(rows), estimate = rows[, 1], se = rows[, 2]), digits = 12), "weighting_r.csv",
          row.names = FALSE, quote = FALSE)
