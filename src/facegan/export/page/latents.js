// Seeds -> latents, as facegan.models.sampling.latents, which draws with
// numpy.random.RandomState(seed).randn, and as facegan.sample.latents truncates and interpolates.

export const MAX_SEED = 2 ** 32 - 1;

const N = 624, M = 397;

// The Mersenne Twister (Matsumoto and Nishimura 1998): a function that returns uint32.
function mt19937(seed) {
  const state = new Uint32Array(N);
  let position = N;
  state[0] = seed;
  for (let i = 1; i < N; i++) {
    const previous = state[i - 1] ^ (state[i - 1] >>> 30);
    state[i] = Math.imul(previous, 1812433253) + i;
  }
  const renew = () => {
    for (let i = 0; i < N; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
      state[i] = state[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    position = 0;
  };
  return () => {
    if (position === N) renew();
    let y = state[position++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

// The latent of a seed: Float32Array of standard normal numbers (Marsaglia's polar method).
export function randn(seed, dimensions) {
  const next = mt19937(seed);
  // 53 random bits in [0, 1).
  const uniform = () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  const z = new Float32Array(dimensions);
  for (let i = 0; i < dimensions; i += 2) {
    let x1, x2, r2;
    do {
      x1 = 2 * uniform() - 1;
      x2 = 2 * uniform() - 1;
      r2 = x1 * x1 + x2 * x2;
    } while (r2 >= 1 || r2 === 0);
    const factor = Math.sqrt((-2 * Math.log(r2)) / r2);
    z[i] = factor * x2; // NumPy returns the second one first
    if (i + 1 < dimensions) z[i + 1] = factor * x1;
  }
  return z;
}

const polynomial = (x, ...coefficients) => coefficients.reduce((sum, c) => sum * x + c);

// Distribution function of the standard normal distribution (Hart 1968, algorithm 5666).
export function ndtr(x) {
  const a = Math.abs(x);
  let tail = 0;
  if (a < 7.07106781186547) {
    tail = Math.exp((-a * a) / 2) * polynomial(a,
      0.0352624965998911, 0.700383064443688, 6.37396220353165, 33.912866078383,
      112.079291497871, 221.213596169931, 220.206867912376,
    ) / polynomial(a,
      0.0883883476483184, 1.75566716318264, 16.064177579207, 86.7807322029461,
      296.564248779674, 637.333633378831, 793.826512519948, 440.413735824752,
    );
  } else if (a < 37) {
    const fraction = a + 1 / (a + 2 / (a + 3 / (a + 4 / (a + 0.65))));
    tail = Math.exp((-a * a) / 2) / (fraction * 2.506628274631);
  }
  return x > 0 ? 1 - tail : tail;
}

// Its inverse for p in (0, 0.5] (Acklam 2003; relative error 1.2e-9).
export function ndtri(p) {
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return polynomial(q,
      -7.784894002430293e-3, -0.3223964580411365, -2.400758277161838,
      -2.549732539343734, 4.374664141464968, 2.938163982698783,
    ) / polynomial(q,
      7.784695709041462e-3, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1,
    );
  }
  const q = p - 0.5, r = q * q;
  return (q * polynomial(r,
    -39.69683028665376, 220.9460984245205, -275.9285104469687,
    138.357751867269, -30.66479806614716, 2.506628277459239,
  )) / polynomial(r,
    -54.47609879822406, 161.5858368580409, -155.6989798598866,
    66.80131188771972, -13.28068155288572, 1,
  );
}

// Map a standard normal latent to one of the truncated normal distribution on [-t, t], by quantiles.
export function truncate(z, t) {
  const below = ndtr(-t), mass = 2 * ndtr(t) - 1;
  return z.map((value) => {
    const quantile = below + ndtr(-Math.abs(value)) * mass;
    return Math.sign(value) * -ndtri(Math.min(quantile, 0.5));
  });
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// The latent at `share` in [0, 1] of the great circle from a to b; the norm is interpolated, too.
export function slerp(a, b, share) {
  const norms = [Math.sqrt(dot(a, a)), Math.sqrt(dot(b, b))];
  const cosine = dot(a, b) / Math.max(norms[0] * norms[1], 1e-12);
  const angle = Math.acos(Math.min(Math.max(cosine, -1), 1));
  const sine = Math.sin(angle);
  // The same direction, or opposite ones, which no circle joins.
  if (sine < 1e-4) return a.map((value, i) => value + (b[i] - value) * share);
  const norm = norms[0] + (norms[1] - norms[0]) * share;
  const first = (Math.sin((1 - share) * angle) / norms[0] / sine) * norm;
  const second = (Math.sin(share * angle) / norms[1] / sine) * norm;
  return a.map((value, i) => first * value + second * b[i]);
}
