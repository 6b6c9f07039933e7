// The page: a photo in, labels with bars out.

import { open } from "./classifier.js";
import { pixels } from "./photo.js";

const SHOWN = 5;
const find = (id) => document.getElementById(id);
const [file, drop, photo, message, answer] = ["file", "drop", "photo", "message", "answer"].map(find);
let classifier;
let newest = 0;

async function label(blob) {
  const mine = ++newest; // of several photos in a row, only the last is answered
  message.textContent = "";
  answer.replaceChildren();
  show(blob);
  try {
    const { height, width } = classifier.about;
    const found = await classifier.answer(await pixels(blob, height, width));
    if (mine === newest) tell(found);
  } catch (error) {
    const unreadable = error.name === "InvalidStateError" || error.name === "EncodingError";
    if (mine === newest) fail(unreadable ? "This browser cannot read that file as a picture." : `It failed: ${error.message}`);
  }
}

function show(blob) {
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(blob);
  photo.hidden = false;
}

function tell(found) {
  const heading = document.createElement("h2");
  heading.textContent = found.label;
  answer.replaceChildren(heading, ...found.top.slice(0, SHOWN).map(row));
}

function row({ label, score }) {
  const line = document.createElement("div");
  line.className = "row";
  const [name, bar, share] = ["span", "progress", "span"].map((tag) => document.createElement(tag));
  name.textContent = label;
  bar.value = score;
  bar.setAttribute("aria-label", label);
  share.textContent = `${(100 * score).toFixed(1)} %`;
  line.append(name, bar, share);
  return line;
}

function fail(text) {
  photo.hidden = true;
  message.textContent = text;
}

function taken(files) {
  const [first] = files;
  if (first && classifier) label(first);
}

file.addEventListener("change", () => taken(file.files));
document.addEventListener("paste", (event) => taken(event.clipboardData.files));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  taken(event.dataTransfer.files);
});
drop.addEventListener("dragenter", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));

try {
  classifier = await open();
  const { model_id, labels } = classifier.about;
  find("model").textContent = `Model ${model_id}: ${labels.slice(0, 10).join(", ")}${labels.length > 10 ? ", …" : ""}`;
  file.disabled = false;
} catch (error) {
  find("model").textContent = "";
  fail(`The model could not be loaded: ${error.message}`);
}
