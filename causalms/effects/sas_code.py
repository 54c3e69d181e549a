"""The SAS/IML program of standardised and unadjusted means, in the steps of docs/effects/models_and_variances.md."""

from __future__ import annotations

#: Mean for unit time at linear predictor eta, derivative by eta at mean m, and start of the arms' coefficients at mean m.
FAMILIES = {
    "poisson": ("exp(eta)", "m", "log(m)"),
    "logistic": ("1 / (1 + exp(-eta))", "m # (1 - m)", "log(m / (1 - m))"),
    "linear": ("eta", "j(nrow(m), ncol(m), 1)", "m"),
}
#: Scale of inference of means m: transformation, derivative, and back from a value x.
SCALES = {
    "log": ("log(m)", "1 / m", "exp(x)"),
    "logit": ("log(m / (1 - m))", "1 / (m # (1 - m))", "exp(x)"),
    "identity": ("m", "j(nrow(m), ncol(m), 1)", "x"),
}
#: Outcome, time at risk, arm (1 is the reference) and covariates as matrices.
READ = """\
proc iml;
use d; read all var {y_ t_ a_} into v; close d;
y = v[,1]; t = v[,2]; a = v[,3]; n = nrow(y); k = max(a); arms = design(a);
sizes = (arms[+,])`; share = sizes / n; meantime = ((t`*arms)`) / sizes;"""
#: Columns of the covariates: the outcome and the intercept stand before them.
COVARIATES = """\
use x; read all var _num_ into z; close x; z = z[,3:ncol(z)];"""
#: Arm means without a model.
PLAIN = """\
theta = ((y`*arms)`) / ((t`*arms)`); pred = j(n,1,1) * theta`; h = arms * (1 / sizes); p = k; drift = j(n,k,0);"""
#: Working model by Fisher scoring, means of all patients under every arm, and what exposure that goes with covariates adds.
MEANS = """\
start mean_of(eta); return({mean}); finish;
start slope_of(m); return({slope}); finish;
xx_ = arms{z}; m = ((y`*arms)`) / ((t`*arms)`); b = {begin}{zeros};
do i = 1 to 200;
  fitted = t # mean_of(xx_*b); w = slope_of(fitted);
  step = ginv(xx_`*(xx_ # w)) * (xx_`*(y - fitted)); b = b + step / max(1, max(abs(step)) / 2);
end;
inv_ = ginv(xx_`*(xx_ # w)); h = w # ((xx_*inv_) # xx_)[,+]; p = round(h[+]);
theta = j(k,1,0); pred = j(n,k,0); drift = j(n,k,0);
do g = 1 to k;
  xa = j(n,k,0); xa[,g] = j(n,1,1); xa = xa{z}; r = mean_of(xa*b); own = arms[,g];
  c = (own # (y - t # r))[+] / (own # t)[+];
  theta[g] = r[+] / n + c; pred[,g] = r + j(n,1,c);
  da = xa # slope_of(r); gone = da[+,] / n - (t`*da) / t[+];
  drift[,g] = n * ((xx_ # (y - fitted)) * inv_ * gone`);
end;"""
#: Influence function: res are the residuals that its variance uses, u the plain ones. SAS knows no case: names differ by more.
INFLUENCE = """\
at = (pred # arms)[,+]; u = (y - t # at) / (arms * meantime); left = u / (1 - h);
res = {residuals};
spread = cov(pred); cross = j(k,k,0); own_part = j(k,1,0);
do g = 1 to k;
  rows = loc(a = g); o = res[rows] + pred[rows,g]; joint = cov(o || pred[rows,]);
  cross[g,] = joint[1,2:(k+1)]; own_part[g] = (joint[1,1] + spread[g,g] - 2*cross[g,g]) / share[g];
end;
full = pred - j(n,1,1)*theta` + arms # ((u / (arms*share)) * j(1,k,1)) + drift; without = full - drift;
vc = (diag(own_part) + cross + cross` - spread + (full`*full - without`*without) / n) / n;"""
#: Adds to an arm's variance what the law of its counts asks for; dispersion by Cox and Reid's adjusted profile likelihood.
SMALL_SAMPLE = """\
start slope_alpha(la, yy, mm);
  al = exp(la); x = al * mm; small = (x < 0.001); xx = choose(small, 1, x);
  rem = choose(small, 0.5 - x # (2/3 - x # (0.75 - x # (0.8 - x * 5/6))), (log(1 + xx) - xx / (1 + xx)) / (xx # xx));
  s = 0; do jj = 0 to max(yy) - 1; s = s + (yy > jj)[+] * jj / (1 + al * jj); end;
  sh = mm / (1 + x);
  return(s + (mm # mm # rem - yy # sh)[+] + (sh # sh)[+] / sh[+] / 2);
finish;
own = j(k,1,0);
do g = 1 to k;
  rows = loc(a = g); yy = y[rows]; mm = yy - u[rows] * meantime[g];
  mm = mm <> (1e-8 * max(mm[+] / sizes[g], 1e-8));
  al = 0; low = -7; high = 5;
  if slope_alpha(low, yy, mm) > 0 then do;
    do while (slope_alpha(high, yy, mm) > 0); high = high + 2; end;
    do i = 1 to 200; mid = (low + high) / 2; if slope_alpha(mid, yy, mm) > 0 then low = mid; else high = mid; end;
    al = exp((low + high) / 2);
  end;
  var_left = cov(left[rows]); law = (mm + al * mm # mm)[+] / (sizes[g] - 1) / meantime[g]##2;
  gain = min(1, sqrt(50 / sizes[g])) * max(law - var_left, 0) / sizes[g];
  vc[g,g] = vc[g,g] + gain; own[g] = var_left / sizes[g] + gain;
end;"""
#: Without counts there is no floor, but Welch's degrees of freedom remain.
NO_FLOOR = """\
own = j(k,1,0);
do g = 1 to k; rows = loc(a = g); own[g] = cov(left[rows]) / sizes[g]; end;"""
#: Every arm against the reference, on the scale of inference and back.
CONTRASTS = """\
do g = 2 to k;
  m = theta[1] // theta[g]; f = {transformed}; q = ({derivative}) # {{-1, 1}}; two = 1 || g;
  b = f[2] - f[1]; se = sqrt(q` * vc[two,two] * q); df = {df};
  if df > 1e8 then crit = quantile('NORMAL', {tail}); else crit = quantile('T', {tail}, df);
  if df > 1e8 then p_value = 2 * cdf('NORMAL', -abs(b / se)); else p_value = 2 * cdf('T', -abs(b / se), df);
  x = b; estimate = {back}; x = b - crit * se; lower = {back}; x = b + crit * se; upper = {back};
  print g estimate se lower upper p_value;
end;
quit;"""
#: Welch and Satterthwaite.
WELCH = "((q##2) # own[two])[+]##2 / (((q##2) # own[two])##2 / (sizes[two] - 1))[+]"
