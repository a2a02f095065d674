// Owns the wasm module, the network and the bank; the page only sees numbers, names and pictures.
import { openBundle } from './bundle.js';
import { alikeIn, compose, likeness } from './likeness.js';
import { startThreads, threadsFor } from './threads.js';

// Whether pkg/ holds a second module, built with relaxed SIMD, beside the one that every browser with SIMD runs.
const RELAXED = true;
// Bytes of a bank that are worth reading at once, and so many that the first answer waits for no more.
const PORTION = 1 << 20, ENOUGH = 1 << 24;
const MODULE = './pkg/la_wasm_bg.wasm', RELAXED_MODULE = './pkg/la_wasm_relaxed_bg.wasm', GLUE = './pkg/la_wasm.js';

// Modules with one function, whose body uses i8x16.popcnt and i8x16.relaxed_swizzle: browsers without these refuse
// them.
const MAGIC = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10];
const runs = (...body) => WebAssembly.validate(new Uint8Array([...MAGIC, ...body]));
const hasSimd = () => runs(10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);
const hasRelaxed = () => runs(15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11);

// Rows that visitors took away again: the bank itself only grows.
const removed = new Set();
// `whole` is settled when all of the bank has come and was found right.
let la, networkComing, bank, whole, labels, bundle, numClasses = 0;

const queued = {
  load: (request) => load(request),
  network: async () => { await network(); },
  embed: ({ pixels, width, height }) => embed(pixels, width, height),
  search: (request) => search(request),
  add: async ({ embedding }) => { await whole; return { row: bank.add(embedding) }; },
  remove: ({ row }) => { removed.add(row); },
  likeness: ({ rows }) => likeness(bank, rows),
  clusters: async () => { await whole; return split(bank.clusters()); },
  twins: async ({ from, to, min }) => { await whole; return alikeIn(bank, from, to, min, (row) => removed.has(row)); },
};
// These only wait for downloads and would hold up the others.
const atOnce = {
  sheet: ({ sheet }) => bundle.sheet(sheet),
  whole: () => whole,
  model: async () => { await bundle.model(); },
  rest: () => bundle.rest(),
  replaced: () => bundle.replaced(),
};

// One request at a time: the order of answers is the order of questions.
let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  if (data.type in atOnce) answer(data, atOnce[data.type]);
  else queue = queue.then(() => answer(data, queued[data.type]));
};

async function answer({ id, type, ...request }, handler) {
  try {
    self.postMessage({ type: 'done', id, result: await handler(request) });
  } catch (error) {
    self.postMessage({ type: 'failed', id, message: inWords(error) });
  }
}

// A module that stops has no words of its own.
function inWords(error) {
  if (error?.name !== 'RuntimeError') return error?.message ?? String(error);
  return `the wasm module stopped (${error.message}): the memory may be full: close other tabs and load the page anew`;
}

// Starts the best module that this browser and this page can run; gives its threads to come, and the files that a visit
// offline needs.
async function start(asked) {
  if (!globalThis.WebAssembly || !hasSimd()) {
    throw new Error('this browser has no WebAssembly SIMD: expected Chrome 91, Firefox 89 or Safari 16.4, or later');
  }
  const relaxed = RELAXED && hasRelaxed(), threads = threadsFor(asked);
  if (relaxed && threads > 1) {
    // Without them the page is slower, nothing else.
    try { const started = await startThreads(threads); la = started.la; return started; } catch {}
  }
  for (const path of relaxed ? [RELAXED_MODULE, MODULE] : [MODULE]) {
    const url = new URL(path, import.meta.url).href, module = fetch(url);
    try {
      la = await import(GLUE);
      await la.default({ module_or_path: module });
      return { joined: Promise.resolve(1), files: [url] };
    } catch ({ message }) {
      if (path !== MODULE) continue;
      const hint = 'is the network there, and the export whole?';
      throw new Error(`${path.slice(2)}: could not be started: ${message}: ${hint}`);
    }
  }
}

async function load({ base, threads }) {
  const onProgress = (progress) => self.postMessage({ type: 'progress', ...progress });
  const [started, opened] = await Promise.all([start(threads), openBundle(base, onProgress)]);
  started.joined.then((threads) => self.postMessage({ type: 'threads', threads }));
  for (bundle = opened; ; bundle = await openBundle(base, onProgress)) {
    // One that was replaced while it came is none: files of two do not fit together.
    try { return await read(started); } catch (error) { if (!await bundle.replaced()) throw error; }
  }
}

