// The files of a bundle: fetched or taken from an earlier visit, checked, and kept for visits without a network.
const KEPT = 'la-bundle ', MAX_KEPT = 3, MAX_MANIFEST = 1 << 20;
const BROKEN = 'the file is broken, export the bundle again or copy it anew';

export async function openBundle(base, onProgress) {
  const store = await openStore(base), manifestBytes = await readManifest(base, store);
  let manifest;
  // Whatever is no JSON is refused in better words by the reader in wasm.
  try { manifest = JSON.parse(new TextDecoder().decode(manifestBytes)); } catch { /* checked by the caller */ }
  const progress = { loaded: manifestBytes.length, kept: 0, total: 0 };
  const read = (entry) => readFile(entry, base, store, (change) => {
    for (const key in change) progress[key] += change[key];
    onProgress({ ...progress });
  });
  let sheets = [];
  return {
    manifestBytes, manifest, checked: Boolean(crypto.subtle),
    // What the first answer needs; thumbnails follow while the visitor looks at it.
    async files() {
      const entries = [manifest.model.file, manifest.bank.file, manifest.names, manifest.labels?.file, manifest.map?.file].filter(Boolean);
      progress.total = entries.reduce((sum, entry) => sum + entry.bytes, manifestBytes.length);
      const files = new Map(await Promise.all(entries.map(async (entry) => [entry.path, await read(entry)])));
      sheets = (manifest.thumbnails?.sheets ?? []).map((entry) => read(entry).then((bytes) => new Blob([bytes], { type: 'image/jpeg' })));
      sheets.forEach((sheet) => sheet.catch(() => {}));
      return files;
    },
    sheet: (index) => sheets[index],
    async rest() { await Promise.all(sheets); return store.tidy(manifest); },
  };
}

async function readManifest(base, store) {
  const url = new URL('manifest.json', base).href;
  try {
    const bytes = await download(url, 'manifest.json', MAX_MANIFEST);
    store.put(url, bytes);
    return bytes;
  } catch (error) {
    const kept = await store.get(url);
    if (kept) return kept;
    throw error;
  }
}

async function readFile(entry, base, store, progress) {
  const url = new URL(entry.path, base).href, key = store.key(entry);
  const kept = await store.get(key);
  if (kept && !await fault(entry, kept)) {
    progress({ loaded: kept.length, kept: kept.length });
    return kept;
  }
  const bytes = await download(url, entry.path, entry.bytes, (length) => progress({ loaded: length }));
  const wrong = await fault(entry, bytes);
  if (wrong) throw new Error(`${entry.path}: ${wrong}: ${BROKEN}`);
  store.put(key, bytes);
  return bytes;
}

// The browser's own copy is asked about first: an export replaces files under their old names.
async function download(url, name, limit, progress = () => {}) {
  const lost = () => new Error(`${name}: could not be fetched from ${url}: is the network there, the address right, and may other pages read it (CORS)?`);
  const response = await fetch(url, { cache: 'no-cache' }).catch(() => { throw lost(); });
  if (!response.ok) throw new Error(`${name}: expected a file at ${url}, got HTTP status ${response.status}: a bundle is a folder that holds manifest.json and the files it names`);
  const bytes = new Uint8Array(limit);
  let length = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read().catch(() => { throw lost(); });
    if (done) return bytes.subarray(0, length);
    if (length + value.length > limit) { reader.cancel(); throw new Error(`${name}: expected at most ${limit} bytes, got more: ${BROKEN}`); }
    bytes.set(value, length);
    length += value.length;
    progress(value.length);
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
async function openStore(base) {
  const cache = globalThis.caches && await caches.open(KEPT + base).catch(() => null);
  const puts = [];
  let full = false;
  const key = ({ path, sha256 }) => new URL(`${path}?sha256=${sha256}`, base).href;
  return {
    key,
    async get(url) {
      const kept = await cache?.match(url).catch(() => null);
      return kept && new Uint8Array(await kept.arrayBuffer());
    },
    put(url, bytes) { if (cache) puts.push(cache.put(url, new Response(bytes)).catch(() => { full = true; })); },
    // Drops the files of older versions, and the oldest of the other bundles; says whether this one is kept.
    async tidy(manifest) {
      if (!cache) return false;
      await Promise.all(puts);
      const wanted = new Set([new URL('manifest.json', base).href, ...entriesOf(manifest).map(key)]);
      for (const { url } of await cache.keys()) if (!wanted.has(url)) await cache.delete(url);
      const others = (await caches.keys()).filter((name) => name.startsWith(KEPT) && name !== KEPT + base);
      await Promise.all(others.slice(0, Math.max(0, others.length - MAX_KEPT + 1)).map((name) => caches.delete(name)));
      return !full;
    },
  };
}

const entriesOf = ({ model, bank, names, labels, map, thumbnails }) =>
  [model.file, bank.file, names, labels?.file, map?.file, ...(thumbnails?.sheets ?? [])].filter(Boolean);
