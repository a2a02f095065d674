// The files of a bundle: fetched or taken from an earlier visit, checked, and kept for visits without a network.
const KEPT = 'la-bundle ', MAX_KEPT = 3, MAX_MANIFEST = 1 << 20;
// Thumbnails of more bytes than this are not fetched ahead. Headers of a server that offers original/ROW, and of one
// that makes the bundle again when its pictures change.
const MAX_THUMBNAILS = 32e6, ORIGINALS = 'la-originals', FOLLOWS = 'la-follows';
const BROKEN = 'the file is broken, export the bundle again or copy it anew';

export async function openBundle(base, onProgress) {
  const store = await openStore(base), { bytes: manifestBytes, originals, follows } = await readManifest(store);
  const manifest = parsed(manifestBytes);
  const progress = { loaded: manifestBytes.length, kept: 0, total: 0 };
  const read = (entry, take) => readFile(entry, base, store, (change) => {
    for (const key in change) progress[key] += change[key];
    onProgress({ ...progress });
  }, take);
  let coming;
  const sheets = new Map(), entries = manifest?.thumbnails?.sheets ?? [];
  // Sheets of thumbnails come when something of them is to be seen.
  function sheet(index) {
    const coming = sheets.get(index) ?? read(entries[index]).then((bytes) => new Blob([bytes], { type: 'image/jpeg' }));
    sheets.set(index, coming);
    // What did not come may come the next time.
    coming.catch(() => sheets.delete(index));
    return coming;
  }
  return {
    manifestBytes, manifest, originals, follows, checked: Boolean(crypto.subtle), sheet,
    // How many rows another bundle has that has taken the place of this one, if one has.
    async replaced() {
      const bytes = await readAnew(store.address).catch(() => manifestBytes);
      return same(bytes, manifestBytes) ? 0 : parsed(bytes)?.bank?.rows;
    },
    // The bank, which `take` is given while it comes, and by their paths the others that the first answer needs.
    files(take) {
      const first = firstEntries(manifest), { model, bank } = manifest;
      progress.total = first.reduce((sum, entry) => sum + entry.bytes, manifestBytes.length);
      const coming = read(bank.file, take), others = first.filter((one) => one !== model.file && one !== bank.file);
      return { bank: coming, others: Promise.all(others.map(async (one) => [one.path, await read(one)])) };
    },
    // The network's weights, for pictures that visitors bring.
    model: () => { coming ??= read(manifest.model.file); return coming; },
    // What a visit without a network needs: of many thumbnails only those that were seen.
    async rest() {
      const all = entries.reduce((sum, { bytes }) => sum + bytes, 0) <= MAX_THUMBNAILS, first = firstEntries(manifest);
      store.begin();
      // A first visit that ends before its thumbnails have come is kept without them.
      if (!store.before) await store.keep(manifestBytes, first);
      if (all) for (let index = 0; index < entries.length; index++) await sheet(index);
      const isKept = await store.keep(manifestBytes, all ? entriesOf(manifest) : first);
      await store.tidy(manifest);
      return { isKept, all };
    },
  };
}

// A server that has the original pictures says so with the manifest.
async function readManifest({ address, before }) {
  const offers = {};
  const note = (headers) => Object.assign(offers, { originals: headers.has(ORIGINALS), follows: headers.has(FOLLOWS) });
  const bytes = await readAnew(address, note).catch((error) => { if (before) return before; throw error; });
  return { bytes, ...offers };
}

const readAnew = (address, note) => download(address, 'manifest.json', MAX_MANIFEST, () => {}, note);

// `take`, where there is one, is given the bytes so far while the next ones come.
async function readFile(entry, base, store, progress, take) {
  const url = new URL(entry.path, base).href, key = store.key(entry);
  const kept = await store.get(key);
  if (kept && !await fault(entry, kept)) {
    progress({ loaded: kept.length, kept: kept.length });
    take?.(kept);
    return kept;
  }
  const onBytes = (length, soFar) => { progress({ loaded: length }); take?.(soFar); };
  const bytes = await download(url, entry.path, entry.bytes, onBytes);
  const wrong = await fault(entry, bytes);
  if (wrong) throw new Error(`${entry.path}: ${wrong}: ${BROKEN}`);
  store.put(key, bytes);
  return bytes;
}

