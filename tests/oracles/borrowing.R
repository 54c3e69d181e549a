# Priors that borrow, by numerical integration over mean and heterogeneity: an independent way to the digits of causalms.
# Rscript tests/oracles/borrowing.R > tests/oracles/borrowing_r.csv
y <- c(0.9, 1.1, 1.3); s <- c(0.12, 0.2, 0.15); scale <- 0.5; unit <- 1.3
control <- c(0.6, 0.18); treated <- c(0.2, 0.2)
half_normal <- function(tau) 2 * dnorm(tau, 0, scale)
integral <- function(f, low, high, ...) integrate(f, low, high, rel.tol = 1e-9, subdivisions = 2000L, ...)$value
joint <- function(theta, tau) integral(function(mu) {
  out <- dnorm(theta, mu, tau); for (h in seq_along(y)) out <- out * dnorm(y[h], mu, sqrt(s[h]^2 + tau^2)); out
}, -6, 8)
# tau below 1e-3 makes the inner integrand a spike: the normal mean mu is integrated in closed form by R only for checking sums
spike_safe <- function(theta, tau) {
  v <- s^2 + tau^2; p <- sum(1 / v); m <- sum(y / v) / p
  exp(-0.5 * (sum(log(v)) + log(p) + sum((y - m)^2 / v))) * dnorm(theta, m, sqrt(1 / p + tau^2))
}
stopifnot(abs(joint(1, 0.3) / joint(0.5, 0.3) - spike_safe(1, 0.3) / spike_safe(0.5, 0.3)) < 1e-6)
map <- function(theta) sapply(theta, function(x) integral(function(tau) sapply(tau, function(t) half_normal(t) * spike_safe(x, t)), 0, 4))
low <- -24; high <- 26
total <- integral(map, low, high)
map_density <- function(x) map(x) / total
m1 <- integral(function(x) x * map_density(x), low, high)
m2 <- integral(function(x) (x - m1)^2 * map_density(x), low, high)
robust <- function(x) 0.8 * map_density(x) + 0.2 * dnorm(x, m1, unit)
pooled_v <- 1 / sum(1 / s^2); pooled <- pooled_v * sum(y / s^2)
commensurate <- function(x) 0.5 * dnorm(x, pooled, sqrt(pooled_v)) +
  0.5 * sapply(x, function(z) integral(function(tau) half_normal(tau) * dnorm(z, pooled, sqrt(pooled_v + tau^2)), 0, 4))
power <- function(x) dnorm(x, pooled, sqrt(pooled_v / 0.5))
fisher <- function(d) { # on a fine grid: derivative by splines, integral by trapezoids
  x <- seq(-9, 11, length.out = 16001); v <- d(x); x <- x[v > 1e-250]; v <- v[v > 1e-250]; g <- splinefun(x, log(v))(x, deriv = 1)
  sum((g^2 * v)[-1] + (g^2 * v)[-length(x)]) / 2 * (x[2] - x[1])
}
out <- function(id, value) cat(sprintf("%s,%.10g\n", id, value))
cat("id,value\n")
out("map_mean", m1); out("map_sd", sqrt(m2))
priors <- list(power = power, "robust-map" = robust, commensurate = commensurate)
for (name in names(priors)) {
  d <- priors[[name]]; cut <- if (name == "power") c(-1, 3) else c(low, high)
  mean <- integral(function(x) x * d(x), cut[1], cut[2])
  out(paste0(name, "_sd"), sqrt(integral(function(x) (x - mean)^2 * d(x), cut[1], cut[2])))
  out(paste0(name, "_elir"), unit^2 * fisher(d))
  k <- integral(function(x) d(x) * dnorm(control[1], x, control[2]), -1.5, 3)
  post <- function(x) d(x) * dnorm(control[1], x, control[2]) / k
  out(paste0(name, "_posterior_mean"), integral(function(x) x * post(x), -1.5, 3))
  out(paste0(name, "_probability"), integral(function(x) post(x) * pnorm(x, treated[1], treated[2]), -1.5, 3))
}
