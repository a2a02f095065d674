// Pictures that visitors bring: embedded, searched from, and added to the bank for the session.
import { ask } from './client.js';
import { forget, isKeeping, keepPicture, keptPictures } from './kept.js';
import { decode, foreignFormat, looksLikePicture } from './pictures.js';
import { choose, follow, go, goToPicture, goToRow, isLatest } from './search.js';
import { $, counted, render, state } from './state.js';

const AROUND = 5;

async function embed(file) {
  const digest = await digestOf(file), before = state.brought.get(digest);
  if (before) return before;
  const { pixels, width, height, thumb } = await decode(file);
  const { embedding, ms } = await ask('embed', { pixels, width, height }, [pixels.buffer]);
  return { digest, name: file.name || 'pasted picture', embedding, ms, thumb, file };
}

// What names a picture in the address, and tells that it came before. Browsers offer digests on https and loopback
// only.
async function digestOf(file) {
  const content = crypto.subtle && await file.arrayBuffer().catch(() => null);
  if (!content) return `p${file.size.toString(36)}${(file.lastModified ?? 0).toString(36)}`;
  const bytes = new Uint8Array(await crypto.subtle.digest('SHA-256', content));
  return `p${Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

function remember(picture) {
  state.brought.set(picture.digest, picture);
  return keepPicture(picture);
}

// The same, and says so meanwhile: large pictures take seconds.
async function announced(file) {
  const words = state.status = `Reading ${file.name || 'pasted picture'}`;
  render();
  try { return await embed(file); } finally { if (state.status === words) state.status = ''; }
}

export async function take(files) {
  if (!files.length) {
    throw new Error('expected a picture, got no file: save the picture first, then drop or choose the file');
  }
  if (files.length > 1) return index(files);
  const mine = choose(), picture = await announced(files[0]);
  if (!isLatest(mine)) return render();
  await remember(picture);
  await goToPicture(picture);
  reveal();
}

// Adds pictures to the bank for the session; whatever is no picture is counted, not tried.
export async function index(files) {
  if (state.indexing) throw new Error('pictures are being added already: wait, or stop it first');
  const pictures = files.filter(looksLikePicture), before = state.added.size, mine = choose();
  if (!pictures.length) {
    const got = files.length === 1 ? files[0].name : `${files.length} files of other kinds`;
    throw new Error(`expected pictures, got ${got}`);
  }
  const run = { done: 0, of: pictures.length, stopped: false, broken: [], foreign: new Set(), first: undefined };
  state.indexing = run;
  await addAll(run, pictures);
  state.indexing = null;
  state.status = '';
  if (!isLatest(mine)) await follow(); else if (run.first !== undefined) await showAdded(run.first);
  if (run.broken.length === pictures.length) {
    throw new Error(`expected pictures that this browser can open, got none: ${few(run)}`);
  }
  state.status = wordsOf(run, state.added.size - before, files.length - pictures.length);
  render();
}

async function addAll(run, pictures) {
  for (const file of pictures) {
    if (run.stopped) return;
    state.status = `Adding ${++run.done} of ${run.of}: ${file.name}`;
    render();
    try {
      const row = await add(await embed(file));
      run.first ??= row;
    } catch {
      run.broken.push(file.name);
      if (foreignFormat(file)) run.foreign.add(foreignFormat(file));
    }
  }
}

// Names of pictures that could not be opened, and what to do where that is known.
function few({ broken, foreign }) {
  const names = `${broken.slice(0, 5).join(', ')}${broken.length > 5 ? ' and more' : ''}`;
  return [names, ...foreign].join('; ');
}

function wordsOf(run, added, others) {
  const { stopped, done, broken } = run;
  const until = isKeeping() ? 'and kept in this browser' : 'until this page is closed';
  const again = done - broken.length - added;
  return [
    `${stopped ? 'Stopped: ' : ''}${counted(added, 'picture')} added, ${until}`, again && `${again} here already`,
    others && `${counted(others, 'other file')} left out`, broken.length && `could not be opened: ${few(run)}`,
  ].filter(Boolean).join('; ');
}

async function showAdded(row) {
  await goToRow(row);
  reveal();
}

async function add(picture) {
  if (picture.row === undefined) await join(picture);
  await remember(picture);
  return picture.row;
}

// Gives a picture its row; its place on the map is the mean of its nearest.
async function join(picture) {
  const { row } = await ask('add', { embedding: picture.embedding });
  picture.row = row;
  state.added.set(row, picture);
  const { neighbours } = await ask('search', { row, also: [], against: [], k: AROUND, min: -1, wanted: null });
  state.map.place(row, neighbours.map((one) => one.row));
}

export async function addQuery() {
  const mine = choose(), row = await add(state.brought.get(state.query.drop));
  if (!isLatest(mine)) return render();
  // The button is about to go, and the focus of the keyboard with it.
  if (document.activeElement === $('add')) $('results-title').focus({ preventScroll: true });
  await goToRow(row);
}

// Takes pictures of the session away again.
export async function remove(rows) {
  for (const row of rows) {
    const { digest } = state.added.get(row);
    await ask('remove', { row });
    state.added.delete(row);
    state.brought.delete(digest);
    state.map.place(row, []);
    await forget(digest);
  }
  const { query } = state, asked = query ? [query.row, ...query.also, ...query.against] : [];
  const isGone = asked.some((row) => rows.includes(row));
  await (isGone ? go({ row: '0', drop: null, also: null, not: null }) : follow());
  state.status = `${counted(rows.length, 'picture')} removed`;
  render();
}

// Those of the session and those only searched from; the one asked about stays until another is.
export async function removeAll() {
  await remove([...state.added.keys()]);
  for (const digest of [...state.brought.keys()].filter((one) => one !== state.query?.drop)) {
    state.brought.delete(digest);
    await forget(digest);
  }
  render();
}

// Pictures of earlier visits join the bank anew, under the rows that come.
export async function bringBack() {
  for (const { isAdded, ...picture } of await keptPictures()) {
    state.brought.set(picture.digest, picture);
    if (isAdded) await join(picture);
  }
}

// Brings what is similar into sight where it is not, as on a phone.
export function reveal() {
  const { top } = $('results').getBoundingClientRect();
  if (top < 0 || top > 0.5 * innerHeight) $('results').scrollIntoView();
}
