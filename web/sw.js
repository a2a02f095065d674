// Keeps the page for visits without a network; the network goes first, so that a new export is seen. The bundle's files
// are kept by bundle.js, which knows their digests.
const MINE = 'la-page ', CACHE = `${MINE}5 ${self.registration.scope}`;
const PAGE = [
  './', 'style.css', 'pkg/la_wasm.js',
  'address.js', 'bring.js', 'browse.js', 'bundle.js', 'camera.js', 'client.js', 'clusters.js', 'crop.js',
  'download.js', 'filter.js', 'gestures.js', 'grid.js', 'guard.js', 'helper.js', 'kept.js', 'legend.js', 'likeness.js',
  'main.js', 'map.js', 'names.js', 'news.js', 'offline.js', 'page.js', 'pictures.js', 'plot.js', 'search.js',
  'state.js', 'threads.js', 'twins.js', 'view.js', 'viewer.js', 'walk.js', 'worker.js',
];
const address = (path) => new URL(path, self.registration.scope).href;

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(Promise.all([dropOld(), self.clients.claim()])));
self.addEventListener('message', (event) => event.waitUntil(answerWith(event.ports[0], keep(event.data.keep))));
self.addEventListener('fetch', (event) => {
  const key = keyOf(event.request);
  if (key) event.respondWith(answer(event, key));
});

const answerWith = async (port, coming) => port.postMessage({ missing: await coming });

// The address under which a request is kept, or nothing for what is none of the page's files.
function keyOf({ method, url }) {
  const { origin, pathname } = new URL(url), plain = origin + pathname;
  if (plain === address('index.html')) return address('./');
  const ours = PAGE.some((path) => address(path) === plain) || plain.startsWith(address('pkg/'));
  return method === 'GET' && ours ? plain : null;
}

async function dropOld() {
  const isMine = (name) => name.startsWith(MINE) && name.endsWith(` ${self.registration.scope}`);
  const old = (await caches.keys()).filter((name) => name === 'la-demo-1' || (isMine(name) && name !== CACHE));
  await Promise.all(old.map((name) => caches.delete(name)));
}

// The page's own files and those it names, one by one: a file that is missing costs only itself.
async function keep(more) {
  const cache = await caches.open(CACHE), wanted = [...PAGE.map(address), ...more], missing = [];
  await Promise.all(wanted.map(async (url) => {
    if (await cache.match(url)) return;
    const response = await fetch(url, { cache: 'no-cache' }).catch(() => null);
    if (response?.ok) await cache.put(url, response).catch(() => missing.push(url)); else missing.push(url);
  }));
  for (const { url } of await cache.keys()) if (!wanted.includes(url)) await cache.delete(url);
  return missing;
}

async function answer(event, key) {
  try {
    const response = await fetch(event.request);
    if (response.status === 200) event.waitUntil(put(key, response.clone()));
    return response;
  } catch (error) {
    const kept = await caches.match(key, { cacheName: CACHE });
    if (kept) return kept;
    throw error;
  }
}

async function put(key, response) {
  const cache = await caches.open(CACHE);
  // A full storage costs the next visit without a network, not this one.
  await cache.put(key, response).catch(() => {});
}
