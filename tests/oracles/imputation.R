# Makes imputation_r.csv: Rubin's rules with Barnard and Rubin's degrees of freedom, by mice::pool.
# Run in this folder: Rscript imputation.R   (Debian: r-base-core r-cran-mice)
# The epilepsy trial, every fourth total missing, five imputations that are written down here (no random numbers).
library(mice)
epil <- read.csv("epil_totals.csv")
epil$trt <- relevel(factor(epil$trt), "placebo")
lacking <- seq(4, nrow(epil), by = 4)
fits <- lapply(1:5, function(draw) {
  d <- epil
  d$y[lacking] <- (7 * d$base[lacking] + 11 * draw * lacking) %% 60
  lm(y ~ trt + base, d)
})
pooled <- summary(pool(as.mira(fits)), conf.int = TRUE)
row <- pooled[pooled$term == "trtprogabide", ]
write.csv(format(data.frame(id = "lm", estimate = row$estimate, se = row$std.error, df = row$df, lower = row$`2.5 %`,
                            upper = row$`97.5 %`, p = row$p.value), digits = 12), "imputation_r.csv", row.names = FALSE, quote = FALSE)
