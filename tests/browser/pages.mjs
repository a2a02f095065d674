// Opens pages in Chromium: fresh contexts, collected console errors, pictures made on the spot.
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });

// A page of a context of its own, loaded and answered; `errors` are what its console and its scripts complained of.
export async function open(browser, url, { until = '#neighbours li', prepare, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  await prepare?.(context);
  const page = await context.newPage(), errors = [];
  page.on('console', (message) => { if (message.type() === 'error') errors.push(message.text()); });
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(url);
  await page.waitForSelector(until, { timeout: 60000 });
  return { page, context, errors };
}

// Waits for a state of the page; `test` runs there, with `argument`.
export const settle = (page, test, argument, timeout = 20000) => page.waitForFunction(test, argument, { timeout });

// The same for a test that answers later: a promise is true at once.
export async function settleLater(page, test, argument, timeout = 60000) {
  for (const end = Date.now() + timeout; !await page.evaluate(test, argument); await page.waitForTimeout(100)) {
    if (Date.now() > end) throw new Error(`Timeout ${timeout}ms exceeded: ${test}`);
  }
}

export const rows = (page) => page.$$eval('#neighbours li', (cards) => cards.map((card) => Number(card.dataset.row)));
export const text = (page, selector) => page.locator(selector).innerText();

// The bytes of a small PNG, painted in the page: a colour with a bar across.
export async function picture(page, hue) {
  const bytes = await page.evaluate(async (hue) => {
    const canvas = new OffscreenCanvas(40, 30), context = canvas.getContext('2d');
    context.fillStyle = `hsl(${hue} 60% 60%)`;
    context.fillRect(0, 0, 40, 30);
    context.fillStyle = `hsl(${hue + 150} 60% 40%)`;
    context.fillRect(12, 4, 9, 20);
    return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
  }, hue);
  return Buffer.from(bytes);
}

// Drops or pastes files, as a visitor's hand would: `how` is drop or paste.
export const hand = (page, how, files) => page.evaluate(({ how, files }) => {
  const transfer = new DataTransfer();
  for (const { name, type, bytes } of files) transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
  const init = { bubbles: true, cancelable: true };
  document.querySelector('#drop').dispatchEvent(how === 'drop' ? new DragEvent('drop', { ...init, dataTransfer: transfer }) : new ClipboardEvent('paste', { ...init, clipboardData: transfer }));
}, { how, files: files.map((file) => ({ ...file, bytes: [...file.bytes] })) });

// Keeps pictures of one name from being read, as though they were large, until `letGo()` is called in the page.
export const holdBack = (page, name) => page.evaluate((name) => {
  const read = createImageBitmap, held = new Promise((resolve) => { window.letGo = resolve; });
  window.createImageBitmap = async (file, ...rest) => { if (file.name === name) await held; return read(file, ...rest); };
}, name);

// The same site through a host of its own, which may leave headers out, add `headers`, and change files: `change(path, body)`,
// or nothing for a file that is missing; `files(path)` are files that only this host has. `asked` are the names of the files
// that were asked of it, by workers of workers too. Of its own files the second half waits for `later(path)`.
export async function through(site, { isolated = true, headers = {}, files = () => null, later = () => null, change = (_, body) => body }, visit) {
  const asked = [], server = createServer(async (request, response) => {
    asked.push(request.url.split('/').pop());
    const isolating = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };
    const ours = files(request.url), same = { ...(isolated && isolating), ...headers };
    if (ours) {
      const half = later(request.url) ? ours.length >> 1 : 0;
      response.writeHead(200, same).write(ours.subarray(0, half));
      await later(request.url);
      return response.end(ours.subarray(half));
    }
    const answer = await fetch(new URL(request.url, site)), body = change(request.url, Buffer.from(await answer.arrayBuffer()));
    const type = answer.headers.get('content-type') ?? 'application/octet-stream';
    response.writeHead(body ? answer.status : 404, { 'content-type': type, ...same }).end(body);
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  try {
    return { ...await visit(`http://127.0.0.1:${server.address().port}/`), asked };
  } finally {
    server.close();
    server.closeAllConnections();
  }
}
