// Decodes a photo to the model's input: upright uint8 RGB, resized bit for bit as Pillow resizes the training photos.

const MAX_SIDE = 4096; // browsers refuse larger canvases: iOS above 16.7 million pixels

/**
 * Decode a file or blob to RGB bytes [height, width, 3] of a model's input. `resize` is "squash", "letterbox" or
 * "center-crop". Throws createImageBitmap's error if it is not an image.
 */
export async function pixels(blob, { height, width, resize }) {
  // EXIF's orientation is applied; a colour profile is not, as it was not in training.
  let bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const shrink = MAX_SIDE / Math.max(bitmap.width, bitmap.height);
  const [across, down] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * Math.min(1, shrink))));
  const context = new OffscreenCanvas(across, down).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // transparency is put over white
  context.fillRect(0, 0, across, down);
  context.drawImage(bitmap, 0, 0, across, down);
  bitmap.close();
  return fit(rgb(context.getImageData(0, 0, across, down).data), down, across, { height, width, resize });
}

const PADDING = 127; // grey level beside a letterboxed photo

/** Place RGB bytes [height, width, 3] in the model's input, as Python's transferlite/images/placement.py does. */
export function fit(image, height, width, input) {
  if (input.resize === "center-crop") {
    const [cropHeight, cropWidth] = largest(input.height, input.width, height, width);
    image = crop(image, height, width, cropHeight, cropWidth);
    return scale(image, cropHeight, cropWidth, input.height, input.width);
  }
  if (input.resize !== "letterbox") return scale(image, height, width, input.height, input.width);
  const [inner, across] = largest(height, width, input.height, input.width);
  return pad(scale(image, height, width, inner, across), inner, across, input);
}

/** The largest size of the shape height x width within the maximum: [height, width]. */
function largest(height, width, maxHeight, maxWidth) {
  if (width * maxHeight > height * maxWidth) {
    return [Math.max(1, Math.floor((2 * height * maxWidth + width) / (2 * width))), maxWidth];
  }
  return [maxHeight, Math.max(1, Math.floor((2 * width * maxHeight + height) / (2 * height)))];
}

function crop(image, height, width, cropHeight, cropWidth) {
  const [top, left] = [(height - cropHeight) >> 1, (width - cropWidth) >> 1];
  const out = new Uint8Array(3 * cropHeight * cropWidth);
  for (let row = 0; row < cropHeight; row++) {
    const start = 3 * ((top + row) * width + left);
    out.set(image.subarray(start, start + 3 * cropWidth), 3 * row * cropWidth);
  }
  return out;
}

function pad(image, height, width, input) {
  const [top, left] = [(input.height - height) >> 1, (input.width - width) >> 1];
  const out = new Uint8Array(3 * input.height * input.width).fill(PADDING);
  for (let row = 0; row < height; row++) {
    out.set(image.subarray(3 * row * width, 3 * (row + 1) * width), 3 * ((top + row) * input.width + left));
  }
  return out;
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

/** Resize RGB bytes [height, width, 3], bit for bit as Pillow's Image.resize(..., BICUBIC). */
export function scale(image, height, width, toHeight, toWidth) {
  if (height > toHeight && width < toWidth) { // reduces the rows first, as Pillow does
    image = resizeColumns(image, height, width, toHeight);
    height = toHeight;
  }
  if (width !== toWidth) image = resizeLines(image, { lines: height, line: 3 * width, step: 3, from: width, to: toWidth });
  return height === toHeight ? image : resizeColumns(image, height, toWidth, toHeight);
}

/** Resize each line from `from` to `to` pixels. */
function resizeLines(image, { lines, line, step, from, to }) {
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

/** Resize all columns: the image is one line whose "pixels" are whole rows. */
function resizeColumns(image, height, width, toHeight) {
  return resizeLines(image, { lines: 1, line: 0, step: 3 * width, from: height, to: toHeight });
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

/** For each output pixel, the index of its first input pixel, and the weights of that pixel and those after it. */
function coefficients(from, to) {
  const scale = from / to;
  const wide = Math.max(scale, 1);
  return Array.from({ length: to }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - SUPPORT * wide + 0.5));
    const end = Math.min(from, Math.trunc(centre + SUPPORT * wide + 0.5));
    const raw = Array.from({ length: end - first }, (_, tap) => bicubic((tap + first - centre + 0.5) * (1 / wide)));
    const sum = raw.reduce((total, weight) => total + weight, 0);
    const weights = raw.map((weight) => (weight / sum) * (1 << PRECISION)).map((w) => Math.trunc(w < 0 ? w - 0.5 : w + 0.5));
    return { first, weights };
  });
}