async function read({ files: page }) {
  la.check_manifest(bundle.manifestBytes);
  const { manifest } = bundle, coming = comingBank(), { bank: arriving, others } = bundle.files(coming.take);
  bank = coming.bank;
  whole = arriving.then(coming.finish);
  // It is asked about once the first answer stands.
  whole.catch(() => {});
  const [entries] = await Promise.all([others, Promise.race([whole, coming.enough])]), files = new Map(entries);
  labels = manifest.labels && new Uint32Array(aligned(files.get(manifest.labels.file.path)));
  numClasses = manifest.labels?.classes.length ?? 0;
  return {
    manifest, labels, page, simd: la.simd(), checked: bundle.checked, originals: bundle.originals,
    follows: bundle.follows,
    names: files.get(manifest.names.path),
    map: manifest.map && new Float32Array(aligned(files.get(manifest.map.file.path))),
  };
}

// Reads the bank in portions while it comes. What is wrong with its values is said once its digest was found right.
function comingBank() {
  const bank = new la.Bank(bundle.manifestBytes), { bytes } = bundle.manifest.bank.file;
  let taken = 0, wrong, hasEnough;
  const enough = new Promise((resolve) => { hasEnough = resolve; });
  function take(soFar) {
    if (wrong || (soFar.length - taken < PORTION && soFar.length < bytes)) return;
    try {
      for (; taken < soFar.length; taken += PORTION) bank.take(soFar.subarray(taken, taken + PORTION));
    } catch (error) { wrong = error; }
    taken = soFar.length;
    if (taken >= ENOUGH && bank.length && !wrong) hasEnough();
  }
  function finish() {
    if (wrong) throw wrong;
    bank.finish();
  }
  return { bank, enough, take, finish };
}

// The network is made when it is first needed: rows of the bank are answered without it.
function network() {
  networkComing ??= bundle.model().then((weights) => new la.Network(bundle.manifestBytes, weights));
  return networkComing;
}

// Clusters as the module gives them: of each its number of rows, then these. Removed ones are left out.
function split(flat) {
  const clusters = [];
  for (let at = 0; at < flat.length; at += flat[at] + 1) clusters.push([...flat.subarray(at + 1, at + 1 + flat[at])]);
  return clusters.map((rows) => rows.filter((row) => !removed.has(row))).filter((rows) => rows.length);
}

const aligned = (bytes) => bytes.slice().buffer;

async function embed(pixels, width, height) {
  const ours = await network(), start = performance.now();
  const embedding = ours.embed(pixels, width, height);
  return { embedding, ms: performance.now() - start };
}

// The rows most similar to an embedding or a row, to those `also` wanted, and unlike those `against`. Rows that are
// asked about are no answers; `wanted` marks those that may be.
// Where others still come, `among` is how many rows there were.
async function search({ embedding, row, also, against, k, min, wanted }) {
  const asked = new Set([row, ...also, ...against]), { rows } = bundle.manifest.bank;
  if ([...asked].some((one) => one >= bank.length)) await whole;
  const start = performance.now(), among = bank.length < rows ? bank.length : 0;
  const first = embedding ?? bank.row(row), rowsOf = (rows) => rows.map((one) => bank.row(one));
  const query = compose([first, ...rowsOf(also)], rowsOf(against));
  const isAnswer = (hit) => !asked.has(hit) && !removed.has(hit) && (!wanted || wanted[hit] === 1);
  const { hits, answers } = gather(query, k, isAnswer), ms = performance.now() - start;
  const neighbours = answers.filter(({ score }) => score >= min).slice(0, k);
  const shares = labels && !among && vote(hits, new Set(neighbours.map((hit) => hit.row)));
  hits.free();
  return { neighbours, shares, ms, among, best: answers[0]?.score };
}

// Looks further down the bank until there are `k` answers, or no rows left.
function gather(query, k, isAnswer) {
  for (let most = k + 1 + removed.size; ; most *= 8) {
    const hits = bank.search(query, Math.min(most, bank.length)), { rows, scores } = hits, answers = [];
    for (let i = 0; i < rows.length && answers.length < k; i++) {
      if (isAnswer(rows[i])) answers.push({ row: rows[i], score: scores[i] });
    }
    if (answers.length === k || most >= bank.length) return { hits, answers };
    hits.free();
  }
}

// Only those vote whom the page shows and who have a class: rows of the session have none.
function vote(hits, shown) {
  const silent = [...hits.rows].filter((row) => row < labels.length && !shown.has(row));
  const before = silent.map((row) => labels[row]);
  silent.forEach((row) => { labels[row] = numClasses; });
  const shares = bank.vote(hits, labels, numClasses);
  silent.forEach((row, i) => { labels[row] = before[i]; });
  return shares.some((share) => share > 0) ? shares : null;
}
