# Makes clusters_r.csv: variances between clusters, in R with MASS and clubSandwich (vcovCR, coef_test), and jackknives by hand.
# Run in this folder: Rscript clusters.R   (Debian: r-base-core r-cran-mass r-cran-clubsandwich)
# The epilepsy trial with made-up sites: ten of unequal size, each with both arms.
library(MASS)
library(clubSandwich)

epil <- read.csv("epil_totals.csv")
epil$trt <- relevel(factor(epil$trt), "placebo")
epil$site <- epil$subject %% 10 %/% ifelse(epil$subject %% 3 == 0, 2, 1)
epil$any <- as.integer(epil$y > 20)
control <- glm.control(epsilon = 1e-13, maxit = 200)
fits <- list(
  "poisson" = glm(y ~ trt, poisson, epil, control = control),
  "poisson adjusted" = glm(y ~ trt + base + age, poisson, epil, control = control),
  "logistic adjusted" = glm(any ~ trt + base + age, binomial, epil, control = control),
  "linear adjusted" = glm(y ~ trt + base + age, gaussian, epil, control = control),
  "negbin adjusted" = glm.nb(y ~ trt + base + age, epil, control = control)
)
rows <- list()
add <- function(...) rows[[length(rows) + 1]] <<- data.frame(...)
for (name in names(fits)) for (type in c("CR1", "CR2", "CR3")) {
  fit <- fits[[name]]
  v <- vcovCR(fit, epil$site, type = type)
  tested <- coef_test(fit, vcov = v, test = "Satterthwaite")["trtprogabide", ]
  add(id = name, variance = tolower(type), estimate = unname(coef(fit)["trtprogabide"]), se = tested$SE,
      df = if (type != "CR1") tested$df_Satt else length(unique(epil$site)) - 1)
}
# The marginal log rate ratio standardized over all patients, each site left out and everything fitted again.
standardized <- function(d) {
  fit <- glm(y ~ trt + base + age, poisson, d, control = control)
  mean_of <- function(a) { e <- d; e$trt[] <- a; mean(predict(fit, e, type = "response")) }
  c(mean_of("placebo"), mean_of("progabide"))
}
without <- t(sapply(unique(epil$site), function(g) standardized(epil[epil$site != g, ])))
G <- nrow(without)
V <- crossprod(sweep(without, 2, colMeans(without))) * (G - 1) / G
theta <- standardized(epil)
slope <- c(-1, 1) / theta
add(id = "standardized", variance = "cr3", estimate = log(theta[2] / theta[1]), se = sqrt(drop(slope %*% V %*% slope)),
    df = min(G - 1, coef_test(fits[["poisson adjusted"]], vcov = "CR2", cluster = epil$site)["trtprogabide", "df_Satt"]))
write.csv(format(do.call(rbind, rows), digits = 12), "clusters_r.csv", row.names = FALSE, quote = FALSE)
