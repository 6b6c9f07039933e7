// A photo as the model takes it: upright uint8 RGB of its size, resized as Pillow resizes the photos it was trained on.

const MOST_SIDE = 4096; // browsers refuse larger canvases: iOS at 16.7 million pixels

/** An image file or blob as RGB bytes [height, width, 3]. Throws what createImageBitmap throws of a file that is none. */
export async function pixels(blob, height, width) {
  // EXIF's orientation is applied; a colour profile is not, as it was not in training.
  let bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const shrink = MOST_SIDE / Math.max(bitmap.width, bitmap.height);
  const [across, down] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * Math.min(1, shrink))));
  const context = new OffscreenCanvas(across, down).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // what is transparent lies on white
  context.fillRect(0, 0, across, down);
  context.drawImage(bitmap, 0, 0, across, down);
  bitmap.close();
  return resize(rgb(context.getImageData(0, 0, across, down).data), down, across, height, width);
}

function rgb(rgba) {
  const out = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    out[to++] = rgba[from];
    out[to++] = rgba[from + 1];
    out[to++] = rgba[from + 2];
  }
  return out;
}

/** RGB bytes [height, width, 3] of another size, bit for bit what Pillow's Image.resize(..., BICUBIC) gives. */
export function resize(image, height, width, toHeight, toWidth) {
  if (height > toHeight && width < toWidth) { // fewer rows first, as Pillow does
    image = restacked(image, height, width, toHeight);
    height = toHeight;
  }
  if (width !== toWidth) image = resampled(image, { lines: height, line: 3 * width, step: 3, from: width, to: toWidth });
  return height === toHeight ? image : restacked(image, height, toWidth, toHeight);
}

/** Each line of `from` pixels as one of `to` pixels. */
function resampled(image, { lines, line, step, from, to }) {
  const out = new Uint8Array(lines * to * step);
  const windows = coefficients(from, to);
  for (let row = 0; row < lines; row++) {
    for (let column = 0; column < to; column++) {
      const { first, weights } = windows[column];
      const start = row * line + first * step;
      const target = (row * to + column) * step;
      for (let channel = 0; channel < step; channel++) {
        let sum = 1 << (PRECISION - 1);
        for (let tap = 0, at = start + channel; tap < weights.length; tap++, at += step) sum += image[at] * weights[tap];
        out[target + channel] = clipped(sum);
      }
    }
  }
  return out;
}

/** The same down the columns: what is a pixel there is a whole row here. */
function restacked(image, height, width, toHeight) {
  return resampled(image, { lines: 1, line: 0, step: 3 * width, from: height, to: toHeight });
}

// Source: https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c
const PRECISION = 22;
const SUPPORT = 2;

function clipped(sum) {
  return Math.min(255, Math.max(0, sum >> PRECISION));
}

function bicubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** For each pixel of the result, the first one that it is made of, and the weights of that and the next. */
function coefficients(from, to) {
  const scale = from / to;
  const wide = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - SUPPORT * wide + 0.5));
    const end = Math.min(from, Math.trunc(centre + SUPPORT * wide + 0.5));
    const raw = Array.from({ length: end - first }, (_, tap) => bicubic((tap + first - centre + 0.5) * (1 / wide)));
    const sum = raw.reduce((total, weight) => total + weight, 0);
    const weights = raw.map((weight) => (weight / sum) * (1 << PRECISION)).map((w) => Math.trunc(w < 0 ? w - 0.5 : w + 0.5));
    return { first, weights };
  });
}
