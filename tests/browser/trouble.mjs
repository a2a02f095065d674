// What the page says, and still does, where something is wrong.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { hand, open, picture, rows, settle, settleLater, text, through } from './pages.mjs';

const wrong = (page) => text(page, '#error-text');

export async function the_page_works_without_a_network_after_the_first_visit(browser, site) {
  const { page, context } = await open(browser, site);
  await settle(page, () => /Ready/.test(document.querySelector('#offline').textContent), null, 60000);
  const before = await rows(page);
  await context.setOffline(true);
  assert.equal(await page.evaluate(() => fetch(`nothing?${Math.random()}`).then(() => 'answered', () => 'lost')), 'lost', 'the network is still there');
  await page.reload();
  await page.waitForSelector('#neighbours li');
  assert.deepEqual(await rows(page), before);
  assert.match(await text(page, '#facts'), /kept from before/);
  await hand(page, 'drop', [{ name: 'offline.png', type: 'image/png', bytes: await picture(page, 200) }]);
  await settle(page, () => document.querySelector('#query-name').textContent === 'offline.png');
  if (await page.evaluate(() => Boolean(laState.bundle.manifest.thumbnails))) {
    const painted = () => [...document.querySelectorAll('#neighbours canvas')].every((canvas) => canvas.getContext('2d').getImageData(0, 0, 128, 128).data.some((value) => value));
    await settle(page, painted);
  }
  await context.close();
}

export async function caches_hold_one_version_of_each_file(browser, site) {
  const { page, context } = await open(browser, site);
  const old = `${site}bundle/bank.bin?sha256=${'0'.repeat(64)}`;
  await page.evaluate(async ({ site, old }) => {
    await (await caches.open(`la-bundle ${site}bundle/`)).put(old, new Response('old'));
    await caches.open('la-demo-1');
  }, { site, old });
  await settle(page, () => /Ready/.test(document.querySelector('#offline').textContent), null, 60000);
  await page.reload();
  await settle(page, () => /Ready/.test(document.querySelector('#offline').textContent), null, 60000);
  const kept = await page.evaluate(async () => (await Promise.all((await caches.keys()).map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url)))).flat());
  assert.ok(!kept.includes(old), 'an old version stays in the cache');
  const files = await page.evaluate(() => { const m = laState.bundle.manifest; return 4 + (m.labels ? 1 : 0) + (m.map ? 1 : 0) + (m.thumbnails?.sheets.length ?? 0); });
  assert.equal(kept.filter((url) => url.includes('/bundle/')).length, files);
  await context.close();
}

// What another export writes under the same names: the manifest, and the names and first thumbnails that it then has.
async function exportedAnew(site) {
  const read = async (name) => Buffer.from(await (await fetch(`${site}bundle/${name}`)).arrayBuffer());
  const manifest = JSON.parse(await read('manifest.json')), files = { 'names.txt': Buffer.from('anew\n'.repeat(manifest.bank.rows)) };
  const entry = (path) => ({ path, bytes: files[path].length, sha256: createHash('sha256').update(files[path]).digest('hex') });
  const changed = { ...manifest, title: 'exported anew', names: entry('names.txt') };
  if (manifest.thumbnails) {
    // What follows a picture is not looked at.
    files['thumbs-0.jpg'] = Buffer.concat([await read('thumbs-0.jpg'), Buffer.from('anew')]);
    changed.thumbnails = { ...manifest.thumbnails, sheets: [entry('thumbs-0.jpg'), ...manifest.thumbnails.sheets.slice(1)] };
  }
  return { ...files, 'manifest.json': Buffer.from(JSON.stringify(changed)) };
}
const nameIn = (url) => new URL(url, 'http://x').pathname.split('/').pop();

