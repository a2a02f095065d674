// One state, one render(); every picture is embedded and searched in the worker.
import { createShelf } from './browse.js';
import { createCamera } from './camera.js';
import { createMap } from './map.js';
import { createThumbnails, decode, fill, filesOf, looksLikePicture } from './pictures.js';
import { megabytes, showCards, showVote } from './view.js';

const $ = (id) => document.getElementById(id);
const state = {
  bundle: null, threads: null, progress: null, failed: false, error: '', status: '', offline: '',
  added: new Map(), dropped: new Map(), indexing: null,
  address: '', query: null, result: null, empty: '', k: 10, min: -1,
};
// The tests in tests/browser look at it.
window.laState = state;

const worker = new Worker('worker.js', { type: 'module' });
const waiting = new Map();
// `choices` counts what visitors choose: what was chosen before and answers later changes the page no more.
let lastId = 0, lastDrop = Date.now(), latest = 0, choices = 0, paintRow = null;
function ask(type, request = {}, transfer = []) {
  return new Promise((resolve, reject) => { waiting.set(++lastId, { resolve, reject }); worker.postMessage({ id: lastId, type, ...request }, transfer); });
}
worker.onmessage = ({ data }) => {
  if (data.type === 'progress') { state.progress = data; return showProgress(); }
  if (data.type === 'threads') { state.threads = data.threads; return showAbout(); }
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.type === 'done') resolve(data.result); else reject(new Error(data.message));
};
worker.onerror = (event) => { state.failed = true; fail(new Error(`the page's worker could not start: ${event.message ?? 'one of worker.js, bundle.js and pkg/la_wasm.js is missing or broken: export the page again'}`)); };

function fail(error) { state.error = error.message; render(); }
const guarded = (work) => (...args) => Promise.resolve().then(() => work(...args)).catch(fail);
const total = () => state.bundle.manifest.bank.rows + state.added.size;
const nameOf = (row) => state.added.get(row)?.name ?? (state.bundle.names[row] || `row ${row}`);
const labelOf = (row) => state.added.has(row) ? 'added by you' : state.bundle.labels ? state.bundle.manifest.labels.classes[state.bundle.labels[row]] ?? '' : '';
const counted = (n, what) => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;
const itemOf = (row, score) => ({ row, name: nameOf(row), label: labelOf(row), score });

function bundleBase(params) {
  const model = params.get('model');
  if (model && !/^[\w.-]+\/[\w.-]+$/.test(model)) throw new Error(`?model=: expected owner/name, got ${model}`);
  const base = model ? `https://huggingface.co/${model}/resolve/main/bundle/` : params.get('bundle') ?? 'bundle/';
  try { return new URL(base.endsWith('/') ? base : `${base}/`, location.href).href; } catch { throw new Error(`?bundle=: expected the address of a folder, got ${base}`); }
}

async function embed(file) {
  const { pixels, width, height, thumb } = await decode(file);
  const { embedding, ms } = await ask('embed', { pixels, width, height }, [pixels.buffer]);
  return { name: file.name || 'pasted picture', embedding, ms, thumb };
}

// The same, and says so meanwhile: large pictures take seconds.
async function announced(file) {
  const words = state.status = `Reading ${file.name || 'pasted picture'}`;
  render();
  try { return await embed(file); } finally { if (state.status === words) state.status = ''; }
}

async function take(files) {
  if (!await ready) return;
  if (!files.length) throw new Error('expected a picture, got no file: save the picture first, then drop or choose the file');
  if (files.length > 1) return index(files);
  const mine = ++choices, picture = await announced(files[0]);
  if (mine !== choices) return render();
  const drop = (++lastDrop).toString(36);
  state.dropped.set(drop, picture);
  await go({ drop, row: null });
  reveal();
}

