// The page: shows a photo and its predicted labels with bars.

import { open } from "./classifier.js";
import { pixels } from "./photo.js";

const MAX_LABELS = 5;
const REASONS = {
  "unsure": "not sure",
  "unlike-training-photos": "unlike the training photos",
  "none-of-these": "none of the classes",
};
const find = (id) => document.getElementById(id);
const [file, drop, photo, message, answer] = ["file", "drop", "photo", "message", "answer"].map(find);
let classifier;
let lastRequest = 0;

async function classify(blob) {
  const request = ++lastRequest; // results for earlier photos are dropped
  message.textContent = "";
  answer.replaceChildren();
  showPhoto(blob);
  try {
    const prediction = await classifier.predict(await pixels(blob, classifier.info));
    if (request === lastRequest) showPrediction(prediction);
  } catch (error) {
    const unreadable = error.name === "InvalidStateError" || error.name === "EncodingError";
    const text = unreadable ? "This browser cannot read the file as a photo." : `Prediction failed: ${error.message}`;
    if (request === lastRequest) showError(text);
  }
}

function showPhoto(blob) {
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(blob);
  photo.hidden = false;
}

function showPrediction(prediction) {
  const heading = document.createElement("h2");
  heading.textContent = prediction.label;
  if (prediction.reason) heading.textContent += ` (${REASONS[prediction.reason]})`;
  answer.replaceChildren(heading, ...prediction.top.slice(0, MAX_LABELS).map(row));
}

function row({ label, score }) {
  const line = document.createElement("div");
  line.className = "row";
  const [name, bar, share] = ["span", "progress", "span"].map((tag) => document.createElement(tag));
  name.textContent = label;
  bar.value = score;
  bar.setAttribute("aria-label", label);
  share.textContent = `${(100 * score).toFixed(1)}%`;
  line.append(name, bar, share);
  return line;
}

function showError(text) {
  photo.hidden = true;
  message.textContent = text;
}

function classifyFirst(files) {
  const [first] = files;
  if (first && classifier) classify(first);
}

file.addEventListener("change", () => classifyFirst(file.files));
document.addEventListener("paste", (event) => classifyFirst(event.clipboardData.files));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  classifyFirst(event.dataTransfer.files);
});
drop.addEventListener("dragenter", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));

try {
  classifier = await open();
  const { model_id, labels } = classifier.info;
  find("model").textContent = `Model ${model_id}: ${labels.slice(0, 10).join(", ")}${labels.length > 10 ? ", …" : ""}`;
  file.disabled = false;
} catch (error) {
  find("model").textContent = "";
  showError(`The model could not be loaded: ${error.message}`);
}
