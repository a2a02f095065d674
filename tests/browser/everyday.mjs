// What a visitor does on a page that works; each check's name is a sentence that can be false.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hand, holdBack, open, picture, rows, settle, text } from './pages.mjs';

const params = (page) => new URL(page.url()).searchParams;
const quiet = ({ errors }) => assert.deepEqual(errors, [], `console errors: ${errors.join('; ')}`);
const asked = (page, name) => settle(page, (name) => document.querySelector('#query-name').textContent === name, name);

export async function the_page_loads_and_answers(browser, site) {
  const opened = await open(browser, site), { page, context } = opened;
  assert.equal((await rows(page)).length, Math.min(12, await page.evaluate(() => laState.bundle.manifest.bank.rows - 1)));
  assert.match(await text(page, '#timing'), /searched in \d/i);
  assert.match(await text(page, '#facts'), /pictures · [\d.]+ MB loaded/);
  const scores = (await page.$$eval('#neighbours .score', (all) => all.map((one) => parseFloat(one.textContent.replace('similarity ', '')))));
  assert.deepEqual(scores, [...scores].sort((a, b) => b - a), 'scores do not fall');
  assert.equal(await page.evaluate(() => laState.bundle.labels ? document.querySelectorAll('#vote li').length > 0 : true), true, 'no vote is shown');
  quiet(opened);
  const note = `${await text(page, '#timing')}, ${await text(page, '#facts')}`;
  await context.close();
  return note;
}

async function bring(browser, site, how, options) {
  const opened = await open(browser, site, options), { page, context } = opened, file = { name: `${how}.png`, type: 'image/png', bytes: await picture(page, 30) };
  if (how === 'pick') await page.setInputFiles('#pick', { name: file.name, mimeType: file.type, buffer: file.bytes });
  else await hand(page, how, [file]);
  await asked(page, file.name);
  assert.ok(params(page).get('drop'), 'the address does not name the picture');
  assert.match(await text(page, '#timing'), /^Embedded in [\d.]+ ms, searched in [\d.]+ ms$/);
  const length = await page.evaluate(() => Math.hypot(...document.querySelector('#results').lastEmbedding));
  assert.ok(Math.abs(length - 1) < 1e-3, `the embedding has length ${length}`);
  const nearest = await page.locator('#neighbours canvas').first().boundingBox(), { height } = page.viewportSize();
  assert.ok(!nearest || nearest.y + nearest.height <= height, `the nearest ends at ${nearest?.y + nearest?.height} of ${height} pixels`);
  quiet(opened);
  await context.close();
}
export const a_dropped_picture_finds_neighbours = (browser, site) => bring(browser, site, 'drop');
export const a_pasted_picture_finds_neighbours = (browser, site) => bring(browser, site, 'paste');
export const a_chosen_picture_finds_neighbours = (browser, site) => bring(browser, site, 'pick');
export const a_picture_chosen_on_a_phone_shows_its_neighbours = (browser, site) => bring(browser, site, 'pick', { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });

export async function a_picture_that_takes_long_replaces_nothing_chosen_later(browser, site) {
  const opened = await open(browser, site), { page, context } = opened, files = await Promise.all([20, 200].map(async (hue) => ({ name: `${hue}.png`, type: 'image/png', bytes: await picture(page, hue) })));
  await holdBack(page, '20.png');
  await hand(page, 'drop', [files[0]]);
  await settle(page, () => document.querySelector('#status').textContent === 'Reading 20.png');
  await hand(page, 'drop', [files[1]]);
  await asked(page, '200.png');
  await hand(page, 'drop', [files[0]]);
  await page.click('#shelf .search');
  await settle(page, () => laState.query.row !== undefined);
  const address = page.url();
  await page.evaluate(() => letGo());
  // What is read comes at once.
  await page.waitForTimeout(500);
  assert.equal(page.url(), address, 'what was chosen first came last and stayed');
  assert.notEqual(await text(page, '#query-name'), '20.png');
  assert.doesNotMatch(await text(page, '#status'), /Reading/);
  quiet(opened);
  await context.close();
}

