# Sample sizes of Zhu and Lakkis (2014) for the settings of their Tables I to III, from their formula (8) in base R, and power with
# t laws.  Rscript tests/oracles/sample_size.R > tests/oracles/sample_size_r.csv
settings <- data.frame(rate = c(0.8, 1.4, 2, 10, 5), ratio = c(0.85, 1.15, 0.5, 1.5, 2), k = c(0.4, 1.5, 1, 5, 0.5),
                       years = c(0.75, 0.75, 1, 1, 1), allocation = c(1, 1, 1, 1.5, 1))
cat("rate,ratio,dispersion,years,allocation,true,reference,pooled,power_t30\n")
for (i in seq_len(nrow(settings))) with(settings[i, ], {
  v <- function(r0, r1) (1 / r0 + 1 / (allocation * r1)) / years + (1 + allocation) * k / allocation
  r1 <- rate * ratio; tilde <- (rate + allocation * r1) / (1 + allocation)
  n <- sapply(list(c(rate, r1), c(rate, rate), c(tilde, tilde)), function(r)
    ceiling((qnorm(0.975) * sqrt(v(r[1], r[2])) + qnorm(0.8) * sqrt(v(rate, r1)))^2 / log(ratio)^2))
  df <- 30 * (1 + allocation) - 2
  p <- pt(qt(0.975, df), df, abs(log(ratio)) / sqrt(v(rate, r1) / 30), lower.tail = FALSE)
  cat(paste(c(rate, ratio, k, years, allocation, n, sprintf("%.10f", p)), collapse = ","), "\n", sep = "")
})
