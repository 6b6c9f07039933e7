// Loads this page's model and predicts photos with it. LiteRT.js runs the same .tflite file as servers and devices.

import { Tensor, loadAndCompile, loadLiteRt } from "./litert/core.js";

let opened;

/** The model in this script's folder, loaded at the first call. */
export function open() {
  return (opened ??= load());
}

async function load() {
  const urlOf = (name) => new URL(name, import.meta.url).href;
  const info = await (await fetchOk(urlOf("model.json"))).json();
  const file = new Uint8Array(await (await fetchOk(urlOf("model.tflite"))).arrayBuffer());
  await loadLiteRt(urlOf("litert/wasm/"));
  return new Classifier(info, await loadAndCompile(file, { accelerator: "wasm" }));
}

async function fetchOk(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return response;
}

export class Classifier {
  constructor(info, model) {
    this.info = info; // content of model.json: labels, height, width, resize, threshold, ...
    this.model = model;
  }

  /** Probability of each label, for uint8 RGB [height, width, 3] of the model's size. */
  async probabilities(rgb) {
    const { height, width, scale, zero } = this.info;
    const image = new Tensor(rgb, [1, height, width, 3]);
    const [output] = await this.model.run(image);
    image.delete();
    const values = Float32Array.from(output.toTypedArray());
    output.delete();
    return scale ? values.map((value) => (value - zero) * scale) : values;
  }

  /** The predicted label ("unknown" below the threshold), its score, and all labels with their scores, best first. */
  async predict(rgb) {
    const scores = await this.probabilities(rgb);
    const top = this.info.labels.map((label, index) => ({ label, score: scores[index] }));
    top.sort((a, b) => b.score - a.score);
    const [{ label, score }] = top;
    return { label: score >= this.info.threshold ? label : "unknown", score, top };
  }
}