// Adds pictures to the bank for the session; whatever is no picture is counted, not tried.
async function index(files) {
  if (state.indexing) throw new Error('pictures are being indexed already: wait, or stop it first');
  const pictures = files.filter(looksLikePicture), broken = [];
  if (!pictures.length) throw new Error(`expected pictures, got ${files.length === 1 ? files[0].name : `${files.length} files of other kinds`}`);
  const run = state.indexing = { done: 0, of: pictures.length, stopped: false }, mine = ++choices;
  let first;
  for (const file of pictures) {
    if (run.stopped) break;
    state.status = `Indexing ${++run.done} of ${run.of}: ${file.name}`;
    render();
    try { const row = await add(await embed(file)); first ??= row; } catch { broken.push(file.name); }
  }
  state.indexing = null;
  if (mine !== choices) await follow();
  else if (first !== undefined) {
    await go({ row: String(first), drop: null });
    shelf.turnTo(first);
    reveal();
  }
  const others = files.length - pictures.length, few = `${broken.slice(0, 5).join(', ')}${broken.length > 5 ? ' and more' : ''}`;
  state.status = '';
  if (broken.length === pictures.length) throw new Error(`expected pictures that this browser can open, got none: ${few}`);
  state.status = [`${run.stopped ? 'Stopped: ' : ''}${counted(run.done - broken.length, 'picture')} added to the bank, until this page is closed`,
    others ? `${counted(others, 'other file')} left out` : '', broken.length ? `could not be opened: ${few}` : ''].filter(Boolean).join('; ');
  render();
}

async function add(picture) {
  const { row } = await ask('add', { embedding: picture.embedding });
  state.added.set(row, picture);
  return row;
}

async function addQuery() {
  const mine = ++choices, row = await add(state.dropped.get(state.query.drop));
  if (mine !== choices) return render();
  // The button is about to go, and the focus of the keyboard with it.
  if (document.activeElement === $('add')) $('results-title').focus({ preventScroll: true });
  await go({ row: String(row), drop: null });
}

function go(changes, replace = false) {
  // How a picture is shown is no choice of another.
  if ('row' in changes) choices++;
  const url = new URL(location.href);
  for (const [key, value] of Object.entries(changes)) value === null ? url.searchParams.delete(key) : url.searchParams.set(key, value);
  history[replace ? 'replaceState' : 'pushState'](null, '', url);
  return follow();
}
const pickRow = guarded((row) => go({ row: String(row), drop: null }));
const pickCard = guarded(async (row) => { await go({ row: String(row), drop: null }); reveal(); });

// Brings the neighbours into sight where they are not, as on a phone.
function reveal() {
  const { top } = $('results').getBoundingClientRect();
  if (top < 0 || top > 0.5 * innerHeight) $('results').scrollIntoView();
}

const clamped = (text, least, most, otherwise) => { const value = parseFloat(text); return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : otherwise; };

// Makes the page what its address says.
async function follow() {
  const params = new URLSearchParams(location.search), drop = params.get('drop'), row = Number(params.get('row') ?? 0);
  state.k = Math.round(clamped(params.get('k'), 1, 200, 10));
  state.min = clamped(params.get('min'), -1, 1, -1);
  state.error = state.empty = '';
  state.address = location.search;
  if (drop ? !state.dropped.has(drop) : row >= total()) return lose(drop ? 'The picture of this address' : `Row ${row} is not in this bank of ${total()}. If it was a picture you brought, it`);
  if (!drop && !(row >= 0 && Number.isInteger(row))) throw new Error(`?row=: expected a row of the bank, 0 to ${total() - 1}, got ${params.get('row')}`);
  await seek(drop ? { drop, ...state.dropped.get(drop) } : { row, thumb: state.added.get(row)?.thumb, name: nameOf(row) });
}

// `what` begins the sentence.
function lose(what) {
  Object.assign(state, { query: null, result: null, status: '' });
  state.empty = `${what} is gone: what visitors bring never leaves this machine and is forgotten when the page is closed or loaded anew. Drop or choose it again, or pick a picture of the bank.`;
  latest++;
  render();
}

async function seek(query = state.query) {
  if (!query) return render();
  const mine = ++latest, { k, min } = state;
  const result = await ask('search', { ...(query.drop ? { embedding: query.embedding } : { row: query.row }), k, min });
  if (mine !== latest) return;
  Object.assign(state, { query, result });
  if (!state.indexing) state.status = outcome(query, result.neighbours, min);
  render();
}

const isAlone = ({ row }) => row !== undefined && total() === 1;
function outcome(query, neighbours, min) {
  if (isAlone(query)) return `The bank has no picture but ${query.name}.`;
  if (!neighbours.length) return `No neighbour of ${query.name} has a score of ${min.toFixed(2)} or more: lower the least score.`;
  const [{ row, score }] = neighbours;
  return `${counted(neighbours.length, 'neighbour')} of ${query.name}; the nearest is ${nameOf(row)}, at ${score.toFixed(3)}.`;
}

