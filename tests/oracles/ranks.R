# Makes ranks_r.csv: Wilcoxon's and van Elteren's tests and Hodges-Lehmann shifts, in R with coin.
# Run in this folder: Rscript ranks.R   (Debian: r-base-core r-cran-coin)
# van Elteren: ranks within strata over (patients of the stratum + 1), as Lehmann (1975) weights strata.
suppressMessages(library(coin))
quine <- read.csv("quine.csv")
quine <- transform(quine, Sex = factor(Sex, c("F", "M")), Age = factor(Age), log_days = log(Days + 0.5) + (seq_along(Days) * 7 %% 13) / 1000)
rows <- list()
add <- function(id, test, shift = NA, lower = NA, upper = NA)
  rows[[length(rows) + 1]] <<- data.frame(id, z = statistic(test), p_value = pvalue(test), shift, lower, upper)
for (y in c("Days", "log_days")) {
  f <- as.formula(paste(y, "~ Sex"))
  test <- wilcox_test(f, quine, conf.int = TRUE, distribution = "asymptotic")
  ci <- confint(test)
  add(paste(y, "wilcoxon"), test, ci$estimate, ci$conf.int[1], ci$conf.int[2])
  elteren <- function(data) trafo(data, numeric_trafo = function(v) rank_trafo(v) / (length(v) + 1), block = quine$Age)
  add(paste(y, "van elteren"), independence_test(as.formula(paste(y, "~ Sex | Age")), quine, teststat = "scalar", ytrafo = elteren))
}
table <- do.call(rbind, rows)
for (name in names(table)[-1]) table[[name]] <- sprintf("%.10g", table[[name]])
write.csv(table, "ranks_r.csv", row.names = FALSE, quote = 1)