export async function the_camera_gives_a_picture_and_can_be_cancelled(browser, site) {
  const opened = await open(browser, site, { permissions: ['camera'] }), { page, context } = opened;
  await page.evaluate(() => {
    const { mediaDevices } = navigator, ask = mediaDevices.getUserMedia.bind(mediaDevices), held = new Promise((resolve) => { window.letGo = resolve; });
    mediaDevices.getUserMedia = (wanted) => held.then(() => ask(wanted));
  });
  await page.click('#camera');
  assert.equal(await page.locator('#shoot').isDisabled(), true, 'a picture can be taken before there is one');
  await page.evaluate(() => letGo());
  await settle(page, () => document.querySelector('#video').videoWidth > 0);
  await page.click('#camera-off');
  await settle(page, () => !document.querySelector('#camera-view').open && !document.querySelector('#video').srcObject);
  await page.click('#camera');
  await settle(page, () => document.querySelector('#video').videoWidth > 0);
  await page.click('#shoot');
  await asked(page, 'camera picture');
  quiet(opened);
  await context.close();
}

export async function a_click_on_a_neighbour_searches_from_it_and_back_returns(browser, site) {
  const opened = await open(browser, `${site}?row=3`), { page, context } = opened, before = await rows(page);
  await page.click('#neighbours .search');
  await settle(page, (row) => laState.query.row === row, before[0]);
  assert.equal(params(page).get('row'), String(before[0]));
  assert.ok(!(await rows(page)).includes(before[0]), 'a picture is its own neighbour');
  await page.goBack();
  await settle(page, () => laState.query.row === 3);
  assert.deepEqual(await rows(page), before);
  await page.goForward();
  await settle(page, (row) => laState.query.row === row, before[0]);
  quiet(opened);
  await context.close();
}

export async function count_and_minimum_similarity_change_what_is_shown(browser, site) {
  const opened = await open(browser, site), { page, context } = opened, before = await rows(page);
  await page.fill('#k', '4');
  await page.press('#k', 'Enter');
  await settle(page, () => document.querySelectorAll('#neighbours li').length === 4);
  assert.deepEqual(await rows(page), before.slice(0, 4));
  const middle = await page.evaluate(() => { const [, { score: a }, { score: b }] = laState.result.neighbours; return Math.floor(50 * (a + b)) / 100; });
  const expected = await page.evaluate((min) => laState.result.neighbours.filter(({ score }) => score >= min).length, middle);
  await page.fill('#min', String(middle));
  await settle(page, (count) => document.querySelectorAll('#neighbours li').length === count, expected);
  assert.equal(params(page).get('k'), '4');
  const most = await page.evaluate(() => Math.min(200, laState.bundle.manifest.bank.rows - 1));
  for (const [typed, taken] of [['500', most], ['0', 1], ['', 1], ['2.6', 3]]) {
    await page.fill('#k', typed);
    await page.press('#k', 'Enter');
    await settle(page, (k) => laState.result.neighbours.length <= k && laState.k === k, taken);
    assert.deepEqual([await page.inputValue('#k'), params(page).get('k')], [String(taken), String(taken)], `of ${typed}`);
  }
  await page.goto(`${site}?row=0&k=7&min=-1`);
  await settle(page, () => document.querySelectorAll('#neighbours li').length === 7);
  await page.goto(`${site}?row=0&min=1`);
  await settle(page, () => /lower the minimum/.test(document.querySelector('#status').textContent));
  quiet(opened);
  await context.close();
}

export async function a_click_on_the_map_searches_from_that_point(browser, site) {
  const opened = await open(browser, site), { page, context } = opened;
  if (!await page.evaluate(() => Boolean(laState.bundle.map))) return context.close().then(() => 'the bundle has no map');
  await page.locator('#map').scrollIntoViewIfNeeded();
  const row = await page.evaluate(() => laState.result.neighbours[0].row), box = await page.locator('#map').boundingBox();
  const before = await page.evaluate((row) => laState.map.screen(row), row);
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.wheel(0, 50);
  await settle(page, (y) => document.querySelector('#map').getBoundingClientRect().top <= y - 49, box.y);
  assert.deepEqual(await page.evaluate((row) => laState.map.screen(row), row), before, 'the map keeps the wheel from the page');
  box.y = (await page.locator('#map').boundingBox()).y;
  await page.focus('#map');
  // Far in, points stand apart; what lies under the pointer stays there.
  for (let i = 0; i < 12; i++) {
    const [x, y] = await page.evaluate((row) => laState.map.screen(row), row);
    await page.mouse.move(box.x + x, box.y + y);
    await page.mouse.wheel(0, -160);
    await page.waitForTimeout(40);
    const [nowX, nowY] = await page.evaluate((row) => laState.map.screen(row), row);
    assert.ok(Math.hypot(nowX - x, nowY - y) < 1.5, `zooming moved the point under the pointer by ${Math.hypot(nowX - x, nowY - y)} pixels`);
  }
  const [x, y] = await page.evaluate((row) => laState.map.screen(row), row);
  await page.mouse.click(box.x + x, box.y + y);
  await settle(page, () => laState.query.row !== 0);
  const same = await page.evaluate(([row]) => { const at = laState.map.screen(laState.query.row), to = laState.map.screen(row); return Math.hypot(at[0] - to[0], at[1] - to[1]); }, [row]);
  assert.ok(same < 24, `the point picked lies ${same} pixels from the click`);
  quiet(opened);
  await context.close();
}

