// Starts the page: joins its parts, opens the bundle, and listens to the visitor.
import { clamped } from './address.js';
import { addQuery, bringBack, index, remove, removeAll, reveal, take } from './bring.js';
import { createShelf } from './browse.js';
import { createCamera } from './camera.js';
import { ask, listenToWorker, loading } from './client.js';
import { createClusters } from './clusters.js';
import { createCrop } from './crop.js';
import { download } from './download.js';
import { rowsWith } from './filter.js';
import { setKeeping } from './kept.js';
import { createLegend } from './legend.js';
import { sampled, usualOf } from './likeness.js';
import { createMap } from './map.js';
import { createNames } from './names.js';
import { isReplaced, listenForNews } from './news.js';
import { keepOffline, notKept } from './offline.js';
import { createPage, draw, paintOf, showAbout, showPoint, showProgress, sourceOf, usePaint } from './page.js';
import { createThumbnails, filesOf } from './pictures.js';
import { choose, follow, go, goToRow, seek, weigh } from './search.js';
import { $, classes, fail, guarded, itemOf, nameOf, onRender, render, rowAt, state, total } from './state.js';
import { createTwins } from './twins.js';
import { showCards } from './view.js';
import { createViewer } from './viewer.js';
import { slashFocuses, walkCards } from './walk.js';

const SAMPLED_AT_ONCE = 4;
const UNCHECKED = 'The files of this bundle were not checked against their sha256: browsers can do that on https and '
  + 'on this machine only.';

listenToWorker({
  progress(progress) { state.progress = progress; showProgress(); },
  threads({ threads }) { state.threads = threads; showAbout(); },
}, (error) => { state.failed = true; fail(error); });

const pickCard = guarded(async (row) => { await goToRow(row); reveal(); });
const actionsOn = (list) => ({ onPick: pickCard, onLook: (row) => viewer.open(list, row) });
const map = state.map = createMap($('map'), { onPick: guarded(goToRow), onPoint: showPoint });
// Elements by what they are called in a part: `ids` gives part names and the page's.
const elements = (ids) => Object.fromEntries(Object.entries(ids).map(([name, id]) => [name, $(id)]));
const shelf = createShelf(elements({
  list: 'shelf', where: 'shelf-where', find: 'find', back: 'shelf-back', on: 'shelf-on', random: 'shelf-random',
}), { rowAt, matching: rowsWith, show: showShelf, perSheet: () => state.bundle.manifest.thumbnails?.per_sheet ?? 1 });
function showShelf(list, rows) {
  const items = rows.map((row, i) => shelfItem(row, rows[i - 1]));
  showCards(list, items, (row) => paintOf(row), actionsOn(list), () => $('find'));
}
const twins = createTwins(elements({ button: 'twins', minimum: 'twins-min' }), shelf);
const clusters = createClusters(elements({ button: 'clusters', choice: 'cluster' }), shelf);
// Shows on the shelf what a part finds, or again all pictures.
function toggle(part, other) {
  other.leave();
  if (!part.isOn()) return part.look();
  part.leave();
  shelf.set(null);
}
function shelfItem(row, before) {
  const group = twins.groupOf(row), item = itemOf(row), isSame = group === twins.groupOf(before);
  const label = clusters.labelOf(row) ?? item.label;
  return group === undefined ? { ...item, label } : { ...item, label: `group ${group + 1}`, group, isSame };
}
const legend = createLegend($('legend'), guarded((chosen) => go({ class: chosen.join(',') })));
const viewer = createViewer(elements({
  dialog: 'viewer', canvas: 'view-thumb', original: 'view-original', name: 'view-name', path: 'view-path',
  label: 'view-label', score: 'view-score', close: 'view-close', back: 'view-back', on: 'view-on', pick: 'view-pick',
  copy: 'view-copy', also: 'view-also', not: 'view-not',
}), paintOf, { pick: pickCard, also: guarded((row) => weigh(row, 'also')), not: guarded((row) => weigh(row, 'not')) });
const bringOne = (file) => bring([file]);
const openCamera = createCamera(
  elements({ dialog: 'camera-view', video: 'video', shoot: 'shoot', cancel: 'camera-off' }), bringOne, fail,
);
const crop = createCrop(
  elements({ dialog: 'crop', canvas: 'crop-canvas', use: 'crop-use', cancel: 'crop-off' }), bringOne, fail,
);
createPage({ map, shelf, legend, actionsOn, weigh: guarded(weigh), remove: guarded((row) => remove([row])) });
onRender(draw);

async function bring(files) { if (await ready) await take(files); }

// No more than there are: a row is not similar to itself.
function setCount({ target }) {
  const most = Math.min(target.max, total() - (state.query?.row === undefined ? 0 : 1));
  target.value = Math.round(clamped(target.value, 1, Math.max(1, most), state.k));
  return go({ k: target.value });
}

const minimumOf = ({ value, min }) => (Number(value) <= Number(min) ? -1 : Number(value));

