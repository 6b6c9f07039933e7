// Scores how much a photo is like the training photos; the same numbers as transferlite/predict/familiarity.py.

/** Parse a bundle's familiarity.bin: a line of JSON, then mean, components, references and rests as float16. */
export function parse(buffer) {
  const bytes = new Uint8Array(buffer);
  const end = bytes.indexOf(10);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const values = Float32Array.from(new Uint16Array(buffer.slice(end + 1)), float16);
  const { width, components, references } = head;
  let start = 0;
  const take = (count) => values.subarray(start, (start += count));
  const arrays = { mean: take(width), basis: take(width * components), rows: take(references * components) };
  return { ...head, ...arrays, rests: take(references) };
}

function float16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

/** The score of a photo with this feature row and these probabilities; below `fitted.threshold` it is unlike. */
export function score(fitted, row, probabilities) {
  const { components, references, confidence, closeness } = fitted;
  const { projected, rest } = project(fitted, row);
  let nearest = Infinity;
  for (let index = 0; index < references; index++) {
    let distance = rest + fitted.rests[index];
    for (let axis = 0; axis < components; axis++) {
      distance += (projected[axis] - fitted.rows[index * components + axis]) ** 2;
    }
    nearest = Math.min(nearest, distance);
  }
  const certainty = Math.log(Math.max(...probabilities, fitted.least_probability));
  const scale = (value, { mean, std }) => (value - mean) / std;
  return scale(certainty, confidence) + fitted.nearest_weight * scale(-nearest, closeness);
}

/** Scale a row to length 1 and project it; `rest` is the squared length of what the projection drops. */
function project({ width, components, mean, basis }, row) {
  const length = Math.max(Math.sqrt(row.reduce((sum, value) => sum + value * value, 0)), 1e-12);
  const projected = new Float64Array(components);
  let rest = 0;
  for (let index = 0; index < width; index++) {
    const value = row[index] / length - mean[index];
    rest += value * value;
    for (let axis = 0; axis < components; axis++) projected[axis] += value * basis[index * components + axis];
  }
  for (const value of projected) rest -= value * value;
  return { projected, rest: Math.max(rest, 0) };
}
