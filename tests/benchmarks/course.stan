// One patient's neutrophils under full doses (1 mg on days 1-21 of every 28), 12 parameters, counts with log-normal error.
// The equations are those of tests/model/reference.py (continuous time, block within the day); M is kept over its baseline,
// so that the start is data and ode_rk45 follows no sensitivity to it.
functions {
  // Amount after a dose of day d of cycle c, doses of 1 mg: geometric series of all doses up to it.
  real amount(real day, real k) {
    real c = floor(day / 28);
    real d = day - 28 * c;
    real all_on = expm1(-21 * k) / expm1(-k);
    real here = d < 21 ? expm1(-(d + 1) * k) / expm1(-k) : exp(-(d - 20) * k) * all_on;
    return here + all_on * exp(-(d + 8) * k) * expm1(-28 * c * k) / expm1(-28 * k);
  }
  vector rates(real t, vector y, real day, real k, real log_potency, real hill, real emax, real k_ikaros, real k_circ,
               real rho, real k_sat, real gamma, data real kd, data real theta) {
    real b_t = emax * inv_logit(hill * (log(amount(day, k)) - k * (t - day) + log_potency));
    real a = y[1];
    real p = y[2];
    real t1 = y[3];
    real t2 = fmax(y[4], 1e-9);
    real t3 = y[5];
    real m = y[6] * (1 + rho);
    real f0 = k_circ + kd * rho;
    real b = (1 + rho - theta) / rho;
    real phi = (f0 + kd) * (k_sat + 1) * (1 - a) * t2 / (k_sat + t2);
    real s = m + b;
    real c = (s - sqrt(square(s) - 4 * theta * m * b)) / (2 * theta);
    return [k_ikaros * (b_t - a), (f0 + 3 * kd) * p * (t2 ^ (-gamma) - 1), (f0 + 3 * kd) * (p - t1),
            (f0 + 2 * kd) * t1 - phi - kd * t2, phi - (f0 + kd) * t3,
            (f0 * t3 - kd * (m - c) - k_circ * c) / (1 + rho)]';
  }
  vector at_any_time(real t, vector y, real k, real log_potency, real hill, real emax, real k_ikaros, real k_circ, real rho,
                     real k_sat, real gamma, data real kd, data real theta) {
    return rates(t, y, floor(t), k, log_potency, hill, emax, k_ikaros, k_circ, rho, k_sat, gamma, kd, theta);
  }
}
data {
  int<lower=1> counts;
  array[counts] int<lower=1> at;  // end of this day
  vector[counts] log_value;       // log of 10^9/L
  vector[12] centre;              // normal prior on the working scale
  vector[12] spread;
  real kd;
  real theta;
  int<lower=0, upper=1> day_by_day;  // integrate from dose to dose, or all at once over the jumps
  real rtol;
  real atol;
}
transformed data {
  array[counts] real times;
  for (i in 1:counts) times[i] = at[i];
}
parameters {
  // Logs of: exposure, half-life (h), EC50, Hill exponent, [logit] Emax, Ikaros half-life (d), blood half-life (h), reserve,
  // saturation, feedback, ANC0, sigma.
  vector[12] w;
}
model {
  real k = log2() * 24 / exp(w[2]);
  real log_potency = w[1] - w[3];
  real hill = exp(w[4]);
  real emax = inv_logit(w[5]);
  real k_ikaros = log2() / exp(w[6]);
  real k_circ = log2() * 24 / exp(w[7]);
  real rho = exp(w[8]);
  real k_sat = exp(w[9]);
  real gamma = exp(w[10]);
  real b = (1 + rho - theta) / rho;
  vector[counts] log_anc;
  array[counts] vector[6] y;
  if (day_by_day) {
    vector[6] now = [0, 1, 1, 1, 1, 1]';
    int seen = 1;
    for (day in 0:(at[counts] - 1)) {
      now = ode_rk45_tol(rates, now, day, {day + 1.0}, rtol, atol, 1000000, day * 1.0, k, log_potency, hill, emax,
                         k_ikaros, k_circ, rho, k_sat, gamma, kd, theta)[1];
      if (at[seen] == day + 1) {
        y[seen] = now;
        seen += 1;
      }
    }
  } else {
    y = ode_rk45_tol(at_any_time, [0, 1, 1, 1, 1, 1]', 0, times, rtol, atol, 1000000, k, log_potency, hill, emax, k_ikaros,
                     k_circ, rho, k_sat, gamma, kd, theta);
  }
  for (i in 1:counts) {
    real m = y[i][6] * (1 + rho);
    real s = m + b;
    log_anc[i] = w[11] + log((s - sqrt(square(s) - 4 * theta * m * b)) / (2 * theta));
  }
  target += normal_lpdf(w | centre, spread);
  target += normal_lpdf(log_value | log_anc, exp(w[12]));
}
