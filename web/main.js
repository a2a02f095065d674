// One state, one render(); every picture is embedded and searched in the worker.
import { createMap } from './map.js';

const $ = (id) => document.getElementById(id);
const MAX_PIXELS = 100e6;
const state = { bundle: null, sheets: [], added: new Map(), dropped: new Map(), query: null, hits: null, k: 10, threshold: -1, embedMs: null, error: '', status: '', progress: null, indexing: false };

const worker = new Worker('worker.js', { type: 'module' });
const waiting = new Map();
let lastId = 0, lastDrop = 0, latest = 0;
function ask(type, request, transfer = []) {
  return new Promise((resolve, reject) => { waiting.set(++lastId, { resolve, reject }); worker.postMessage({ id: lastId, type, ...request }, transfer); });
}
worker.onmessage = ({ data }) => {
  if (data.type === 'progress') { state.progress = data; return render(); }
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.type === 'done') resolve(data.result); else reject(new Error(data.message));
};
worker.onerror = (e) => fail(new Error(`the page's worker could not start: ${e.message ?? 'pkg/la_wasm.js is missing or broken'}`));

function fail(error) { state.error = error.message; render(); }
const guarded = (work) => (...args) => Promise.resolve(work(...args)).catch(fail);
const nameOf = (row) => state.added.get(row)?.name ?? state.bundle.names[row] ?? `row ${row}`;
const labelOf = (row) => state.bundle.labels && row < state.bundle.labels.length ? state.bundle.manifest.labels.classes[state.bundle.labels[row]] ?? '' : '';
const folder = (url) => new URL(url.endsWith('/') ? url : `${url}/`, location.href).href;

function bundleBase(params) {
  const model = params.get('model');
  if (model && !/^[\w.-]+\/[\w.-]+$/.test(model)) throw new Error(`?model=: expected owner/name, got ${model}`);
  return folder(model ? `https://huggingface.co/${model}/resolve/main/bundle/` : params.get('bundle') ?? 'bundle/');
}

async function decode(file) {
  let bitmap;
  try { bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' }); } catch {
    throw new Error(`${file.name ?? 'the pasted file'}: expected a picture that this browser can open (JPEG, PNG, WebP, GIF), got ${file.type || 'a file of unknown type'}`);
  }
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) { bitmap.close(); throw new Error(`${file.name}: expected at most 100 megapixels, got ${width} × ${height}`); }
  const context = new OffscreenCanvas(width, height).getContext('2d');
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { pixels: new Uint8Array(context.getImageData(0, 0, width, height).data.buffer), width, height };
}

async function embed(file) {
  const { pixels, width, height } = await decode(file);
  const { embedding, ms } = await ask('embed', { pixels, width, height }, [pixels.buffer]);
  const side = Math.min(width, height);
  const thumb = await createImageBitmap(file, (width - side) >> 1, (height - side) >> 1, side, side, { resizeWidth: 160, resizeHeight: 160 });
  return { name: file.name || 'picture', embedding, ms, thumb };
}

async function take(files) {
  state.error = '';
  if (files.length === 1) {
    const picture = await embed(files[0]);
    state.dropped.set(String(++lastDrop), picture);
    state.embedMs = picture.ms;
    return go({ drop: String(lastDrop), row: null });
  }
  if (files.length) await index(files);
}

async function index(files) {
  state.indexing = true;
  let done = 0, refused = 0, first;
  for (const file of files) {
    if (!state.indexing) break;
    state.status = `Indexing ${++done} of ${files.length}: ${file.name}`;
    render();
    try { first = (await addPicture(await embed(file))) && first === undefined ? state.lastRow : first; } catch (error) { refused++; state.error = error.message; }
  }
  const stopped = !state.indexing;
  state.indexing = false;
  state.status = `${stopped ? 'Stopped: ' : ''}${done - refused} pictures added${refused ? `, ${refused} files left out` : ''}`;
  render();
  if (first !== undefined) await go({ row: String(first), drop: null });
}

async function addPicture(picture) {
  const { row } = await ask('add', { embedding: picture.embedding });
  state.added.set(row, picture);
  state.lastRow = row;
  return true;
}

async function addQuery() {
  await addPicture(state.dropped.get(state.query.drop));
  await go({ row: String(state.lastRow), drop: null });
}

function go(changes, replace = false) {
  const url = new URL(location.href);
  for (const [key, value] of Object.entries(changes)) value === null ? url.searchParams.delete(key) : url.searchParams.set(key, value);
  history[replace ? 'replaceState' : 'pushState'](null, '', url);
  return follow();
}

// Makes the page what its address says.
async function follow() {
  const params = new URLSearchParams(location.search), mine = ++latest;
  state.k = Math.min(200, Math.max(1, parseInt(params.get('k') ?? '10', 10) || 10));
  state.threshold = Math.min(1, Math.max(-1, parseFloat(params.get('threshold') ?? '-1'))) || 0;
  const drop = params.get('drop'), row = parseInt(params.get('row') ?? '0', 10);
  const dropped = drop && state.dropped.get(drop);
  const known = row >= 0 && (row < state.bundle.manifest.bank.rows || state.added.has(row));
  if (!dropped && !known) throw new Error(`?row=: expected a row of the bank, 0 to ${state.bundle.manifest.bank.rows - 1}, got ${params.get('row')}`);
  const hits = await ask('search', dropped ? { embedding: dropped.embedding, k: state.k } : { row, k: state.k });
  if (mine !== latest) return;
  Object.assign(state, { query: dropped ? { drop, name: dropped.name } : { row, name: nameOf(row) }, hits });
  if (!state.indexing) state.status = `${hits.rows.length} neighbours of ${state.query.name}. ${dropped ? `Embedded in ${dropped.ms.toFixed(1)} ms, searched` : 'Searched'} in ${hits.ms.toFixed(2)} ms.`;
  render();
}

