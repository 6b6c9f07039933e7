// Loads this page's model and predicts photos with it. LiteRT.js runs the same .tflite file as servers and devices.

import { Tensor, loadAndCompile, loadLiteRt } from "./litert/core.js";
import { parse, score as familiarityOf } from "./familiarity.js";

let opened;

/** The model in this script's folder, loaded at the first call. */
export function open() {
  return (opened ??= load());
}

async function load() {
  const urlOf = (name) => new URL(name, import.meta.url).href;
  const info = await (await fetchOk(urlOf("model.json"))).json();
  const file = new Uint8Array(await (await fetchOk(urlOf("model.tflite"))).arrayBuffer());
  const fitted = info.familiarity && parse(await (await fetchOk(urlOf("familiarity.bin"))).arrayBuffer());
  await loadLiteRt(urlOf("litert/wasm/"));
  return new Classifier(info, await loadAndCompile(file, { accelerator: "wasm" }), fitted);
}

async function fetchOk(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return response;
}

export class Classifier {
  constructor(info, model, fitted) {
    this.info = info; // content of model.json: labels, height, width, resize, threshold, ...
    this.model = model;
    this.fitted = fitted; // familiarity score of the training photos, if the model has one
  }

  /** Probability of each label, for uint8 RGB [height, width, 3] of the model's size. */
  async probabilities(rgb) {
    return (await this.run(rgb)).probabilities;
  }

  /** The probabilities, and the feature row. */
  async run(rgb) {
    const { height, width, features } = this.info;
    const image = new Tensor(rgb, [1, height, width, 3]);
    const [output, row] = await this.model.run(image);
    image.delete();
    return { probabilities: take(output, this.info), features: row && take(row, features) };
  }

  /** The predicted label or "unknown" with its reason, its score, and all labels with their scores, best first. */
  async predict(rgb) {
    const { probabilities: scores, features } = await this.run(rgb);
    const top = this.info.labels.map((label, index) => ({ label, score: scores[index] }));
    top.sort((a, b) => b.score - a.score);
    const [{ label, score }] = top;
    const reason = this.reason(label, score, scores, features);
    return { label: reason ? "unknown" : label, score, top, ...(reason && { reason }) };
  }

  reason(label, score, scores, features) {
    if (this.fitted && familiarityOf(this.fitted, features, scores) < this.fitted.threshold) return "unlike-training-photos";
    if (label === this.info.negative) return "none-of-these";
    return score >= this.info.threshold ? "" : "unsure";
  }
}

/** Copy a tensor's values, as floats also if it is quantised, and free it. */
function take(tensor, { scale, zero }) {
  const values = Float32Array.from(tensor.toTypedArray());
  tensor.delete();
  return scale ? values.map((value) => (value - zero) * scale) : values;
}