export async function points_without_a_class_are_on_the_map(browser, site) {
  const painted = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => {
    const canvas = document.querySelector('#map'), { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    resolve(data.filter((value, i) => i % 4 === 3 && value).length);
  })));
  const { page, context } = await open(browser, site), bundle = await page.evaluate(() => laState.bundle.manifest);
  if (!bundle.map || !bundle.labels) return context.close().then(() => 'the bundle has no map or no labels');
  const all = await painted(page);
  await context.close();
  for (const label of [0xFFFFFFFF, 0xFFFFFFFE]) {
    const labels = Buffer.from(new Uint32Array(bundle.bank.rows).fill(label).buffer), sha256 = createHash('sha256').update(labels).digest('hex');
    const manifest = { ...bundle, labels: { ...bundle.labels, file: { ...bundle.labels.file, sha256 } } };
    const prepare = async (context) => {
      await context.route('**/labels.bin', (route) => route.fulfill({ body: labels }));
      await context.route('**/manifest.json', (route) => route.fulfill({ json: manifest }));
    };
    const { page, context } = await open(browser, site, { prepare, serviceWorkers: 'block' }), seen = await painted(page);
    assert.ok(Math.abs(seen - all) < 0.02 * all, `with label ${label} ${seen} pixels of the map are painted, with classes ${all}`);
    await context.close();
  }
}

export async function a_pinch_zooms_and_lifting_one_finger_moves_nothing(browser, site) {
  const opened = await open(browser, site, { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }), { page, context } = opened;
  if (!await page.evaluate(() => Boolean(laState.bundle.map))) return context.close().then(() => 'the bundle has no map');
  await page.locator('#map').scrollIntoViewIfNeeded();
  const box = await page.locator('#map').boundingBox(), touches = await context.newCDPSession(page), y = box.y + box.height / 2;
  const touch = (type, ...xs) => touches.send('Input.dispatchTouchEvent', { type, touchPoints: xs.map(([id, x]) => ({ id, x: box.x + x, y })) });
  const where = () => page.evaluate(() => [laState.map.screen(0), laState.map.screen(1)].flat());
  const far = ([a, b], [c, d]) => Math.hypot(a - c, b - d), span = (at) => far(at.slice(0, 2), at.slice(2)), before = await where();
  await touch('touchStart', [0, 120], [1, 180]);
  for (let i = 1; i <= 6; i++) await touch('touchMove', [0, 120 - 10 * i], [1, 180 + 10 * i]);
  await page.waitForTimeout(100);
  const pinched = await where();
  assert.ok(span(pinched) > 2 * span(before), 'a pinch does not zoom');
  await touch('touchEnd', [1, 240]);
  await touch('touchMove', [0, 60]);
  await page.waitForTimeout(100);
  assert.ok(far(pinched, await where()) < 2, `lifting a finger moved the map by ${far(pinched, await where())} pixels`);
  await touch('touchMove', [0, 75]);
  await page.waitForTimeout(100);
  assert.ok(far(pinched, await where()) < 2, 'one finger moves the map, and the page cannot be scrolled past it');
  await touch('touchEnd');
  assert.equal(await page.evaluate(() => laState.query.row), 0, 'a pinch picked a point');
  quiet(opened);
  await context.close();
}

export async function the_bank_can_be_leafed_through_and_searched_by_name(browser, site) {
  const opened = await open(browser, site), { page, context } = opened;
  const row = Number(await page.getAttribute('#shelf li >> nth=1', 'data-row'));
  await page.click('#shelf .search >> nth=1');
  await settle(page, (row) => laState.query.row === row, row);
  if (await page.locator('#shelf-on').isEnabled()) {
    await page.click('#shelf-on');
    assert.match(await text(page, '#shelf-where'), /^1 to \d+ of \d+$/);
  }
  const name = await page.evaluate(() => laState.bundle.names.of(2));
  await page.fill('#find', name);
  await settle(page, () => document.querySelectorAll('#shelf li').length > 0 && document.querySelector('#shelf li').dataset.row === '2');
  await page.fill('#find', 'nothing has this name');
  await settle(page, () => document.querySelectorAll('#shelf li').length === 0);
  quiet(opened);
  await context.close();
}