export async function a_new_export_is_seen_where_the_host_lets_files_be_kept(browser, site) {
  const anew = await exportedAnew(site);
  let isNew = false;
  const change = (path, body) => (isNew && anew[nameIn(path)]) || body;
  await through(site, { change, headers: { 'cache-control': 'max-age=3600' } }, async (address) => {
    const { page, context } = await open(browser, address, { serviceWorkers: 'block' });
    isNew = true;
    assert.equal(await answers(page), 'exported anew');
    assert.equal(await page.evaluate(() => laState.bundle.names.of(0)), 'anew');
    await context.close();
  });
}

// Loads the page again; gives the title of the bundle it answers from, or what is wrong.
async function answers(page) {
  await page.reload();
  await page.waitForSelector('#neighbours li, #error:not([hidden])');
  return await wrong(page) || page.evaluate(() => laState.bundle.manifest.title);
}
// The bundle as exported anew, but for files that are lost on the way.
async function renew(context, anew, lost) {
  await context.unrouteAll();
  await context.route('**/bundle/*', (route) => {
    const name = nameIn(route.request().url());
    return lost(name) ? route.abort() : anew[name] ? route.fulfill({ body: anew[name] }) : route.continue();
  });
}
const isKept = (page, title) => settleLater(page, async (title) => {
  const kept = await caches.match(new URL('bundle/manifest.json', location.href).href);
  return kept && (await kept.json()).title === title;
}, title);

export async function a_new_bundle_that_does_not_come_whole_leaves_the_one_kept_before(browser, site) {
  const { page, context } = await open(browser, site, { serviceWorkers: 'block' }), anew = await exportedAnew(site);
  const { title } = await page.evaluate(() => laState.bundle.manifest);
  await isKept(page, title);
  for (const last of Object.keys(anew).filter((name) => name !== 'manifest.json')) {
    await renew(context, anew, (name) => name === last);
    await answers(page);
    await page.waitForSelector('#error:not([hidden])');
    await renew(context, anew, () => true);
    assert.equal(await answers(page), title, `without ${last}`);
  }
  await renew(context, anew, () => false);
  assert.equal(await answers(page), 'exported anew');
  await isKept(page, 'exported anew');
  await context.close();
}

export async function a_visit_that_ends_late_leaves_the_newer_bundle_whole(browser, site) {
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  const prepare = (context) => context.route('**/thumbs-0.jpg', (route) => held.then(() => route.continue()));
  const { page: late, context } = await open(browser, site, { serviceWorkers: 'block', prepare }), anew = await exportedAnew(site);
  if (!anew['thumbs-0.jpg']) return context.close().then(() => 'the bundle has no thumbnails');
  const page = await context.newPage();
  await page.route('**/bundle/*', (route) => { const body = anew[nameIn(route.request().url())]; return body ? route.fulfill({ body }) : route.continue(); });
  await page.goto(site);
  await page.waitForSelector('#neighbours li');
  const sheetOf = (page) => page.evaluate(() => { const [{ path, sha256 }] = laState.bundle.manifest.thumbnails.sheets; return `${path}?sha256=${sha256}`; });
  const comes = (sheet) => settleLater(page, async (sheet) => Boolean(await caches.match(new URL(`bundle/${sheet}`, location.href).href)), sheet);
  await isKept(page, 'exported anew');
  await comes(await sheetOf(page));
  release();
  await comes(await sheetOf(late));
  // What it drops, it drops at once.
  await page.waitForTimeout(500);
  await renew(context, anew, () => true);
  await page.unrouteAll();
  assert.equal(await answers(page), 'exported anew');
  await settle(page, () => [...document.querySelectorAll('#neighbours canvas')].every((canvas) => canvas.getContext('2d').getImageData(0, 0, 128, 128).data.some((value) => value)));
  await context.close();
}

async function broken(browser, site, pattern, change) {
  const prepare = (context) => context.route(pattern, async (route) => {
    const response = await route.fetch(), body = await response.body();
    await route.fulfill({ response, body: change(body) });
  });
  const { page, context } = await open(browser, site, { until: '#error:not([hidden])', prepare, serviceWorkers: 'block' });
  const said = await wrong(page);
  return { said, page, context };
}
function flipped(body) {
  const changed = Buffer.from(body);
  changed[changed.length >> 1] ^= 255;
  return changed;
}