function paint(canvas, row, picture = state.added.get(row)) {
  const context = canvas.getContext('2d'), { width, height } = canvas, sheets = state.bundle.manifest.thumbnails;
  context.clearRect(0, 0, width, height);
  if (picture) return context.drawImage(picture.thumb, 0, 0, width, height);
  if (!sheets) return;
  const at = row % sheets.per_sheet, x = at % sheets.columns, y = Math.floor(at / sheets.columns);
  context.imageSmoothingEnabled = sheets.size > 64;
  context.drawImage(state.sheets[Math.floor(row / sheets.per_sheet)], x * sheets.size, y * sheets.size, sheets.size, sheets.size, 0, 0, width, height);
}

function make(tag, text, props = {}) { const node = Object.assign(document.createElement(tag), props); node.textContent = text; return node; }

function neighbour(row, score) {
  const button = make('button', '', { type: 'button', onclick: guarded(() => go({ row: String(row), drop: null })) });
  const canvas = make('canvas', '', { width: 112, height: 112 });
  canvas.setAttribute('aria-hidden', 'true');
  paint(canvas, row);
  button.append(canvas, make('span', nameOf(row), { className: 'name' }), make('span', labelOf(row), { className: 'label' }), make('span', score.toFixed(3), { className: 'score' }));
  button.dataset.row = row;
  const item = make('li', '');
  item.append(button);
  return item;
}

function render() {
  const { bundle, query, hits, progress } = state;
  $('error').hidden = !state.error;
  $('error').textContent = state.error;
  $('status').textContent = state.status;
  $('loading').hidden = Boolean(bundle) && !state.error;
  if (progress) { $('progress').value = progress.loaded / progress.total; $('loaded').textContent = `${(progress.loaded / 1e6).toFixed(1)} of ${(progress.total / 1e6).toFixed(1)} MB`; }
  $('loading').hidden = Boolean(bundle || state.error);
  $('cancel').hidden = !state.indexing;
  if (!bundle || !hits) return;
  $('title').textContent = `${bundle.manifest.title} · ${bundle.manifest.bank.rows + state.added.size} pictures · ${$('loaded').textContent} loaded`;
  $('k').value = state.k;
  $('threshold').value = state.threshold;
  $('threshold-value').textContent = state.threshold.toFixed(2);
  $('query-name').textContent = query.name;
  $('preview').setAttribute('aria-label', query.name);
  $('add').hidden = !query.drop;
  paint($('preview'), query.row, state.dropped.get(query.drop) ?? state.added.get(query.row));
  const kept = [...hits.rows].map((row, i) => [row, hits.scores[i]]).filter(([, score]) => score >= state.threshold);
  $('neighbours').replaceChildren(...kept.map(([row, score]) => neighbour(row, score)));
  const winner = hits.shares && hits.shares.indexOf(Math.max(...hits.shares));
  $('vote').textContent = hits.shares ? `Looks like ${bundle.manifest.labels.classes[winner]}: ${(100 * hits.shares[winner]).toFixed(0)} % of the vote` : '';
  $('plane').hidden = !bundle.map;
  if (bundle.map) map.show(bundle.map, kept.map(([row]) => row));
}

const map = createMap($('map'), guarded((row) => go({ row: String(row), drop: null })));
let stream;
async function camera() {
  stream = await navigator.mediaDevices.getUserMedia({ video: true }).catch((error) => { throw new Error(`the camera could not be opened: ${error.message}`); });
  $('video').srcObject = stream;
  $('camera-view').hidden = false;
  await $('video').play();
}
async function shoot() {
  const canvas = new OffscreenCanvas($('video').videoWidth, $('video').videoHeight);
  canvas.getContext('2d').drawImage($('video'), 0, 0);
  stream.getTracks().forEach((track) => track.stop());
  $('camera-view').hidden = true;
  await take([new File([await canvas.convertToBlob()], 'camera picture', { type: 'image/png' })]);
}

async function start() {
  if ('serviceWorker' in navigator) navigator.serviceWorker.register('sw.js').catch(() => { state.status = 'This visit cannot be kept for offline use.'; });
  const bundle = await ask('load', { base: bundleBase(new URLSearchParams(location.search)) });
  state.sheets = await Promise.all(bundle.sheets.map((sheet) => createImageBitmap(sheet)));
  state.bundle = bundle;
  const files = guarded((e) => take([...e.target.files]));
  $('pick').onchange = files;
  $('folder').onchange = guarded((e) => index([...e.target.files]));
  $('camera').onclick = guarded(camera);
  $('shoot').onclick = guarded(shoot);
  $('add').onclick = guarded(addQuery);
  $('cancel').onclick = () => { state.indexing = false; };
  $('k').onchange = guarded((e) => go({ k: e.target.value }));
  $('threshold').oninput = guarded((e) => go({ threshold: e.target.value }, true));
  $('zoom-in').onclick = () => map.zoom(1.4);
  $('zoom-out').onclick = () => map.zoom(1 / 1.4);
  $('zoom-all').onclick = () => map.all();
  addEventListener('popstate', guarded(follow));
  document.ondragover = (e) => e.preventDefault();
  document.ondrop = guarded((e) => { e.preventDefault(); return take([...e.dataTransfer.files]); });
  document.onpaste = guarded((e) => take([...e.clipboardData.files]));
  await follow();
}
guarded(start)();