// The browser's own copy is asked about first: an export replaces files under their old names.
async function download(url, name, limit, progress = () => {}, onHeaders = () => {}) {
  const lost = () => new Error(`${name}: could not be fetched from ${url}: is the network there, the address right, `
    + 'and may other pages read it (CORS)?');
  const response = await fetch(url, { cache: 'no-cache' }).catch(() => { throw lost(); });
  if (!response.ok) {
    throw new Error(`${name}: expected a file at ${url}, got HTTP status ${response.status}: a bundle is a folder that `
      + 'holds manifest.json and the files it names');
  }
  onHeaders(response.headers);
  const bytes = new Uint8Array(limit);
  let length = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read().catch(() => { throw lost(); });
    if (done) return bytes.subarray(0, length);
    if (length + value.length > limit) {
      reader.cancel();
      throw new Error(`${name}: expected at most ${limit} bytes, got more: ${BROKEN}`);
    }
    bytes.set(value, length);
    length += value.length;
    progress(value.length, bytes.subarray(0, length));
  }
}

// What is wrong with a file, in words, or nothing.
async function fault({ bytes: expected, sha256 }, bytes) {
  if (bytes.length !== expected) return `expected ${expected} bytes, got ${bytes.length}`;
  // Browsers offer digests on https and on loopback only; the page says so.
  if (!crypto.subtle) return '';
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const got = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return got === sha256.toLowerCase() ? '' : `expected sha256 ${sha256}, got ${got}`;
}

// Files are kept under their digest, so that an old version is never taken for the new one. No cache, no keeping.
// The manifest follows the files it names: what is kept can be shown, whenever a visit ends.
async function openStore(base) {
  const cache = globalThis.caches && await caches.open(KEPT + base).catch(() => null);
  const address = new URL('manifest.json', base).href;
  // Writing what has come would hold up the first answer: it waits for begin().
  let begin;
  const begun = new Promise((resolve) => { begin = resolve; });
  const puts = [], key = ({ path, sha256 }) => new URL(`${path}?sha256=${sha256}`, base).href;
  const put = (url, bytes) => cache?.put(url, new Response(bytes)).then(() => true, () => false);
  async function get(url) {
    const kept = await cache?.match(url).catch(() => null);
    return kept && new Uint8Array(await kept.arrayBuffer());
  }
  const before = await get(address);
  return {
    address, before, key, get, begin,
    put(url, bytes) { puts.push(begun.then(() => put(url, bytes))); },
    // Keeps the manifest if all of `entries` are kept, and says whether they are; one that another visit has kept
    // meanwhile stays.
    async keep(bytes, entries) {
      if (!cache) return false;
      await Promise.all(puts);
      const there = await addresses(cache);
      if (!entries.every((entry) => there.includes(key(entry)))) return false;
      const now = await get(address);
      return (now && !same(now, before)) || put(address, bytes);
    },
    // Drops the files of older versions, and the oldest of the other bundles.
    async tidy(manifest) {
      if (!cache) return;
      const wanted = [address, ...entriesOf(manifest).map(key), ...entriesOf(parsed(await get(address))).map(key)];
      for (const url of await addresses(cache)) if (!wanted.includes(url)) await cache.delete(url);
      const others = (await caches.keys()).filter((name) => name.startsWith(KEPT) && name !== KEPT + base);
      await Promise.all(others.slice(0, Math.max(0, others.length - MAX_KEPT + 1)).map((name) => caches.delete(name)));
    },
  };
}

const addresses = async (cache) => (await cache.keys()).map(({ url }) => url);
const same = (a, b) => a.length === b?.length && a.every((byte, i) => byte === b[i]);

// The manifest, or nothing where it is no JSON, which the reader in wasm refuses in better words.
function parsed(bytes) {
  try { return JSON.parse(new TextDecoder().decode(bytes)); } catch { return undefined; }
}

const firstEntries = (manifest) =>
  [manifest?.model?.file, manifest?.bank?.file, manifest?.names, manifest?.labels?.file, manifest?.map?.file]
    .filter(Boolean);
// Every file that a manifest names.
const entriesOf = (manifest) => [...firstEntries(manifest), ...(manifest?.thumbnails?.sheets ?? [])];
