// Measures the network beside onnxruntime-web: the same weights, the same worker of one page, taking turns.
//
//   node tests/browser/embed.mjs NETS [--rounds 20] [--loads 3] [--threads 1,2]        # NETS: the folder that onnx_export.py wrote

import { createRequire } from "node:module";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { browse, employ, serve } from "./serve.mjs";

const { values: options, positionals } = parseArgs({ allowPositionals: true, options: {
    rounds: { type: "string", default: "20" }, loads: { type: "string", default: "3" }, threads: { type: "string", default: "1,2" },
} });
const web = resolve(dirname(fileURLToPath(import.meta.url)), "../../web");
const ort = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
const { server, address } = await serve({ "/nets/": resolve(positionals[0]), "/web/": web, "/ort/": ort });

/** Runs in the worker: milliseconds of each peer, and the cosine between what they give. */
async function measure([net, size, wasm, threads, rounds]) {
    const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
    const start = async () => {
        if (threads > 1) return (await import("/web/threads.js")).startThreads(threads);
        const la = await import("/web/pkg/la_wasm.js");
        await la.default({ module_or_path: `/web/pkg/${wasm}` });
        return { la, joined: 1 };
    };
    const { la, joined } = await start();
    if ((await joined) !== threads) throw new Error(`expected ${threads} threads, got ${await joined}`);
    const manifest = await bytes(`/nets/${net}/manifest.json`);
    const network = new la.Network(manifest, await bytes(`/nets/${net}/model.safetensors`));
    const ort = await import("/ort/ort.wasm.min.mjs");
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = `${self.location.origin}/ort/`;
    const session = await ort.InferenceSession.create(`/nets/${net}/model.onnx`, { executionProviders: ["wasm"] });

    const { mean, std } = JSON.parse(new TextDecoder().decode(manifest)).preprocessing;
    const rgba = new Uint8Array(size * size * 4).map((_, i) => (i % 4 == 3 ? 255 : (i * 7919) % 251));
    const planes = new Float32Array(3 * size * size);
    for (let i = 0; i < size * size; i++) for (let c = 0; c < 3; c++) planes[c * size * size + i] = (rgba[4 * i + c] / 255 - mean[c]) / std[c];
    const peers = {
        ours: async () => network.embed(rgba, size, size),
        theirs: async () => (await session.run({ x: new ort.Tensor("float32", planes, [1, 3, size, size]) })).y.data,
    };
    const times = { ours: [], theirs: [] }, last = {};
    for (let round = -5; round < rounds; round++) {
        for (const [name, run] of Object.entries(peers)) {
            // Threads spin for a while after their work: the other's turn begins when they sleep.
            await new Promise((wake) => setTimeout(wake, 30));
            const start = performance.now();
            last[name] = await run();
            if (round >= 0) times[name].push(performance.now() - start);
        }
    }
    const cosine = last.ours.reduce((sum, x, i) => sum + x * last.theirs[i], 0);
    return { times, cosine, simd: la.simd() };
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const span = (list) => `${Math.min(...list).toFixed(1)} to ${Math.max(...list).toFixed(1)}`;
for (const [net, size] of [["resnet18-224", 224], ["resnet18-32-small", 32]]) {
    for (const [wasm, threads] of [["la_wasm_bg.wasm", 1], ["la_wasm_relaxed_bg.wasm", 1], ["", 2], ["", 4], ["", 8]]) {
        if (!options.threads.split(",").map(Number).includes(threads)) continue;
        const all = { ours: [], theirs: [], ratio: [] };
        let seen;
        for (let load = 0; load < Number(options.loads); load++) {
            const { browser, page } = await browse(chromium, address);
            seen = await (await employ(page)).evaluate(measure, [net, size, wasm, threads, Number(options.rounds)]);
            const [ours, theirs] = [median(seen.times.ours), median(seen.times.theirs)];
            all.ours.push(ours), all.theirs.push(theirs), all.ratio.push(ours / theirs);
            await browser.close();
        }
        console.log(`${net} ${seen.simd}, ${threads} thread${threads > 1 ? "s" : ""}: ours ${median(all.ours).toFixed(1)} ms (${span(all.ours)}), onnxruntime-web ${median(all.theirs).toFixed(1)} ms (${span(all.theirs)}), ratio ${median(all.ratio).toFixed(2)} (${Math.min(...all.ratio).toFixed(2)} to ${Math.max(...all.ratio).toFixed(2)}) over ${options.loads} loads, cosine ${seen.cosine.toFixed(6)}`);
    }
}
server.close();
