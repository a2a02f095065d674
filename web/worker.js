// Owns the wasm module, the network and the bank; the page only sees numbers, names and pictures.
import init, { Network, Bank, check_manifest } from './pkg/la_wasm.js';

let network, bank, labels, numClasses = 0;

// A function whose body uses one SIMD instruction: browsers without SIMD refuse it.
const SIMD_PROBE = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);

const handlers = {
  load: ({ base }) => load(base),
  embed: ({ pixels, width, height }) => embed(pixels, width, height),
  search: ({ embedding, row, k }) => search(embedding ?? bank.row(row), k),
  add: ({ embedding }) => ({ row: bank.add(embedding) }),
};

// One request at a time: the order of answers is the order of questions.
let queue = Promise.resolve();
self.onmessage = ({ data }) => { queue = queue.then(() => answer(data)); };

async function answer({ id, type, ...request }) {
  try {
    self.postMessage({ type: 'done', id, result: await handlers[type](request) });
  } catch (error) {
    self.postMessage({ type: 'failed', id, message: error?.message ?? String(error) });
  }
}

async function load(base) {
  if (!WebAssembly.validate(SIMD_PROBE)) {
    throw new Error('this browser has no WebAssembly SIMD: expected Chrome 91, Firefox 89 or Safari 16.4, or later');
  }
  await init({ module_or_path: new URL('./pkg/la_wasm_bg.wasm', import.meta.url) });
  const manifestBytes = await download(new URL('manifest.json', base), 'manifest.json');
  check_manifest(manifestBytes);
  const manifest = JSON.parse(new TextDecoder().decode(manifestBytes));
  const files = await downloadAll(manifest, base, manifestBytes.length);
  network = new Network(manifestBytes, files.get(manifest.model.file.path));
  bank = new Bank(manifestBytes, files.get(manifest.bank.file.path));
  labels = manifest.labels && new Uint32Array(aligned(files.get(manifest.labels.file.path)));
  numClasses = manifest.labels?.classes.length ?? 0;
  return {
    manifest,
    labels,
    names: new TextDecoder().decode(files.get(manifest.names.path)).split('\n').slice(0, manifest.bank.rows),
    map: manifest.map && new Float32Array(aligned(files.get(manifest.map.file.path))),
    sheets: (manifest.thumbnails?.sheets ?? []).map((sheet) => new Blob([files.get(sheet.path)], { type: 'image/jpeg' })),
  };
}

const aligned = (bytes) => bytes.slice().buffer;

async function downloadAll(manifest, base, before) {
  const entries = [manifest.model.file, manifest.bank.file, manifest.names, manifest.labels?.file, manifest.map?.file,
    ...(manifest.thumbnails?.sheets ?? [])].filter(Boolean);
  const total = before + entries.reduce((sum, entry) => sum + entry.bytes, 0);
  let loaded = before;
  const progress = (more) => self.postMessage({ type: 'progress', loaded: loaded += more, total });
  const files = await Promise.all(entries.map(async (entry) => {
    const bytes = await download(new URL(entry.path, base), entry.path, entry.bytes, progress);
    await check(entry, bytes);
    return [entry.path, bytes];
  }));
  return new Map(files);
}

async function download(url, name, limit = 1 << 20, progress = () => {}) {
  const response = await fetch(url).catch(() => { throw new Error(`${name}: could not be fetched from ${url}: is the address right, and the network there?`); });
  if (!response.ok) throw new Error(`${name}: expected a file at ${url}, got HTTP status ${response.status}`);
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > limit) { reader.cancel(); throw new Error(`${name}: expected at most ${limit} bytes, got more`); }
    parts.push(value);
    progress(value.length);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) { bytes.set(part, at); at += part.length; }
  return bytes;
}

async function check({ path, bytes: expected, sha256 }, bytes) {
  if (bytes.length !== expected) throw new Error(`${path}: expected ${expected} bytes, got ${bytes.length}`);
  // Browsers offer digests on https and on loopback only.
  if (!crypto.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const got = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (got !== sha256.toLowerCase()) throw new Error(`${path}: expected sha256 ${sha256}, got ${got}: export the bundle again`);
}

function embed(pixels, width, height) {
  const start = performance.now();
  const embedding = network.embed(pixels, width, height);
  return { embedding, ms: performance.now() - start };
}

function search(query, k) {
  const start = performance.now();
  const hits = bank.search(query, Math.min(k, bank.length));
  const ms = performance.now() - start;
  // Rows of the session have no label, and the vote knows those of the bundle alone.
  const shares = labels && hits.rows.every((row) => row < labels.length) ? bank.vote(hits, labels, numClasses) : null;
  const result = { rows: hits.rows, scores: hits.scores, shares, ms };
  hits.free();
  return result;
}
