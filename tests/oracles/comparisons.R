# Makes comparisons_r.csv: Dunnett and Tukey (multcomp), margins (t.test), Hommel (p.adjust) on quine.csv.
# Run in this folder: Rscript comparisons.R   (Debian: r-base-core r-cran-multcomp)
suppressMessages(library(multcomp))
set.seed(1)
quine <- read.csv("quine.csv")
quine$Age <- relevel(factor(quine$Age), "F0")
rows <- list()
add <- function(id, pair, estimate, lower, upper, p) rows[[length(rows) + 1]] <<- data.frame(id, pair, estimate, lower, upper, p_value = p)
fits <- list(linear = lm(Days ~ Age, quine), poisson = glm(Days ~ Age + Sex, poisson, quine))
for (name in names(fits)) for (kind in c("Dunnett", "Tukey")) {
  h <- glht(fits[[name]], linfct = mcp(Age = kind))
  s <- summary(h, test = adjusted("single-step", abseps = 1e-7, maxpts = 5e6))
  ci <- confint(h, level = 0.95, abseps = 1e-7, maxpts = 5e6)$confint
  for (i in rownames(ci)) add(paste(name, kind), i, ci[i, 1], ci[i, 2], ci[i, 3], s$test$pvalues[match(i, rownames(ci))])
}
x <- quine$Days[quine$Age == "F1"]; y <- quine$Days[quine$Age == "F0"]
less <- t.test(x, y, var.equal = TRUE, mu = 4, alternative = "less")
more <- t.test(x, y, var.equal = TRUE, mu = -4, alternative = "greater")
add("margin", "less than 4", diff(rev(less$estimate)), NA, NA, less$p.value)
add("margin", "more than -4", diff(rev(more$estimate)), NA, NA, more$p.value)
p <- c(0.011, 0.02, 0.022, 0.09, 0.015, 0.5)
for (i in seq_along(p)) add("hommel", as.character(p[i]), p[i], NA, NA, p.adjust(p, "hommel")[i])
table <- do.call(rbind, rows)
for (name in c("estimate", "lower", "upper", "p_value")) table[[name]] <- sprintf("%.10g", table[[name]])
write.csv(table, "comparisons_r.csv", row.names = FALSE, quote = 1:2)