// The bundle, cut to its first rows.
async function cut(site, rows) {
  const read = async (name) => Buffer.from(await (await fetch(`${site}bundle/${name}`)).arrayBuffer()), manifest = JSON.parse(await read('manifest.json')), files = {};
  const first = async ({ path, bytes }) => {
    files[path] = (await read(path)).subarray(0, bytes / manifest.bank.rows * rows);
    return { path, bytes: files[path].length, sha256: createHash('sha256').update(files[path]).digest('hex') };
  };
  const part = async (entry) => entry && { ...entry, file: await first(entry.file) }, { bank, labels, map } = manifest;
  files['manifest.json'] = JSON.stringify({ ...manifest, bank: { ...await part(bank), rows }, labels: await part(labels), map: await part(map), thumbnails: null });
  return (context) => context.route('**/bundle/*', (route) => { const body = files[new URL(route.request().url()).pathname.split('/').pop()]; return body ? route.fulfill({ body }) : route.continue(); });
}

export async function a_bank_that_fits_on_one_shelf_stands_there_in_order(browser, site) {
  const opened = await open(browser, site, { prepare: await cut(site, 20), serviceWorkers: 'block' }), { page, context } = opened;
  assert.deepEqual(await page.$$eval('#shelf li', (all) => all.map(({ dataset }) => Number(dataset.row))), Array.from({ length: 20 }, (_, row) => row));
  assert.equal(await text(page, '#shelf-where'), '1 to 20 of 20');
  for (const id of ['#shelf-back', '#shelf-on', '#shelf-random']) assert.equal(await page.locator(id).isDisabled(), true, `${id} leads nowhere`);
  quiet(opened);
  await context.close();
}

export async function a_bank_of_one_picture_says_that_there_is_no_other(browser, site) {
  const opened = await open(browser, site, { prepare: await cut(site, 1), serviceWorkers: 'block', until: '#empty:not([hidden])' }), { page, context } = opened;
  assert.equal(await text(page, '#empty'), 'There is no other picture.');
  assert.match(await text(page, '#status'), /^There is no picture but /);
  assert.match(await text(page, '#facts'), /^1 picture · /);
  await hand(page, 'drop', [{ name: 'mine.png', type: 'image/png', bytes: await picture(page, 30) }]);
  await settle(page, () => /^1 picture similar to mine\.png; |^Nothing similar to mine\.png here; /.test(document.querySelector('#status').textContent));
  quiet(opened);
  await context.close();
}

export async function several_pictures_join_the_bank_for_the_session(browser, site) {
  const opened = await open(browser, site), { page, context } = opened, rowsBefore = await page.evaluate(() => laState.bundle.manifest.bank.rows);
  const files = await Promise.all([10, 120, 240].map(async (hue) => ({ name: `${hue}.png`, type: 'image/png', bytes: await picture(page, hue) })));
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await hand(page, 'drop', [...files, { name: 'notes.txt', type: 'text/plain', bytes: Buffer.from('no picture') }]);
  await settle(page, () => laState.added.size === 3 && /3 pictures added.*1 other file left out/.test(laState.status));
  const { y } = await page.locator('#results').boundingBox();
  assert.ok(y > -1, `the neighbours of the first begin ${-y} pixels above the window`);
  assert.equal(await page.evaluate(() => laState.query.row), rowsBefore);
  await hand(page, 'drop', [{ ...files[1], name: 'copy.png' }]);
  await asked(page, '120.png');
  assert.equal(await page.evaluate(() => laState.query.row), rowsBefore + 1, 'the same file came twice');
  assert.equal(await page.locator('#add').isVisible(), false, 'the same file can be added twice');
  await hand(page, 'drop', [{ name: '125.png', type: 'image/png', bytes: await picture(page, 125) }]);
  await asked(page, '125.png');
  if (await page.evaluate(() => Boolean(laState.bundle.labels) && !laState.result.isFar)) {
    assert.equal(await page.locator('#vote').isVisible(), true, 'the vote vanished beside a picture of the session');
  }
  await page.fill('#find', '.png');
  const found = await page.locator('#shelf li').count();
  await page.focus('#add');
  await page.keyboard.press('Enter');
  await settle(page, () => laState.added.size === 4 && document.querySelector('#add').hidden);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'results-title', 'the focus went with the button');
  assert.equal(await page.locator('#shelf li').count(), found + 1, 'the picture added is not found');
  quiet(opened);
  await context.close();
}