function showProgress() {
  const { loaded, total: all } = state.progress;
  $('progress').value = Math.min(1, loaded / all);
  $('loaded').textContent = `${megabytes(loaded)} of ${megabytes(Math.max(all, loaded))}`;
  if (state.bundle) showFacts();
}

function showFacts() {
  const { loaded, kept } = state.progress;
  $('facts').textContent = `${counted(total(), 'picture')} · ${megabytes(loaded)} loaded${kept ? `, ${megabytes(kept)} of it kept from before` : ''}`;
}

function render() {
  const { bundle, query, result, indexing } = state;
  $('error').hidden = !state.error;
  $('error-text').textContent = state.error;
  $('retry').hidden = !state.failed;
  $('dismiss').hidden = state.failed;
  $('own').hidden = !(state.failed && /[?&](bundle|model)=/.test(location.search));
  $('main').hidden = state.failed;
  $('loading').hidden = Boolean(bundle) || state.failed;
  // A screen reader hears that indexing ended, not the name of each picture.
  $('status').ariaLive = indexing ? 'off' : 'polite';
  $('status').textContent = state.status;
  $('offline').textContent = state.offline;
  $('cancel').hidden = $('indexing').hidden = !indexing;
  if (indexing) $('indexing').value = indexing.done / indexing.of;
  document.querySelectorAll('[data-needs-bundle]').forEach((controls) => { controls.disabled = !bundle; });
  if (!bundle) return;
  showFacts();
  renderQuery(query);
  renderResult(query, result);
}

function renderQuery(query) {
  if (document.activeElement !== $('k')) $('k').value = state.k;
  $('min').value = state.min;
  $('min-value').textContent = state.min > -1 ? state.min.toFixed(2) : 'any';
  $('query-name').textContent = query?.name ?? 'No picture yet';
  $('query-label').textContent = query?.row === undefined ? '' : labelOf(query.row);
  $('preview').setAttribute('aria-label', query?.name ?? 'no picture yet');
  $('preview').hidden = !query || !(query.thumb || paintRow);
  $('add').hidden = !query?.drop;
  if (query) paintOf(query.row, query.thumb)?.($('preview'), query.row);
}

// How to paint a row, or nothing where there is no picture of it.
function paintOf(row, thumb = state.added.get(row)?.thumb) {
  if (thumb) return (canvas) => { canvas.dataset.shows = 'own'; fill(canvas, thumb, true); };
  return paintRow && ((canvas) => paintRow(canvas, row).catch(fail));
}

let shown = null;
function renderResult(query, result) {
  $('empty').hidden = !(state.empty || (result && !result.neighbours.length));
  $('empty').textContent = state.empty || (query && isAlone(query) ? 'The bank has no other picture.' : 'No neighbour has that score.');
  $('timing').textContent = result ? `${query.ms === undefined ? 'Searched' : `Embedded in ${query.ms.toFixed(1)} ms, searched`} in ${result.ms.toFixed(2)} ms` : '';
  shelf.fill(total(), (row) => `${nameOf(row)} ${labelOf(row)}`);
  if (shown === result) return;
  const before = shown?.row;
  shown = result;
  const neighbours = result?.neighbours ?? [];
  showCards($('neighbours'), neighbours.map(({ row, score }) => itemOf(row, score)), (row) => paintOf(row), pickCard,
    (list) => list.querySelector(`[data-row="${before}"]`) ?? $('results-title'));
  if (result) result.row = query.row;
  showVote($('vote'), result?.shares, state.bundle.manifest.labels?.classes);
  $('results').lastEmbedding = query?.embedding ?? null;
  map.light(neighbours.map(({ row }) => row), query?.row);
}

const map = state.map = createMap($('map'), { onPick: pickRow, onPoint: (row) => { $('map-here').textContent = row < 0 ? '' : [nameOf(row), labelOf(row)].filter(Boolean).join(' · '); } });
const shelf = createShelf({ list: $('shelf'), where: $('shelf-where'), find: $('find'), back: $('shelf-back'), on: $('shelf-on'), random: $('shelf-random') },
  (list, rows) => showCards(list, rows.map((row) => itemOf(row)), (row) => paintOf(row), pickCard, () => $('find')));
const openCamera = createCamera({ dialog: $('camera-view'), video: $('video'), shoot: $('shoot'), cancel: $('camera-off') }, (file) => take([file]), fail);

// No more neighbours than there are: a row is none of its own.
function setCount({ target }) {
  const most = Math.min(target.max, total() - (state.query?.row === undefined ? 0 : 1));
  target.value = Math.round(clamped(target.value, 1, Math.max(1, most), state.k));
  return go({ k: target.value });
}

