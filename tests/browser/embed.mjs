// Measures the network beside onnxruntime-web: the same weights, the same page, taking turns.
//
//   node tests/browser/embed.mjs NETS [--rounds 20]        # NETS: the folder that onnx_export.py wrote

import { createRequire } from "node:module";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { browse, serve } from "./serve.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const ort = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
const rounds = Number(process.argv[4] ?? 20);
const { server, address } = await serve({ "/nets/": resolve(process.argv[2]), "/pkg/": resolve(here, "../../web/pkg"), "/ort/": ort });

/** Runs in the page: milliseconds of each peer, and the cosine between what they give. */
async function measure([net, size, wasm, threads, rounds]) {
    const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
    const la = await import("/pkg/la_wasm.js");
    await la.default({ module_or_path: `/pkg/${wasm}` });
    const manifest = await bytes(`/nets/${net}/manifest.json`);
    const network = new la.Network(manifest, await bytes(`/nets/${net}/model.safetensors`));
    const ort = await import("/ort/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = "/ort/";
    const session = await ort.InferenceSession.create(`/nets/${net}/model.onnx`, { executionProviders: ["wasm"] });

    const { mean, std } = JSON.parse(new TextDecoder().decode(manifest)).preprocessing;
    const rgba = new Uint8Array(size * size * 4).map((_, i) => (i % 4 == 3 ? 255 : (i * 7919) % 251));
    const planes = new Float32Array(3 * size * size);
    for (let i = 0; i < size * size; i++) for (let c = 0; c < 3; c++) planes[c * size * size + i] = (rgba[4 * i + c] / 255 - mean[c]) / std[c];
    const peers = {
        ours: async () => network.embed(rgba, size, size),
        theirs: async () => (await session.run({ x: new ort.Tensor("float32", planes, [1, 3, size, size]) })).y.data,
    };
    const times = { ours: [], theirs: [] };
    for (let round = -3; round < rounds; round++) {
        for (const [name, run] of Object.entries(peers)) {
            const start = performance.now();
            peers[name].last = await run();
            if (round >= 0) times[name].push(performance.now() - start);
        }
    }
    const cosine = peers.ours.last.reduce((sum, x, i) => sum + x * peers.theirs.last[i], 0);
    return { times, cosine, simd: la.simd() };
}

const median = (times) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
for (const [net, size] of [["resnet18-224", 224], ["resnet18-32-small", 32]]) {
    for (const [wasm, threads] of [["la_wasm_bg.wasm", 1], ["la_wasm_relaxed_bg.wasm", 1]]) {
        const { browser, page } = await browse(chromium, address);
        const { times, cosine, simd } = await page.evaluate(measure, [net, size, wasm, threads, rounds]);
        const [ours, theirs] = [median(times.ours), median(times.theirs)];
        const best = [Math.min(...times.ours), Math.min(...times.theirs)];
        console.log(`${net} ${simd}, ${threads} thread: ours ${ours.toFixed(1)} ms, onnxruntime-web ${theirs.toFixed(1)} ms, ratio ${(ours / theirs).toFixed(2)} (best ${best[0].toFixed(1)}, ${best[1].toFixed(1)}), cosine ${cosine.toFixed(6)}`);
        await browser.close();
    }
}
server.close();
