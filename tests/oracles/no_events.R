# Makes no_events_r.csv: sites without events, in R with base R, MASS and sandwich.
# Run in this folder: Rscript no_events.R   (Debian: r-base-core r-cran-mass r-cran-sandwich)
# The epilepsy trial with made-up sites; site S4 has no event, and in a second outcome neither S4 nor S1 nor the drug arm of S2.
# glm goes towards infinity: at epsilon 1e-13 the predictions of such a site are below 1e-9.
library(MASS)
library(sandwich)

epil <- read.csv("epil_totals.csv")
epil$trt <- relevel(factor(epil$trt), "placebo")
epil$site <- factor(ifelse(epil$subject %% 6 == 0, "S4", paste0("S", epil$subject %% 3 + 1)))
epil$quiet <- ifelse(epil$site == "S4", 0, epil$y)
epil$quieter <- ifelse(epil$site %in% c("S1", "S4") | (epil$site == "S2" & epil$trt == "progabide"), 0, epil$y)
epil$any <- as.integer(epil$quiet > 15)
epil$most <- ifelse(epil$site == "S3", 1L, epil$any)
control <- glm.control(epsilon = 1e-13, maxit = 200)
rows <- list()
add <- function(id, estimate, se) rows[[length(rows) + 1]] <<- data.frame(id = id, estimate = estimate, se = se)

# The standardized means of Ye, Shao, Yi and Zhao (2023) for simple randomisation, as RobinCar2 has them.
standardized <- function(fit, y) {
  arms <- levels(epil$trt)
  predicted <- sapply(arms, function(a) { d <- epil; d$trt[] <- a; predict(fit, d, type = "response") })
  own <- outer(as.character(epil$trt), arms, "==")
  share <- colMeans(own)
  theta <- colMeans(predicted) + colSums((epil[[y]] - predicted) * own) / colSums(own)
  v <- matrix(0, 2, 2)
  for (a in 1:2) for (b in 1:2) {
    ia <- own[, a]; ib <- own[, b]
    if (a == b) {
      q <- cov(epil[[y]][ia], predicted[ia, a])
      s <- var(predicted[, a])
      v[a, a] <- ((var(epil[[y]][ia]) - 2 * q + s) / share[a] + 2 * q - s) / nrow(epil)
    } else {
      v[a, b] <- (cov(epil[[y]][ia], predicted[ia, b]) + cov(epil[[y]][ib], predicted[ib, a]) - cov(predicted[, a], predicted[, b])) / nrow(epil)
    }
  }
  list(theta = theta, v = v)
}
ratio <- function(id, s) { g <- c(-1, 1) / s$theta; add(id, log(s$theta[[2]] / s$theta[[1]]), sqrt(as.numeric(t(g) %*% s$v %*% g))) }
difference <- function(id, s) { g <- c(-1, 1); add(id, s$theta[[2]] - s$theta[[1]], sqrt(as.numeric(t(g) %*% s$v %*% g))) }
arm <- "trtprogabide"
coefficient <- function(id, fit, v) add(id, coef(fit)[[arm]], sqrt(v[arm, arm]))

for (y in c("quiet", "quieter")) {
  plain <- suppressWarnings(glm(reformulate(c("trt", "site", "age"), y), poisson, epil, control = control))
  crossed <- suppressWarnings(glm(reformulate("trt * (site + age)", y), poisson, epil, control = control))
  ratio(paste(y, "poisson standardized"), standardized(plain, y))
  ratio(paste(y, "poisson standardized, interaction"), standardized(crossed, y))
  coefficient(paste(y, "poisson model"), plain, vcov(plain))
  for (type in c("HC0", "HC1", "HC2", "HC3")) coefficient(paste(y, "poisson", type), plain, vcovHC(plain, type = type))
}
negbin <- suppressWarnings(glm.nb(quiet ~ trt + site + age, epil, control = control))
ratio("quiet negbin standardized", standardized(negbin, "quiet"))
coefficient("quiet negbin model", negbin, vcov(negbin))
coefficient("quiet negbin HC0", negbin, vcovHC(negbin, type = "HC0"))
for (y in c("any", "most")) {
  logistic <- suppressWarnings(glm(reformulate(c("trt", "site", "age"), y), binomial, epil, control = control))
  difference(paste(y, "logistic standardized"), standardized(logistic, y))
  coefficient(paste(y, "logistic model"), logistic, vcov(logistic))
}
table <- do.call(rbind, rows)
table$estimate <- sprintf("%.10f", table$estimate)
table$se <- sprintf("%.10f", table$se)
write.csv(table, "no_events_r.csv", row.names = FALSE, quote = 1)