export async function a_folder_of_pictures_is_indexed_on_the_spot(browser, site) {
  const opened = await open(browser, site), { page, context } = opened, folder = await mkdtemp(join(tmpdir(), 'pictures-'));
  for (const hue of [0, 60, 180, 300]) await writeFile(join(folder, `${hue}.png`), await picture(page, hue));
  await writeFile(join(folder, 'notes.txt'), 'no picture');
  await writeFile(join(folder, 'broken.png'), 'no picture either');
  await page.setInputFiles('#folder', folder);
  await settle(page, () => !laState.indexing && laState.added.size === 4);
  await settle(page, () => /^4 pictures added.*1 other file left out; could not be opened: broken.png$/.test(document.querySelector('#status').textContent));
  assert.equal(await page.locator('#cancel').isVisible(), false);
  await hand(page, 'drop', ['a.png', 'b.png'].map((name) => ({ name, type: 'image/png', bytes: Buffer.from('no picture') })));
  await page.waitForSelector('#error:not([hidden])');
  assert.match(await text(page, '#error-text'), /got none: a\.png, b\.png$/);
  await rm(folder, { recursive: true });
  quiet(opened);
  await context.close();
}

export async function a_visitor_who_went_elsewhere_stays_there_when_indexing_ends(browser, site) {
  const opened = await open(browser, site), { page, context } = opened, files = await Promise.all([40, 220].map(async (hue) => ({ name: `${hue}.png`, type: 'image/png', bytes: await picture(page, hue) })));
  await holdBack(page, '220.png');
  await hand(page, 'drop', files);
  await settle(page, () => laState.added.size === 1);
  await page.click('#neighbours .search');
  await settle(page, () => laState.query.row !== 0);
  const address = page.url();
  await page.evaluate(() => letGo());
  await settle(page, () => /^2 pictures added/.test(document.querySelector('#status').textContent));
  assert.equal(page.url(), address);
  quiet(opened);
  await context.close();
}

export async function the_page_can_be_used_by_keyboard_alone(browser, site) {
  const opened = await open(browser, site), { page, context } = opened;
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  const first = Number(await page.evaluate(() => document.activeElement.closest('li').dataset.row));
  assert.deepEqual(first, (await rows(page))[0], 'the skip link does not lead to the similar pictures');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await settle(page, (row) => laState.query.row === row, first);
  const inside = () => page.evaluate(() => document.querySelector('#results').contains(document.activeElement));
  assert.ok(await inside(), 'focus was lost after a search');
  await page.goBack();
  await settle(page, () => laState.query.row === 0);
  assert.ok(await inside(), 'focus was lost after going back');
  await page.focus('#map');
  for (const key of ['+', '+', 'ArrowLeft', 'ArrowUp', '-', 'Enter']) await page.keyboard.press(key);
  const nameless = await page.$$eval('button, input, canvas[tabindex], dialog, section', (all) => all.filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.getAttribute('aria-labelledby'))).map((one) => one.outerHTML.slice(0, 80)));
  assert.deepEqual(nameless, [], 'controls without a name');
  quiet(opened);
  await context.close();
}

// The same bundle under another name and origin, which allows other pages to read it.
async function opens_from(browser, site, query, elsewhere) {
  const prepare = (context) => context.route(`${elsewhere}**`, async (route) => {
    const response = await route.fetch({ url: route.request().url().replace(elsewhere, `${site}bundle/`) });
    await route.fulfill({ response, headers: { ...response.headers(), 'access-control-allow-origin': '*' } });
  });
  const opened = await open(browser, `${site}?${query}`, { prepare, serviceWorkers: 'block' }), { page, context } = opened;
  await page.click('#neighbours .search');
  await settle(page, () => laState.query.row !== 0);
  assert.ok(decodeURIComponent(page.url()).includes(query), page.url());
  quiet(opened);
  await context.close();
}

export async function a_bundle_of_another_address_opens(browser, site) {
  await opens_from(browser, site, 'bundle=https://bundles.example/elsewhere', 'https://bundles.example/elsewhere/');
}

export async function the_bundle_of_a_model_on_the_hub_opens(browser, site) {
  await opens_from(browser, site, 'model=me/tiny', 'https://huggingface.co/me/tiny/resolve/main/bundle/');
}