export async function a_bank_with_a_flipped_byte_is_named_with_its_digest(browser, site) {
  const { said, page, context } = await broken(browser, site, '**/bundle/bank.bin', flipped);
  assert.match(said, /bank\.bin: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}: .*export/);
  assert.equal(await page.locator('#pick').isDisabled() && await page.locator('#camera').isDisabled(), true, 'controls look alive without a bundle');
  assert.equal(await page.locator('#retry').isVisible(), true, 'there is no way to try again');
  await context.close();
}

export async function a_truncated_bank_is_named_with_its_length(browser, site) {
  const { said, context } = await broken(browser, site, '**/bundle/bank.bin', (body) => body.subarray(0, body.length - 7));
  assert.match(said, /bank\.bin: expected \d+ bytes, got \d+/);
  await context.close();
}

export async function a_broken_sheet_of_thumbnails_is_named_and_the_search_goes_on(browser, site) {
  const answer = await fetch(`${site}bundle/thumbs-0.jpg`), body = answer.ok && flipped(await answer.arrayBuffer());
  const prepare = (context) => body && context.route('**/bundle/thumbs-0.jpg', (route) => route.fulfill({ body }));
  const { page, context } = await open(browser, site, { prepare, serviceWorkers: 'block' });
  if (!await page.evaluate(() => laState.bundle.manifest.thumbnails)) return context.close().then(() => 'the bundle has no thumbnails');
  await page.waitForSelector('#error:not([hidden])');
  assert.match(await wrong(page), /thumbs-0\.jpg: expected sha256/);
  await page.click('#neighbours .search');
  await settle(page, () => laState.query.row !== 0);
  await context.close();
}

export async function a_bundle_without_labels_map_and_thumbnails_shows_names(browser, site) {
  const prepare = (context) => context.route('**/bundle/manifest.json', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), labels: null, map: null, thumbnails: null } });
  });
  const { page, context, errors } = await open(browser, site, { prepare, serviceWorkers: 'block' });
  assert.equal(await page.locator('#neighbours canvas').count(), 0);
  assert.ok((await text(page, '#neighbours li >> nth=0')).length > 5);
  assert.equal(await page.locator('#plane').isVisible() || await page.locator('#vote').isVisible(), false);
  assert.deepEqual(errors, []);
  await context.close();
}

export async function a_manifest_that_is_no_manifest_is_refused_in_words(browser, site) {
  const { said, context } = await broken(browser, site, '**/bundle/manifest.json', () => Buffer.from('<!doctype html>'));
  assert.match(said, /manifest|JSON/i);
  await context.close();
}

export async function a_bundle_that_is_not_there_is_said_so(browser, site) {
  const { page, context } = await open(browser, `${site}?bundle=nowhere`, { until: '#error:not([hidden])' });
  assert.match(await wrong(page), /manifest\.json: expected a file at .*nowhere\/manifest\.json, got HTTP status 404/);
  await page.goto(`${site}?model=three/slashes/here`);
  await page.waitForSelector('#error:not([hidden])');
  assert.match(await wrong(page), /\?model=: expected owner\/name/);
  await context.close();
}

export async function a_script_that_is_missing_or_broken_is_said_so(browser, site) {
  for (const body of [null, Buffer.from('export const cards = ;')]) for (const script of ['/main.js', '/view.js']) {
    await through(site, { change: (path, whole) => (path === script ? body : whole) }, async (address) => {
      const { page, context } = await open(browser, address, { until: '#error:not([hidden])', serviceWorkers: 'block' });
      assert.match(await wrong(page), /A script of this page is missing or broken/);
      assert.equal(await page.locator('#loading').isVisible(), false, 'the page still seems to load');
      assert.equal(await page.locator('#retry').isVisible(), true);
      await context.close();
    });
  }
}

