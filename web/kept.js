// Pictures that visitors bring and want to find here at their next visit: kept in this browser only, for each bundle
// its own.
import { state } from './state.js';

const NAME = 'la-pictures', STORE = 'pictures', WISH = 'la-keep-pictures';

export const isKeeping = () => state.keeps;

// Embeddings mean something to the network that made them only, and rows to their bank.
function bundleKey() {
  const { model, bank } = state.bundle.manifest;
  return `${model.file.sha256} ${bank.file.sha256}`;
}

const answered = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  const reason = () => request.error?.message ?? 'the browser refused';
  request.onerror = () => reject(new Error(`pictures could not be kept: ${reason()}`));
});

async function withStore(mode, work) {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: ['bundle', 'digest'] });
  const database = await answered(opening), store = database.transaction(STORE, mode).objectStore(STORE);
  try { return await answered(work(store)); } finally { database.close(); }
}
const allOfBundle = () => IDBKeyRange.bound([bundleKey()], [bundleKey(), []]);

async function asKept({ digest, name, embedding, thumb, row }) {
  const canvas = new OffscreenCanvas(thumb.width, thumb.height);
  canvas.getContext('2d').drawImage(thumb, 0, 0);
  const blob = await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.85 });
  return { bundle: bundleKey(), digest, name, embedding, thumb: blob, isAdded: row !== undefined, order: row ?? 0 };
}

export async function keepPicture(picture) {
  if (!state.keeps) return;
  const kept = await asKept(picture);
  await withStore('readwrite', (store) => store.put(kept));
}

export const forget = (digest) => state.keeps && withStore('readwrite', (store) => store.delete([bundleKey(), digest]));

// Begins to keep what was brought, or forgets all that was kept.
export async function setKeeping(keeps) {
  state.keeps = keeps;
  localStorage.setItem(WISH, keeps ? 'yes' : 'no');
  if (keeps) for (const picture of state.brought.values()) await keepPicture(picture);
  else await withStore('readwrite', (store) => store.delete(allOfBundle()));
}

// Those of earlier visits, in the order they came; none where the browser keeps nothing.
export async function keptPictures() {
  try { state.keeps = localStorage.getItem(WISH) === 'yes'; } catch { return []; }
  if (!state.keeps) return [];
  const kept = await withStore('readonly', (store) => store.getAll(allOfBundle()));
  kept.sort((a, b) => a.order - b.order);
  return Promise.all(kept.map(async ({ digest, name, embedding, thumb, isAdded }) =>
    ({ digest, name, embedding, isAdded, thumb: await createImageBitmap(thumb) })));
}
