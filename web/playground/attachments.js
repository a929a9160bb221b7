// Images beside the question: chosen, pasted or dropped. They are sent as data URLs, in the request only.

import { $, h, icon } from "../shared/dom.js";

const TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const LARGEST = 6 * 1024 * 1024; // bytes of all images: a gateway takes bodies of 10 MiB unless configured otherwise
let images = []; // `{ url, size }`

/** Takes the images for a question that is sent. */
export function takeImages() {
  const urls = images.map(({ url }) => url);
  images = [];
  draw();
  return urls;
}

/** Sets up the button, pasting and dropping; `report` shows a problem. */
export function bindAttachments(report) {
  const [files, composer] = [$("#files"), $("#composer")];
  const add = (list) => addFiles(list).then((problem) => report(problem));
  $("#attach").append(icon("image"));
  $("#attach").addEventListener("click", () => files.click());
  files.addEventListener("change", () => add([...files.files]).then(() => (files.value = "")));
  composer.addEventListener("paste", (event) => {
    const pasted = [...event.clipboardData.files];
    if (pasted.length) add(pasted);
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    // On the whole page, so that a dropped file never replaces it.
    document.addEventListener(name, (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      composer.classList.toggle("dropping", name === "dragover");
      if (name === "drop") add([...event.dataTransfer.files]);
    });
  }
}

/** Adds these files; the text of a problem if one cannot be. */
async function addFiles(files) {
  let problem = "";
  for (const file of files) {
    const size = images.reduce((sum, image) => sum + image.size, file.size);
    if (!TYPES.includes(file.type)) problem = `${file.name}: only PNG, JPEG, GIF and WebP images can be attached.`;
    else if (size > LARGEST) problem = `${file.name}: all images together may have 6 MB.`;
    else images.push({ url: await dataUrl(file), size: file.size });
  }
  draw();
  return problem;
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function draw() {
  const remove = (image) => {
    images = images.filter((other) => other !== image);
    draw();
    $("#prompt").focus();
  };
  $("#thumbs").hidden = images.length === 0;
  $("#thumbs").replaceChildren(...images.map((image, at) => h("span", { class: "thumb" },
    h("img", { src: image.url, alt: `Attached image ${at + 1}` }),
    h("button", { type: "button", "aria-label": `Remove image ${at + 1}`, onclick: () => remove(image) }, icon("close")))));
}