function listen() {
  $('own').href = location.pathname;
  $('folder').parentElement.hidden = !('webkitdirectory' in $('folder'));
  // The same file may be chosen twice: its name must not stay in the field.
  const chosen = (work) => guarded(async ({ target }) => { const files = [...target.files]; target.value = ''; if (files.length) await work(files); });
  $('pick').onchange = chosen(take);
  $('folder').onchange = chosen(index);
  $('camera').onclick = guarded(openCamera);
  $('add').onclick = guarded(addQuery);
  $('cancel').onclick = () => { if (state.indexing) state.indexing.stopped = true; };
  $('retry').onclick = () => location.reload();
  $('dismiss').onclick = () => { state.error = ''; render(); };
  $('k').onchange = guarded(setCount);
  $('min').oninput = guarded((event) => { state.min = Number(event.target.value); return seek(); });
  $('min').onchange = guarded((event) => go({ min: event.target.value }, true));
  $('zoom-in').onclick = () => map.zoom(1.5);
  $('zoom-out').onclick = () => map.zoom(1 / 1.5);
  $('zoom-all').onclick = () => map.all();
  // The skip link changes the address too, but asks for nothing new.
  addEventListener('popstate', guarded(() => {
    if (!state.bundle || location.search === state.address) return;
    choices++;
    return follow();
  }));
  document.ondragover = (event) => { event.preventDefault(); document.body.classList.add('dropping'); };
  document.ondragleave = (event) => { if (!event.relatedTarget) document.body.classList.remove('dropping'); };
  document.ondrop = guarded(async (event) => { event.preventDefault(); document.body.classList.remove('dropping'); await take(await filesOf(event.dataTransfer)); });
  document.onpaste = guarded((event) => { if (!event.target.matches?.('input')) return take([...event.clipboardData.files]); });
}

async function load() {
  const params = new URLSearchParams(location.search), threads = Math.round(clamped(params.get('threads'), 1, 32, 0));
  const bundle = await ask('load', { base: bundleBase(params), threads });
  const { thumbnails, title, labels } = bundle.manifest;
  paintRow = thumbnails ? createThumbnails(thumbnails, (sheet) => ask('sheet', { sheet })) : null;
  state.bundle = bundle;
  document.title = `${title} · Find alike pictures`;
  $('title').textContent = title;
  $('plane').hidden = !bundle.map;
  $('map-colours').hidden = !labels;
  $('bank').hidden = false;
  if (!bundle.checked) notify('The files of this bundle were not checked against their sha256: browsers can do that on https and on this machine only.');
  if (bundle.map) map.points(bundle.map, bundle.labels, labels?.classes.length ?? 0);
  showAbout();
  showProgress();
}

function showAbout() {
  if (!state.bundle) return;
  const { threads, bundle: { manifest: { model, bank, created_by: by }, simd } } = state;
  const on = threads > 1 ? ` on ${threads} threads` : threads === 1 ? ' on one thread' : '';
  $('about').textContent = `${bank.rows} × ${bank.dim} embeddings in ${bank.precision}, weights in ${model.precision}, computed here with ${simd}${on}; written by ${by}. Bank: ${bank.made}`;
}

function notify(text) { $('notice').textContent = text; $('notice').hidden = false; }

// Keeps page and bundle for visits without a network, once the first answer stands.
async function keep(files) {
  const kept = await ask('rest');
  if (!navigator.serviceWorker) { state.offline = 'This page needs the network each time: browsers keep pages on https and on this machine only.'; return render(); }
  await navigator.serviceWorker.register('sw.js');
  const { active } = await navigator.serviceWorker.ready, channel = new MessageChannel();
  const answered = new Promise((resolve) => { channel.port1.onmessage = ({ data }) => resolve(data.missing); });
  active.postMessage({ keep: files }, [channel.port2]);
  const missing = await answered;
  state.offline = kept && !missing.length ? 'Ready: this page now works without a network.' : `This page could not be kept for visits without a network${missing.length ? `: ${counted(missing.length, 'file')} missing` : ': the browser’s storage is full'}.`;
  render();
}

async function start() {
  try { await load(); } catch (error) { state.failed = true; fail(error); return false; }
  await follow().catch(fail);
  keep(state.bundle.page).catch((error) => { state.offline = `This page could not be kept for visits without a network: ${error.message}`; render(); });
  return true;
}
listen();
const ready = start();
