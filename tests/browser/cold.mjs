// Measures a cold start beside onnxruntime-web, each in a browser of its own: from the first request to the first embedding.
//
//   node tests/browser/cold.mjs NETS [ROUNDS]        # NETS: the folder that onnx_export.py wrote
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { browse, serve } from './serve.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { server, address } = await serve({
  '/nets/': resolve(process.argv[2]), '/pkg/': resolve(here, '../../web/pkg'), '/ort/': resolve(here, 'node_modules/onnxruntime-web/dist'),
});

/** Runs in the page: milliseconds to the first embedding, and bytes of the module's memory where it can be told. */
async function ours([net, size]) {
  const start = performance.now();
  const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  const la = await import('/pkg/la_wasm.js');
  const [module, manifest, weights] = await Promise.all([
    la.default({ module_or_path: '/pkg/la_wasm_relaxed_bg.wasm' }), bytes(`/nets/${net}/manifest.json`), bytes(`/nets/${net}/model.safetensors`),
  ]);
  const network = new la.Network(manifest, weights);
  network.embed(new Uint8Array(size * size * 4).fill(200), size, size);
  return { ms: performance.now() - start, memory: module.memory.buffer.byteLength };
}

async function theirs([net, size]) {
  const start = performance.now();
  const ort = await import('/ort/ort.wasm.min.mjs');
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = '/ort/';
  const session = await ort.InferenceSession.create(`/nets/${net}/model.onnx`, { executionProviders: ['wasm'] });
  await session.run({ x: new ort.Tensor('float32', new Float32Array(3 * size * size).fill(0.5), [1, 3, size, size]) });
  return { ms: performance.now() - start };
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
for (const [net, size] of [['resnet18-224', 224], ['resnet18-32-small', 32]]) {
  const taken = { ours: [], theirs: [] };
  let memory;
  for (let round = 0; round < Number(process.argv[3] ?? 7); round++) {
    for (const [name, run] of Object.entries({ ours, theirs })) {
      const { browser, page } = await browse(chromium, address);
      const result = await page.evaluate(run, [net, size]);
      taken[name].push(result.ms);
      memory ??= result.memory;
      await browser.close();
    }
  }
  const [a, b] = [median(taken.ours), median(taken.theirs)];
  console.log(`${net}: first embedding after ${a.toFixed(0)} ms, onnxruntime-web ${b.toFixed(0)} ms, ratio ${(a / b).toFixed(2)}; our memory ${(memory / 1e6).toFixed(1)} MB`);
}
server.close();
