"use strict";
// Cow masks and box masks, as cowmask's spectral engine and `box_masks` draw them.
// Classic scripts share their functions. Browsers refuse modules in a page that is opened from a disk.

/**
 * @typedef {() => number} Uniform The next random number, in [0, 1).
 * @typedef {{height: number, width: number}} Size In pixels.
 * @typedef {{values: ArrayLike<number>, side: number}} Noise White noise in the DCT-II basis: standard normal numbers
 *     (side, side), row by row, the lowest frequency first.
 * @typedef {{values: Float32Array, std: number}} Field A field (height, width) of mean zero.
 * @typedef {{top: number, left: number, height: number, width: number}} Box In pixels.
 */

const GAIN_CUTOFF = 1e-3; // of the blur: smaller gains count as zero
const GUARD_COEFFICIENTS = 4; // kept beyond the cutoff: the taps end, so no gain is zero
const TRUNCATE = 4; // sigmas at which the taps end

// Random numbers

/**
 * Start sfc32, a generator of 128 bits of state. Other seeds give independent numbers.
 * @param {number} seed
 * @returns {Uniform}
 */
function uniformFrom(seed) {
  let [a, b, c, counter] = [0, seed, 0, 1];
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next(); // the seed then shows in every bit
  return next;
}

/**
 * Draw white noise by the Box-Muller method.
 * @param {number} side
 * @param {Uniform} uniform
 * @returns {Noise}
 */
function drawNoise(side, uniform) {
  const values = new Float32Array(side * side);
  for (let i = 0; i < values.length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    values[i] = radius * Math.cos(angle);
    values[i + 1] = radius * Math.sin(angle); // the array drops it beyond its end
  }
  return { values, side };
}

// Cow masks

/**
 * Count the coefficients of an axis that the blur leaves, rounded up to a multiple of 4 for `synthesise`.
 * @param {number} length of the axis, in pixels
 * @param {number} sigma in pixels
 */
function countCoefficients(length, sigma) {
  const angle = Math.sqrt(2 * Math.log(1 / GAIN_CUTOFF)); // sigma times angular frequency, at the cutoff
  const needed = Math.floor((angle * length) / (Math.PI * sigma)) + GUARD_COEFFICIENTS + 1;
  return 4 * Math.ceil(Math.min(length, needed) / 4);
}

/**
 * Return what a Gaussian blur with mirrored borders leaves of each coefficient of an axis: g(k) = sum_j w_j
 * cos(pi k j / length), where w are the blur's taps. Coefficients that the axis does not have get 0.
 * @param {number} length of the axis, in pixels
 * @param {number} sigma in pixels
 * @returns {Float64Array} one gain for each of `countCoefficients`
 */
function gainsOfAxis(length, sigma) {
  const gains = new Float64Array(countCoefficients(length, sigma));
  const radius = Math.floor(TRUNCATE * sigma + 0.5);
  let total = 1;
  for (let j = 1; j <= radius; j++) total += 2 * Math.exp(-((j / sigma) ** 2) / 2);
  for (let k = 0; k < Math.min(length, gains.length); k++) {
    let gain = 1;
    for (let j = 1; j <= radius; j++) {
      gain += 2 * Math.exp(-((j / sigma) ** 2) / 2) * Math.cos((Math.PI * k * j) / length);
    }
    gains[k] = gain / total;
  }
  return gains;
}

/**
 * Blur white noise by a Gaussian.
 * @param {Noise} noise of a side of at least `countCoefficients`
 * @param {Size} size
 * @param {number} sigma in pixels
 * @returns {Field}
 */
function cowField(noise, { height, width }, sigma) {
  const rowGains = gainsOfAxis(height, sigma);
  const columnGains = gainsOfAxis(width, sigma);
  const [rows, columns] = [rowGains.length, columnGains.length];
  const coefficients = new Float32Array(columns * rows); // transposed, as the first product takes them
  let squares = 0;
  for (let k = 0; k < rows; k++) {
    for (let l = k === 0 ? 1 : 0; l < columns; l++) { // the first coefficient is the mean
      const value = noise.values[k * noise.side + l] * rowGains[k] * columnGains[l];
      coefficients[l * rows + k] = value;
      squares += value * value;
    }
  }
  const lines = transpose(synthesise(coefficients, columns, rows, width), width, rows);
  return { values: synthesise(lines, rows, width, height), std: Math.sqrt(squares / (height * width)) };
}

/**
 * Multiply the first `count` orthonormal DCT-II vectors, as columns (length, count), by a matrix (count, width).
 * @param {Float32Array} matrix
 * @param {number} count a multiple of 4
 * @param {number} width
 * @param {number} length
 * @returns {Float32Array} the product (length, width)
 */