export async function a_lost_network_is_said_so(browser, site) {
  const prepare = (context) => context.route('**/bundle/**', (route) => route.abort());
  const { page, context } = await open(browser, site, { until: '#error:not([hidden])', prepare, serviceWorkers: 'block' });
  assert.match(await wrong(page), /manifest\.json: could not be fetched .*network/);
  await context.close();
}

export async function a_browser_without_simd_is_told_which_would_do(browser, site) {
  // The probe is the only caller of validate.
  const prepare = (context) => context.route('**/worker.js', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `WebAssembly.validate = () => false;\n${await response.text()}` });
  });
  const { page, context } = await open(browser, site, { until: '#error:not([hidden])', prepare, serviceWorkers: 'block' });
  assert.match(await wrong(page), /no WebAssembly SIMD: expected Chrome/);
  await context.close();
}

export async function a_text_file_dropped_as_a_picture_is_refused_in_words(browser, site) {
  const { page, context, errors } = await open(browser, site), before = await rows(page);
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await hand(page, 'drop', [{ name: 'notes.txt', type: 'text/plain', bytes: Buffer.from('not a picture') }]);
  await page.waitForSelector('#error:not([hidden])');
  assert.match(await wrong(page), /notes\.txt: expected a picture .* got text\/plain/);
  assert.deepEqual(await rows(page), before);
  const { y } = await page.locator('#error').boundingBox();
  assert.ok(y >= 0 && y < 100, `scrolled down, the error stands ${y} pixels from the top of the window`);
  await page.click('#dismiss');
  assert.equal(await page.locator('#error').isVisible(), false);
  await hand(page, 'drop', [{ name: 'broken.png', type: 'image/png', bytes: Buffer.from('not a picture either') }]);
  await page.waitForSelector('#error:not([hidden])');
  assert.match(await wrong(page), /broken\.png: expected a picture .* got image\/png whose content is damaged/);
  assert.equal(await text(page, '#status'), '');
  await hand(page, 'drop', [{ name: 'empty.png', type: 'image/png', bytes: Buffer.alloc(0) }]);
  await settle(page, () => /empty\.png: expected a picture, got an empty file/.test(document.querySelector('#error-text').textContent));
  await page.evaluate(() => { window.createImageBitmap = async () => ({ width: 8192, height: 8193, close() {} }); });
  await hand(page, 'drop', [{ name: 'huge.png', type: 'image/png', bytes: Buffer.from('as though it were large') }]);
  await settle(page, () => /huge\.png: expected at most 64 megapixels, got 8192 × 8193/.test(document.querySelector('#error-text').textContent));
  assert.deepEqual(errors, []);
  await context.close();
}

export async function a_picture_lost_by_a_reload_is_explained(browser, site) {
  const { page, context, errors } = await open(browser, site);
  await hand(page, 'drop', [{ name: 'mine.png', type: 'image/png', bytes: await picture(page, 90) }]);
  await settle(page, () => laState.query?.name === 'mine.png');
  await page.reload();
  await page.waitForSelector('#empty:not([hidden])');
  assert.match(await text(page, '#empty'), /The picture of this address is gone.*Drop or choose it again/);
  assert.deepEqual(await rows(page), []);
  await page.goto(`${site}?row=99999999`);
  await page.waitForSelector('#empty:not([hidden])');
  assert.match(await text(page, '#empty'), /^Row 99999999 is not among these [\d,]+ pictures\. If it was a picture you brought, it is gone: /);
  await page.click('#shelf .search');
  await page.waitForSelector('#neighbours li');
  assert.deepEqual(errors, []);
  await context.close();
}

export async function digests_that_were_not_checked_are_said_so(browser, site) {
  // As on plain http from another machine, where browsers offer no digests.
  const prepare = (context) => context.route('**/worker.js', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `Object.defineProperty(crypto, 'subtle', { value: undefined });\n${await response.text()}` });
  });
  const { page, context } = await open(browser, site, { prepare, serviceWorkers: 'block' });
  assert.match(await text(page, '#notice'), /not checked against their sha256/);
  await context.close();
}
