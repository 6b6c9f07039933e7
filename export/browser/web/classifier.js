// The model of this page: LiteRT.js runs the same .tflite file that servers and devices run.

import { Tensor, loadAndCompile, loadLiteRt } from "./litert/core.js";

let opened;

/** The model that lies beside this script, loaded at the first call. */
export function open() {
  return (opened ??= load());
}

async function load() {
  const here = (name) => new URL(name, import.meta.url).href;
  const about = await (await fetched(here("model.json"))).json();
  const file = new Uint8Array(await (await fetched(here("model.tflite"))).arrayBuffer());
  await loadLiteRt(here("litert/wasm/"));
  return new Classifier(about, await loadAndCompile(file, { accelerator: "wasm" }));
}

async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  return answer;
}

export class Classifier {
  constructor(about, model) {
    this.about = about; // what model.json says: labels, height, width, threshold, ...
    this.model = model;
  }

  /** The probability of each label, for uint8 RGB [height, width, 3] of the model's size. */
  async probabilities(rgb) {
    const { height, width, scale, zero } = this.about;
    const image = new Tensor(rgb, [1, height, width, 3]);
    const [output] = await this.model.run(image);
    image.delete();
    const answer = Float32Array.from(output.toTypedArray());
    output.delete();
    return scale ? answer.map((value) => (value - zero) * scale) : answer;
  }

  /** The label, its score, and all labels with theirs, best first; a label below the threshold is "unknown". */
  async answer(rgb) {
    const scores = await this.probabilities(rgb);
    const top = this.about.labels.map((label, place) => ({ label, score: scores[place] }));
    top.sort((one, other) => other.score - one.score);
    const [{ label, score }] = top;
    return { label: score >= this.about.threshold ? label : "unknown", score, top };
  }
}
