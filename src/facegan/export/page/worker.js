// Runs the generator beside the page, so that its controls stay smooth.
//
// In: {z: Float32Array}. Out: {loaded: bytes}, {ready: true}, {pixels: Uint8Array, milliseconds},
// or {error: text}.

import * as ort from "./onnxruntime-web/ort.js";

let loaded = 0;

async function download(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status}`);
  const parts = [];
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    loaded += part.value.length;
    postMessage({ loaded });
  }
  return new Blob(parts);
}

async function decompressed(blob) {
  const start = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  // Some servers have it decompressed by the browser.
  if (start[0] !== 0x1f || start[1] !== 0x8b) return blob.arrayBuffer();
  const stream = blob.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function start() {
  if (typeof WebAssembly === "undefined" || typeof DecompressionStream === "undefined") {
    throw new Error("this browser has no WebAssembly, or is too old");
  }
  const [program, model] = await Promise.all([
    download("onnxruntime-web/ort.wasm.gz").then(decompressed),
    download("generator.onnx").then((blob) => blob.arrayBuffer()),
  ]);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = program;
  return ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
}

const session = start();

session.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ error: error.message || String(error) }),
);

onmessage = async ({ data: { z } }) => {
  try {
    const generator = await session;
    const begin = performance.now();
    const { images } = await generator.run({ z: new ort.Tensor("float32", z, [1, z.length]) });
    postMessage({ pixels: images.data, milliseconds: performance.now() - begin });
  } catch (error) {
    postMessage({ error: error.message || String(error) });
  }
};
