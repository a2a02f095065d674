// The state on the screen: render() fills the page from it, and paints nothing that has not changed.
import { originalOf } from './viewer.js';
import { emptyWords } from './search.js';
import { $, classOf, classes, counted, fail, itemOf, labelOf, megabytes, nameOf, state, total } from './state.js';
import { fill } from './pictures.js';
import { make, showCards, showVote } from './view.js';

const MOST_MINE = 48, AWAY = 16;
let paintRow = null, parts = null, shown = null, shownMine = '';

// `given` are map, shelf, legend, and what cards do; `paint` paints a row of the bank, or is nothing without
// thumbnails.
export function createPage(given) { parts = given; }
export function usePaint(paint) { paintRow = paint; }

// How to paint a row, or nothing where there is no picture of it.
export function paintOf(row, thumb = state.added.get(row)?.thumb) {
  if (thumb) return (canvas) => { canvas.dataset.shows = 'own'; fill(canvas, thumb, true); };
  return paintRow && ((canvas) => paintRow(canvas, row).catch(fail));
}

export function draw() {
  const { bundle, query, result } = state;
  showTrouble();
  showIndexing();
  const isIdle = !bundle || state.failed;
  document.querySelectorAll('[data-needs-bundle]').forEach((controls) => { controls.disabled = isIdle; });
  if (!bundle) return;
  showFacts();
  showSettings();
  showQuery(query);
  showWeights(query);
  showResult(query, result);
  showMine();
}

function showTrouble() {
  const { failed, error } = state;
  $('error').hidden = !error;
  $('error-text').textContent = error;
  $('retry').hidden = !failed;
  $('dismiss').hidden = failed;
  $('own').hidden = !(failed && /[?&](bundle|model)=/.test(location.search));
  $('main').hidden = failed;
  $('loading').hidden = Boolean(state.bundle) || failed;
}

function showIndexing() {
  const { indexing } = state;
  // A screen reader hears that indexing ended, not the name of each picture.
  $('status').ariaLive = indexing ? 'off' : 'polite';
  $('status').textContent = state.status;
  // What only says again what the results show is for screen readers.
  $('status').classList.toggle('sr', state.status !== '' && state.status === state.outcome);
  $('offline').textContent = state.offline;
  $('cancel').hidden = $('indexing').hidden = !indexing;
  if (indexing) $('indexing').value = indexing.done / indexing.of;
}

export function showProgress() {
  const { loaded, total: all } = state.progress;
  $('progress').value = Math.min(1, loaded / all);
  $('loaded').textContent = `${megabytes(loaded)} of ${megabytes(Math.max(all, loaded))}`;
  if (state.bundle) showFacts();
}

function showFacts() {
  const { loaded, kept } = state.progress, before = kept ? `, ${megabytes(kept)} of it kept from before` : '';
  $('facts').textContent = `${counted(total(), 'picture')} · ${megabytes(loaded)} loaded${before}`;
}

export function showAbout() {
  if (!state.bundle) return;
  const { threads, bundle: { manifest: { model, bank, created_by: by }, simd } } = state;
  const on = threads > 1 ? ` on ${threads} threads` : threads === 1 ? ' on one thread' : '';
  $('about').textContent = `${bank.rows} × ${bank.dim} embeddings in ${bank.precision}, `
    + `weights in ${model.precision}, `
    + `computed here with ${simd}${on}; written by ${by}. Bank: ${bank.made}`;
}

// The slider goes from what any two pictures of this bank have in common to all.
function showSettings() {
  const { k, min, usual, named } = state;
  for (const [id, value] of [['k', k], ['named', named]]) if (document.activeElement !== $(id)) $(id).value = value;
  for (const key in usual) document.body.style.setProperty(`--${key}`, usual[key]);
  if (usual) $('min').min = (Math.floor(100 * Math.max(-1, usual.any)) / 100).toFixed(2);
  $('min').value = min;
  $('min-value').textContent = min > -1 ? min.toFixed(2) : 'any';
  parts.legend.show(state.classes);
}

function showQuery(query) {
  $('query-name').replaceChildren(...breakable(query?.name ?? 'No picture yet'));
  $('query-label').textContent = query?.row === undefined ? '' : labelOf(query.row);
  $('preview').setAttribute('aria-label', query?.name ?? 'no picture yet');
  $('preview').hidden = !query || !(query.thumb || paintRow);
  $('add').hidden = !query || query.row !== undefined;
  $('part').hidden = $('preview').hidden;
  if (query) paintOf(query.row, query.thumb)?.($('preview'), query.row);
}

// A path breaks behind its folders, not in a name.
const breakable = (name) => name.split(/(?<=\/)/).flatMap((part) => [part, make('wbr')]);

