// Measures exact search beside a plain loop, one reading of the bank, and hnswlib-wasm: same rows, same page, one thread.
//
//   node tests/browser/search.mjs [--rows 60000,1000000] [--wasm la_wasm_relaxed_bg.wasm] [--hnsw] [--threads 2]
//
// --hnsw builds its graph for about a minute. --threads is for ours alone, with the module that shares its memory.

import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { browse, employ, serve } from "./serve.mjs";

const { values: options } = parseArgs({ options: { rows: { type: "string", default: "60000,1000000" }, hnsw: { type: "boolean" }, wasm: { type: "string", default: "la_wasm_bg.wasm" }, threads: { type: "string", default: "1" } } });
const here = dirname(fileURLToPath(import.meta.url));
const hnsw = resolve(here, "node_modules/hnswlib-wasm/dist");
const { server, address } = await serve({ "/web/": resolve(here, "../../web"), "/hnsw/": hnsw });

/** Runs in the page: rows around 1,000 directions, as embeddings lie, and what each way of searching takes. */
async function measure([numRows, withHnsw, wasm, threads]) {
    const DIM = 128, K = 10, QUERIES = 50;
    let seed = 1;
    const uniform = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    const unit = (row) => {
        const length = Math.hypot(...row);
        return row.map((x) => x / length);
    };
    const centers = Array.from({ length: 1000 }, () => unit(Float32Array.from({ length: DIM }, normal)));
    const near = () => {
        const center = centers[Math.floor(uniform() * centers.length)];
        return unit(center.map((x) => x + 0.07 * normal()));
    };
    const rows = new Float32Array(numRows * DIM);
    for (let row = 0; row < numRows; row++) rows.set(near(), row * DIM);
    const queries = Array.from({ length: QUERIES }, near);

    let la = await import("/web/pkg/la_wasm.js");
    if (threads > 1) {
        const started = await (await import("/web/threads.js")).startThreads(threads);
        la = started.la;
        if ((await started.joined) !== threads) throw new Error(`expected ${threads} threads, got ${await started.joined}`);
    } else await la.default({ module_or_path: `/web/pkg/${wasm}` });
    const entry = (path, bytes) => ({ path, bytes, sha256: "0".repeat(64) });
    const manifest = (precision, bytes) => new TextEncoder().encode(JSON.stringify({
        format: "la-bundle", version: 1, created_by: "", title: "",
        model: { config: { arch: "resnet18", stem: "small", width: 8, embedding_dim: DIM }, precision: "f16", file: entry("m", 0) },
        preprocessing: { size: 32, crop_fraction: 1, mean: [0, 0, 0], std: [1, 1, 1] },
        bank: { rows: numRows, dim: DIM, precision, made: "", file: entry("b", bytes) },
        names: entry("n", 0), labels: null, thumbnails: null, map: null,
    }));
    const codes = () => {
        const bytes = new Uint8Array(numRows * (DIM + 4));
        const scales = new Float32Array(bytes.buffer, 0, numRows), values = new Int8Array(bytes.buffer, 4 * numRows);
        for (let row = 0; row < numRows; row++) {
            const from = rows.subarray(row * DIM, (row + 1) * DIM);
            scales[row] = from.reduce((max, x) => Math.max(max, Math.abs(x)), 0) / 127;
            for (let i = 0; i < DIM; i++) values[row * DIM + i] = Math.round(from[i] / scales[row]);
        }
        return bytes;
    };
    const times = {}, found = {}, median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
    const run = async (name, search) => {
        await search(queries[0]);
        const taken = [];
        found[name] = [];
        for (const query of queries) {
            const start = performance.now();
            found[name].push(await search(query));
            taken.push(performance.now() - start);
        }
        times[name] = median(taken);
    };
    const plain = (query) => {
        const best = new Array(K).fill(-Infinity), at = new Array(K).fill(-1);
        for (let row = 0; row < numRows; row++) {
            let score = 0;
            for (let i = 0, j = row * DIM; i < DIM; i++, j++) score += query[i] * rows[j];
            if (score <= best[K - 1]) continue;
            let place = K - 1;
            for (; place > 0 && best[place - 1] < score; place--) (best[place] = best[place - 1]), (at[place] = at[place - 1]);
            (best[place] = score), (at[place] = row);
        }
        return at;
    };
    await run("plain JavaScript f32", plain);
    for (const precision of ["f32", "i8"]) {
        const start = performance.now();
        const bytes = precision == "f32" ? new Uint8Array(rows.buffer) : codes();
        const bank = new la.Bank(manifest(precision, bytes.length));
        bank.take(bytes);
        if (precision == "f32") bank.search(queries[0], K), (times["ours f32, to the first answer"] = performance.now() - start);
        await run(`ours ${precision}`, (query) => Array.from(bank.search(query, K).rows));
        bank.free();
    }
    // (memory (export "m") 1) (func (export "read") (param ptr end) -> i32: sums of 64 bytes a step, two accumulators)
    const reader = await WebAssembly.instantiate(Uint8Array.from(atob(READER), (c) => c.charCodeAt(0)));
    const { m, read } = reader.instance.exports, bytes = Math.ceil((numRows * DIM) / 64) * 64;
    m.grow(Math.ceil(bytes / 65536));
    new Uint8Array(m.buffer).fill(3);
    await run("reading the i8 bank once", () => [read(0, bytes)]);
    if (withHnsw) {
        const { loadHnswlib } = await import("/hnsw/hnswlib.js");
        const lib = await loadHnswlib();
        const start = performance.now(), index = new lib.HierarchicalNSW("ip", DIM, "");
        index.initIndex(numRows, 16, 200, 100);
        for (let row = 0; row < numRows; row++) index.addPoint(rows.subarray(row * DIM, (row + 1) * DIM), row, false);
        index.searchKnn(queries[0], K, undefined);
        times["hnswlib-wasm, to the first answer"] = performance.now() - start;
        await run("hnswlib-wasm", (query) => index.searchKnn(query, K, undefined).neighbors);
    }
    const truth = found["plain JavaScript f32"];
    const recall = (name) => truth.reduce((sum, rows, i) => sum + rows.filter((row) => found[name][i].includes(row)).length, 0) / (QUERIES * K);
    return Object.entries(times).map(([name, ms]) => ({ name, ms, recall: found[name] && !name.startsWith("reading") ? recall(name) : null }));
}

const READER = "AGFzbQEAAAABBwFgAn9/AX8DAgEABQMBAAEHDAIBbQIABHJlYWQAAApUAVIBAnsDQCACIAD9AAQA/a4BIQIgAyAA/QAEEP2uASEDIAIgAP0ABCD9rgEhAiADIAD9AAQw/a4BIQMgAEHAAGoiACABSQ0ACyACIAP9rgH9GwAL";
for (const rows of options.rows.split(",").map(Number)) {
    const { browser, page } = await browse(chromium, address);
    const threads = Number(options.threads), where = threads > 1 ? await employ(page) : page;
    await where.evaluate(`globalThis.READER = ${JSON.stringify(READER)}`);
    console.log(`${rows.toLocaleString("en")} rows of 128 values, top 10 of 50 queries, ${threads > 1 ? `ours on ${threads} threads` : "one thread"}, medians`);
    for (const { name, ms, recall } of await where.evaluate(measure, [rows, options.hnsw ?? false, options.wasm, threads])) {
        console.log(`  ${name.padEnd(36)} ${ms.toFixed(ms < 100 ? 2 : 0).padStart(9)} ms${recall === null ? "" : `   recall@10 ${recall.toFixed(4)}`}`);
    }
    await browser.close();
}
server.close();
