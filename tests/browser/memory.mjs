// Measures the module's memory with a network and a bank as the page loads them: it only grows, so what it has is its peak.
//
//   node tests/browser/memory.mjs NETS [--rows 60000] [--threads 2]        # NETS: the folder that onnx_export.py wrote
//
// Beside it: twice the weights, the bank and one set of activations (every layer's output for one picture, in f32).

import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { browse, employ, serve } from "./serve.mjs";

const { values: options, positionals } = parseArgs({ allowPositionals: true, options: { rows: { type: "string", default: "60000" }, threads: { type: "string", default: "2" } } });
const web = resolve(dirname(fileURLToPath(import.meta.url)), "../../web");
const { server, address } = await serve({ "/nets/": resolve(positionals[0]), "/web/": web });

/** Runs in the worker: bytes of the module's memory, of the weights and of the bank. */
async function measure([net, size, threads, rows, precision]) {
    const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
    let la = await import("/web/pkg/la_wasm.js"), memory;
    if (threads > 1) {
        const started = await (await import("/web/threads.js")).startThreads(threads);
        ({ la, memory } = started);
        if ((await started.joined) !== threads) throw new Error(`expected ${threads} threads, got ${await started.joined}`);
    } else ({ memory } = await la.default({ module_or_path: "/web/pkg/la_wasm_relaxed_bg.wasm" }));
    const manifest = JSON.parse(new TextDecoder().decode(await bytes(`/nets/${net}/manifest.json`))), dim = manifest.bank.dim;
    const length = { f32: 4 * rows * dim, f16: 2 * rows * dim, i8: rows * (dim + 4) }[precision];
    Object.assign(manifest.bank, { rows, precision, file: { ...manifest.bank.file, bytes: length } });
    const read = new TextEncoder().encode(JSON.stringify(manifest)), weights = await bytes(`/nets/${net}/model.safetensors`);
    const network = new la.Network(read, weights);
    const loaded = memory.buffer.byteLength;
    const bank = new la.Bank(read);
    bank.take(new Uint8Array(length).map((_, i) => (i % 2 ? 0x2c + (i % 11 == 0) : (i * 7919) % 251)));
    const queries = [0, 1, 2].map((shift) => network.embed(new Uint8Array(size * size * 4).map((_, i) => ((i + shift) * 7919) % 251), size, size));
    queries.forEach((query) => bank.search(query, 10).free());
    return { loaded, all: memory.buffer.byteLength, weights: weights.length, bank: length };
}

/** Values of every layer's output of ResNet-18 with 64 channels. */
function activations(size, small) {
    const stem = (small ? size : size / 2) ** 2 * 64, side = small ? size : size / 4;
    return [64, 128, 256, 512].reduce((sum, channels, i) => sum + (i ? 5 : 4) * channels * Math.ceil(side / 2 ** i) ** 2, stem + (small ? 0 : side ** 2 * 64));
}

const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
for (const [net, size] of [["resnet18-224", 224], ["resnet18-32-small", 32]]) {
    for (const precision of ["f16", "f32", "i8"]) {
        for (const threads of new Set([1, Number(options.threads)])) {
            const { browser, page } = await browse(chromium, address);
            const { loaded, all, weights, bank } = await (await employ(page)).evaluate(measure, [net, size, threads, Number(options.rows), precision]);
            const once = weights + bank + 4 * activations(size, net.endsWith("small"));
            console.log(`${net}, bank ${options.rows} x 128 in ${precision}, ${threads} thread${threads > 1 ? "s" : ""}: ${mb(all)} (${mb(loaded)} with the network alone), of weights + bank + activations ${mb(once)}: ${(all / once).toFixed(2)} (at most 2)`);
            await browser.close();
        }
    }
}
server.close();