function listenToPictures() {
  // The same file may be chosen twice: its name must not stay in the field.
  const chosen = (work) => guarded(async ({ target }) => {
    const files = [...target.files];
    target.value = '';
    if (files.length) await work(files);
  });
  $('folder').parentElement.hidden = !('webkitdirectory' in $('folder'));
  $('pick').onchange = chosen(bring);
  $('folder').onchange = chosen(index);
  $('camera').onclick = guarded(openCamera);
  $('add').onclick = guarded(addQuery);
  $('part').onclick = guarded(async () => crop.open(await sourceOf(state.query), state.query.name));
  $('cancel').onclick = () => { if (state.indexing) state.indexing.stopped = true; };
  $('keep').onchange = guarded(async ({ target }) => { await setKeeping(target.checked); render(); });
  $('remove-all').onclick = guarded(removeAll);
  const { classList } = document.body;
  document.ondragover = (event) => { event.preventDefault(); classList.add('dropping'); };
  document.ondragleave = (event) => { if (!event.relatedTarget) classList.remove('dropping'); };
  document.ondrop = guarded(async (event) => {
    event.preventDefault();
    classList.remove('dropping');
    await bring(await filesOf(event.dataTransfer));
  });
  document.onpaste = guarded((event) => {
    if (!event.target.matches?.('input')) return bring([...event.clipboardData.files]);
  });
}

function listenToSettings() {
  $('own').href = location.pathname;
  $('retry').onclick = () => location.reload();
  $('dismiss').onclick = () => { state.error = ''; render(); };
  $('k').onchange = guarded(setCount);
  $('min').oninput = guarded(({ target }) => { state.min = minimumOf(target); return seek(); });
  $('min').onchange = guarded(({ target }) => {
    const min = minimumOf(target);
    return go({ min: min > -1 ? min : null }, true);
  });
  $('named').oninput = guarded(({ target }) => { state.named = target.value.trim(); return seek(); });
  $('named').onchange = guarded(({ target }) => go({ named: target.value.trim() }, true));
  $('twins').onclick = guarded(() => toggle(twins, clusters));
  $('clusters').onclick = guarded(() => toggle(clusters, twins));
  $('twins-min').onchange = guarded(() => twins.again());
  for (const part of [twins, clusters]) {
    $('find').addEventListener('input', part.leave);
    $('shelf-random').addEventListener('click', part.leave);
  }
  $('zoom-in').onclick = () => map.zoom(1.5);
  $('zoom-out').onclick = () => map.zoom(1 / 1.5);
  $('zoom-all').onclick = () => map.all();
  for (const kind of ['csv', 'json', 'txt']) $(`download-${kind}`).onclick = () => download(kind);
  for (const id of ['neighbours', 'shelf', 'mine-list']) walkCards($(id));
  slashFocuses($('find'));
  // The skip link changes the address too, but asks for nothing new.
  addEventListener('popstate', guarded(() => {
    if (!state.bundle || location.search === state.address) return;
    choose();
    return follow();
  }));
}

async function load() {
  const bundle = await loading;
  const { thumbnails, title, bank, labels } = bundle.manifest;
  bundle.names = createNames(bundle.names, bank.rows);
  usePaint(thumbnails ? createThumbnails(thumbnails, readSheet) : null);
  state.bundle = bundle;
  document.title = `${title} · Find similar pictures`;
  $('title').textContent = title;
  $('plane').hidden = !bundle.map;
  $('map-colours').hidden = !labels;
  $('find').placeholder = labels ? 'name or class' : 'name';
  $('bank').hidden = false;
  document.body.classList.toggle('with-map', Boolean(bundle.map));
  legend.fill(classes());
  $('legend').hidden = !labels;
  if (!bundle.map) $('settings').append($('legend'));
  if (!bundle.checked) notify(UNCHECKED);
  if (bundle.map) map.points(bundle.map, bundle.labels, classes().length);
  showAbout();
  showProgress();
  listenForNews();
}

// Of a bundle that was replaced no sheet comes any more; the page says so, and works on.
const readSheet = (sheet) => ask('sheet', { sheet }).catch(async (error) => {
  if (await isReplaced()) return new Promise(() => {});
  throw error;
});

function notify(text) { $('notice').textContent = text; $('notice').hidden = false; }

// Learns what is similar in this bank, in portions, so that visitors' questions come between.
async function calibrate() {
  const rows = sampled(state.bundle.manifest.bank.rows), nearest = [], any = [];
  for (let at = 0; at < rows.length; at += SAMPLED_AT_ONCE) {
    const part = await ask('likeness', { rows: rows.slice(at, at + SAMPLED_AT_ONCE) });
    nearest.push(...part.nearest);
    any.push(...part.any);
  }
  state.usual = usualOf(nearest, any);
  // Cards are drawn anew only where the answer changes.
  if (state.result?.best < state.usual?.low) await seek(); else render();
}

async function start() {
  try { await load(); } catch (error) { state.failed = true; fail(error); return false; }
  await bringBack().catch(fail);
  await follow().catch(fail);
  // Rows of the bank are answered by now, from what has come of it; pictures that visitors bring need the network.
  try {
    await ask('whole');
    if (state.result?.among) await follow();
    await ask('model');
    await ask('network');
  } catch (error) {
    if (await isReplaced()) location.reload();
    state.failed = true;
    fail(error);
    return false;
  }
  calibrate().catch(fail);
  keepOffline(state.bundle.page).catch(notKept).then((words) => { state.offline = words; render(); });
  return true;
}
listenToPictures();
listenToSettings();
const ready = start();