function synthesise(matrix, count, width, length) {
  const product = new Float32Array(length * width);
  const cosines = Float64Array.from({ length: 4 * length }, (_, angle) => cosine(angle, length));
  const [even, odd] = [new Float32Array(width), new Float32Array(width)];
  // Even vectors are symmetric about the middle, odd ones antisymmetric: half the rows give the other half.
  for (let i = 0; i < length / 2; i++) {
    const factor = (k) => (k === 0 ? Math.SQRT1_2 : 1) * cosines[((2 * i + 1) * k) % (4 * length)];
    even.fill(0);
    odd.fill(0);
    for (let k = 0; k < count; k += 4) {
      addTwoRows(even, matrix, k * width, factor(k), factor(k + 2));
      addTwoRows(odd, matrix, (k + 1) * width, factor(k + 1), factor(k + 3));
    }
    const [upper, lower] = [i * width, (length - 1 - i) * width];
    for (let j = 0; j < width; j++) {
      product[upper + j] = even[j] + odd[j];
      product[lower + j] = even[j] - odd[j];
    }
  }
  return product;
}

/** Return sqrt(2 / length) cos(pi angle / (2 length)): an entry of a DCT-II vector other than the first. */
function cosine(angle, length) {
  return Math.sqrt(2 / length) * Math.cos((Math.PI * angle) / (2 * length));
}

/** Add to `sum` the row of `matrix` that starts at `start`, and the next but one, each times its factor. */
function addTwoRows(sum, matrix, start, factor, nextFactor) {
  const width = sum.length;
  const next = start + 2 * width;
  for (let j = 0; j < width; j++) sum[j] += factor * matrix[start + j] + nextFactor * matrix[next + j];
}

/** Return the transpose of a matrix (rows, columns). */
function transpose(matrix, rows, columns) {
  const result = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) result[j * rows + i] = matrix[i * columns + j];
  }
  return result;
}

/**
 * Return where a field exceeds the level that a fraction `proportion` of it is expected to exceed.
 * @param {Field} field
 * @param {number} proportion in [0, 1]
 * @returns {Uint8Array} the mask (height, width), of 0 and 1
 */
function thresholdField({ values, std }, proportion) {
  const mask = new Uint8Array(values.length);
  if (proportion >= 1) return mask.fill(1);
  if (proportion <= 0) return mask;
  const threshold = std * normalQuantile(1 - proportion);
  for (let i = 0; i < mask.length; i++) mask[i] = values[i] > threshold ? 1 : 0;
  return mask;
}

/** Return the number that a standard normal one is below with a given probability: sqrt(2) erfinv(2p - 1). */
function normalQuantile(probability) {
  if (probability < 0.5) return -normalQuantile(1 - probability);
  let x = 0;
  for (let step = Infinity; step > 1e-9; x += step) { // Newton's method, from below
    const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
    step = (probability - 0.5 - normalAboveZero(x, density)) / density;
  }
  return x;
}

/** Return the probability that a standard normal number is between 0 and x: density (x + x^3 / 3 + x^5 / 15 + ...). */
function normalAboveZero(x, density) {
  let [sum, term] = [0, x];
  for (let n = 3; sum + term !== sum; n += 2) {
    sum += term;
    term *= (x * x) / n;
  }
  return density * sum;
}

// Boxes and MixUp

/**
 * Draw boxes that lie inside the image. A box has height area^u and width area^(1 - u) as fractions of the image.
 * @param {Size} size
 * @param {number} area fraction of the image, in [0, 1], of all boxes together; boxes may overlap
 * @param {number} count
 * @param {Uniform} uniform
 * @returns {Box[]}
 */
function drawBoxes(size, area, count, uniform) {
  return Array.from({ length: count }, () => {
    const exponent = uniform();
    const height = Math.round(size.height * (area / count) ** exponent);
    const width = Math.round(size.width * (area / count) ** (1 - exponent));
    const top = Math.floor(uniform() * (size.height - height + 1));
    const left = Math.floor(uniform() * (size.width - width + 1));
    return { top, left, height, width };
  });
}

/**
 * Return the union of boxes.
 * @param {Size} size
 * @param {Box[]} boxes
 * @returns {Uint8Array} the mask (height, width), of 0 and 1
 */
function fillBoxes(size, boxes) {
  const mask = new Uint8Array(size.height * size.width);
  for (const { top, left, height, width } of boxes) {
    for (let i = top; i < top + height; i++) mask.fill(1, i * size.width + left, i * size.width + left + width);
  }
  return mask;
}

/**
 * Draw the weight of picture B in MixUp, of the distribution Beta(alpha, alpha), by Jöhnk's method.
 * @param {number} alpha from 0.1 to about 4: above, few numbers are accepted
 * @param {Uniform} uniform
 */
function drawWeight(alpha, uniform) {
  for (;;) {
    const [a, b] = [uniform() ** (1 / alpha), uniform() ** (1 / alpha)];
    if (a + b > 0 && a + b <= 1) return b / (a + b);
  }
}