// What else is wanted, or unwanted, beside the picture.
function showWeights(query) {
  const lists = query ? [[query.also, '+', 'also'], [query.against, '−', 'not']] : [];
  const entries = lists.flatMap(([rows, sign, word]) => rows.map((row) => {
    const canvas = make('canvas', { width: 48, height: 48, ariaHidden: 'true' });
    const away = make('button', { type: 'button', className: 'chip', onclick: () => parts.weigh(row, null) }, '×');
    away.ariaLabel = `Leave out ${nameOf(row)}`;
    const name = make('span', { className: 'name' }, `${word} ${nameOf(row)}`);
    return { row, canvas, node: make('li', {}, make('span', {}, sign), canvas, name, away) };
  }));
  $('weights').replaceChildren(...entries.map(({ node }) => node));
  for (const { row, canvas } of entries) paintOf(row)?.(canvas, row);
}

function showResult(query, result) {
  const isEmpty = result && !result.neighbours.length;
  $('empty').hidden = !(state.empty || isEmpty);
  $('empty').textContent = state.empty || emptyWords(query);
  const begins = query?.ms === undefined ? 'Searched' : `Embedded in ${query.ms.toFixed(1)} ms, searched`;
  const among = result?.among ? ` among the first ${counted(result.among, 'picture')}; the others are coming` : '';
  $('timing').textContent = result ? `${begins} in ${result.ms.toFixed(2)} ms${among}` : '';
  $('downloads').hidden = !result?.neighbours.length;
  showFar(result);
  parts.shelf.fill(total(), `${total()} ${[...state.added.keys()].at(-1)}`);
  if (shown === result) return;
  const before = shown?.row, neighbours = result?.neighbours ?? [], list = $('neighbours');
  shown = result;
  showCards(list, neighbours.map(({ row, score }) => itemOf(row, score)), (row) => paintOf(row), parts.actionsOn(list),
    () => list.querySelector(`[data-row="${before}"] button`) ?? $('results-title'));
  if (result) result.row = query.row;
  const asksClass = result && !result.isFar && !state.classes.length;
  showVote($('vote'), asksClass ? result.shares : null, classes(), Boolean(classOf(query?.row)));
  $('results').lastEmbedding = query?.embedding ?? null;
  parts.map.light(neighbours.map(({ row }) => row), query?.row);
  parts.map.only(result?.wanted ?? null);
}

// A class vote among pictures that are not similar would be a guess.
function showFar(result) {
  $('far').hidden = !result?.isFar;
  if (!result?.isFar) return;
  const { best } = result, { low } = state.usual;
  const words = ` The closest reaches ${best.toFixed(2)}; among `
    + `these pictures the closest mostly reaches ${low.toFixed(2)} or more.`;
  $('far').replaceChildren(make('strong', {}, 'Nothing similar here.'), words);
}

// The pictures that the visitor brought, the latest first.
function showMine() {
  const rows = [...state.added.keys()].reverse(), version = `${rows.length} ${rows[0]}`;
  $('mine').hidden = !state.brought.size;
  $('keep').checked = state.keeps;
  $('mine-more').textContent = rows.length > MOST_MINE ? `and ${counted(rows.length - MOST_MINE, 'more picture')}` : '';
  if (version === shownMine) return;
  shownMine = version;
  const list = $('mine-list'), actions = { ...parts.actionsOn(list), onRemove: parts.remove };
  const items = rows.slice(0, MOST_MINE).map((row) => ({ ...itemOf(row), label: '' }));
  showCards(list, items, (row) => paintOf(row), actions, () => $('mine-title'));
}

// What is near the pointer on the map: its thumbnail beside the point, its name.
export function showPoint(row, at, size) {
  const box = $('map-here');
  box.hidden = $('map-ring').hidden = row < 0;
  if (row !== pointed) {
    pointed = row;
    $('map-name').textContent = row < 0 ? '' : [nameOf(row), labelOf(row)].filter(Boolean).join(' · ');
    paintSoon(row);
  }
  if (row < 0) return;
  // Towards the middle of the map, so that all of it is seen.
  const [x, y] = at, [dx, left] = x > size.width / 2 ? [-AWAY, -100] : [AWAY, 0];
  const [dy, up] = y > size.height / 2 ? [-AWAY, -100] : [AWAY, 0];
  $('map-ring').style.transform = `translate(${x}px, ${y}px)`;
  box.style.transform = `translate(${x + dx}px, ${y + dy}px) translate(${left}%, ${up}%)`;
}

// A pointer that passes over many points asks for none of their pictures.
const REST = 80;
let resting = 0, pointed = -1;
function paintSoon(row) {
  const canvas = $('map-picture');
  clearTimeout(resting);
  canvas.hidden = true;
  if (row < 0) return;
  resting = setTimeout(async () => {
    const paint = paintOf(row);
    canvas.hidden = !paint;
    await paint?.(canvas, row);
  }, REST);
}

// What the picture asked about is cut from: the file, the original, or the thumbnail.
export async function sourceOf(query) {
  if (query.file) return query.file;
  const address = query.row === undefined ? '' : originalOf(query.row);
  if (address) return (await fetch(address)).blob();
  return new Promise((resolve) => { $('preview').toBlob(resolve); });
}
