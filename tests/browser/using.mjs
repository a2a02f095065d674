// What a visitor does with what is found: looks at it large, takes it along, asks further, keeps pictures for the next visit.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { enlarged } from './large.mjs';
import { hand, open, picture, rows, settle, text, through } from './pages.mjs';

const quiet = ({ errors }) => assert.deepEqual(errors, [], `console errors: ${errors.join('; ')}`);
const params = (page) => new URL(page.url()).searchParams;
const hasPictures = (page) => page.evaluate(() => Boolean(laState.bundle.manifest.thumbnails));
const file = async (page, hue) => ({ name: `${hue}.png`, type: 'image/png', bytes: await picture(page, hue) });
const drop = async (page, hue) => {
  await hand(page, 'drop', [await file(page, hue)]);
  await settle(page, (name) => laState.query?.name === name, `${hue}.png`);
};

// Opens the page, does `work`, and sees that the console stayed quiet.
const visit = (work, options) => async (browser, site) => {
  const opened = await open(browser, site, options);
  const note = await work(opened.page, site, opened);
  quiet(opened);
  await opened.context.close();
  return note;
};

export const a_click_on_a_picture_shows_it_large_and_escape_returns = visit(async (page) => {
  if (!await hasPictures(page)) return 'the bundle has no thumbnails';
  const [first, second] = await rows(page), name = (row) => page.evaluate((row) => laState.bundle.names.of(row), row);
  await page.click('#neighbours .look');
  await page.waitForSelector('#viewer[open]');
  assert.equal(await text(page, '#view-path'), await name(first));
  const [score] = await page.$$eval('#neighbours .score', (all) => all.map((one) => one.textContent.replace('similarity ', '')));
  assert.equal(await text(page, '#view-score'), score);
  assert.equal(await page.locator('#view-back').isDisabled(), true, 'there is a picture before the first');
  await page.keyboard.press('ArrowRight');
  assert.equal(await text(page, '#view-path'), await name(second));
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  assert.equal(await text(page, '#view-path'), await name(first));
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Escape');
  await settle(page, () => !document.querySelector('#viewer').open);
  await settle(page, (row) => document.activeElement.closest('#neighbours li')?.dataset.row === String(row), second);
  await page.keyboard.press('Enter');
  await page.click('#view-pick');
  await settle(page, (row) => laState.query.row === row && !document.querySelector('#viewer').open, second);
});

export const the_path_of_a_picture_can_be_copied = visit(async (page) => {
  if (!await hasPictures(page)) return 'the bundle has no thumbnails';
  const [first] = await rows(page);
  await page.click('#neighbours .look');
  await page.click('#view-copy');
  await settle(page, () => document.querySelector('#view-copy').textContent === 'Copied');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await page.evaluate((row) => laState.bundle.names.of(row), first));
}, { permissions: ['clipboard-read', 'clipboard-write'] });

export async function the_original_is_shown_where_the_server_has_it(browser, site) {
  const blank = await browser.newPage(), whole = await picture(blank, 10);
  await blank.close();
  for (const has of [true, false]) {
    const files = (path) => (has && /\/original\/\d+\?[0-9a-f]{64}$/.test(path) ? whole : null), headers = has ? { 'la-originals': '1' } : {};
    const { asked } = await through(site, { files, headers }, async (address) => {
      const { page, context } = await open(browser, address, { serviceWorkers: 'block' });
      if (!await hasPictures(page)) return context.close();
      await page.click('#neighbours .look');
      if (has) await settle(page, () => document.querySelector('#view-original').naturalWidth === 40 && document.querySelector('#view-thumb').hidden);
      if (has) assert.equal((await page.locator('#view-original').boundingBox()).width, 120, 'a small picture is not enlarged');
      else assert.equal(await page.locator('#view-thumb').isVisible(), true);
      await context.close();
    });
    const [first] = asked.filter((name) => /^\d+\?/.test(name));
    assert.equal(Boolean(first), has, 'originals were asked of a server that has none');
  }
}

export const what_is_similar_can_be_taken_along = visit(async (page) => {
  const found = await page.evaluate(() => laState.result.neighbours.map(({ row, score }) => ({ row, name: laState.bundle.names.of(row), score })));
  const content = async (kind) => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.click(`#download-${kind}`)]);
    assert.equal(download.suggestedFilename(), `similar.${kind}`);
    return readFile(await download.path(), 'utf8');
  };
  const lines = (await content('csv')).trim().split('\r\n');
  assert.equal(lines[0], '"rank","row","name","class","similarity"');
  assert.ok(lines[1].startsWith(`"1","${found[0].row}","${found[0].name}",`), lines[1]);
  assert.equal(lines.length, found.length + 1);
  const { results } = JSON.parse(await content('json'));
  assert.deepEqual(results.map(({ row, name }) => [row, name]), found.map(({ row, name }) => [row, name]));
  assert.ok(Math.abs(results[0].similarity - found[0].score) < 1e-5);
  assert.equal(await content('txt'), found.map(({ name }) => `${name}\n`).join(''));
}, { acceptDownloads: true });

export const a_slash_goes_to_find_and_arrows_walk_from_card_to_card = visit(async (page) => {
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'find');
  await page.keyboard.type('/');
  assert.equal(await page.inputValue('#find'), '/', 'a slash cannot be typed');
  const cards = await rows(page), at = () => page.evaluate(() => Number(document.activeElement.closest('li').dataset.row));
  await page.focus('#neighbours li button');
  await page.keyboard.press('ArrowRight');
  assert.equal(await at(), cards[1]);
  await page.keyboard.press('End');
  assert.equal(await at(), cards.at(-1));
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowDown');
  const columns = await page.$$eval('#neighbours li', (all) => all.filter((one) => one.offsetTop === all[0].offsetTop).length);
  assert.equal(await at(), cards[columns]);
  await page.keyboard.press('ArrowUp');
  assert.equal(await at(), cards[0]);
});

export async function nothing_speaks_of_classes_where_there_are_none(browser, site) {
  const manifest = await (await fetch(`${site}bundle/manifest.json`)).json();
  const prepare = (context) => context.route('**/bundle/manifest.json', (route) => route.fulfill({ json: { ...manifest, labels: null } }));
  await visit(async (page) => {
    assert.equal(await page.getAttribute('#find', 'placeholder'), 'name');
    assert.equal(await page.locator('#legend').isVisible(), false);
  }, { prepare, serviceWorkers: 'block' })(browser, site);
}

export const a_machine_without_a_camera_is_told_so = visit(async (page) => {
  await page.evaluate(() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('Requested device not found', 'NotFoundError'); }; });
  await page.click('#camera');
  await page.waitForSelector('#error:not([hidden])');
  assert.match(await text(page, '#error-text'), /this machine has no camera.*choose a picture/);
});

export const the_page_says_beside_its_button_that_pictures_stay = visit(async (page) => {
  const said = await page.locator('#privacy').boundingBox(), button = await page.locator('label:has(#pick)').boundingBox();
  assert.match(await text(page, '#privacy'), /never leave this browser/);
  assert.ok(Math.abs(said.y - button.y - button.height) < 40, 'what is said stands elsewhere');
});

export const a_picture_unlike_all_is_said_so_and_gets_no_vote = visit(async (page) => {
  await settle(page, () => laState.usual, null, 60000);
  const { low, any } = await page.evaluate(() => laState.usual);
  assert.ok(any < low && low <= 1.001, `usual are ${any} to ${low}`);
  assert.ok(Number(await page.getAttribute('#min', 'min')) > -1, 'the slider does not fit the bank');
  await page.evaluate(() => { laState.usual.low = 2; });
  await page.click('#neighbours .search');
  await settle(page, () => laState.result.isFar);
  assert.match(await text(page, '#far'), /^Nothing similar here\./);
  assert.match(await text(page, '#status'), /^Nothing similar to /);
  assert.equal(await page.locator('#vote').isVisible(), false);
  await page.evaluate(() => { laState.usual.low = -1; });
  await page.click('#neighbours .search');
  await settle(page, () => !laState.result.isFar);
  assert.equal(await page.locator('#far').isVisible(), false);
  return `low ${low.toFixed(3)}, any ${any.toFixed(3)}`;
});

export const pictures_stay_for_the_next_visit_where_the_visitor_says_so = visit(async (page) => {
  const reload = async (added) => {
    await page.reload();
    await page.waitForSelector('#neighbours li');
    await settle(page, (added) => laState.added.size === added, added);
  };
  await hand(page, 'drop', [await file(page, 20), await file(page, 140)]);
  await settle(page, () => laState.added.size === 2 && !laState.indexing);
  await page.check('#keep');
  await drop(page, 260);
  const found = await rows(page);
  await reload(2);
  assert.equal(await page.evaluate(() => laState.query.name), '260.png', 'the address lost its picture');
  assert.deepEqual(await rows(page), found);
  assert.deepEqual(await page.$$eval('#mine-list .name', (all) => all.map((one) => one.textContent)), ['140.png', '20.png']);
  await page.click('#mine-list .remove');
  await settle(page, () => laState.added.size === 1 && /^1 picture removed/.test(document.querySelector('#status').textContent));
  assert.ok(!(await page.$$eval('#neighbours .name', (all) => all.map((one) => one.textContent))).includes('140.png'), 'what is removed is found');
  await reload(1);
  await page.uncheck('#keep');
  await settle(page, () => !laState.keeps);
  await page.goto(page.url().split('?')[0]);
  await page.waitForSelector('#neighbours li');
  assert.equal(await page.evaluate(() => laState.added.size), 0, 'what was forgotten came back');
});

export const nothing_is_kept_of_a_picture_unless_the_visitor_says_so = visit(async (page) => {
  await hand(page, 'drop', [await file(page, 20), await file(page, 140)]);
  await settle(page, () => laState.added.size === 2 && !laState.indexing);
  assert.ok(!(await page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name))).includes('la-pictures'));
  await page.click('#remove-all');
  await settle(page, () => laState.added.size === 0 && laState.query.row === 0);
});

export const pictures_for_and_against_are_asked_together = visit(async (page) => {
  if (!await hasPictures(page)) return 'the bundle has no thumbnails';
  const before = await rows(page);
  for (const [index, how] of [[0, 'also'], [1, 'not']]) {
    const row = before[index];
    await page.click(`#neighbours [data-row="${row}"] .look`);
    await page.click(`#view-${how}`);
    await settle(page, ([row, key]) => laState.query[key].includes(row), [row, how === 'also' ? 'also' : 'against']);
    assert.equal(params(page).get(how), String(row));
    if (how === 'also') before[1] = (await rows(page))[0];
  }
  const now = await rows(page);
  assert.ok(!now.includes(before[0]) && !now.includes(before[1]), 'what was asked with is an answer');
  assert.equal(await page.locator('#weights li').count(), 2);
  await page.click('#weights button');
  await settle(page, () => !laState.query.also.length && laState.query.against.length === 1);
  await page.goBack();
  await settle(page, () => laState.query.also.length === 1);
  assert.deepEqual(await rows(page), now);
});

export const a_part_of_a_picture_can_be_searched = visit(async (page) => {
  await drop(page, 50);
  const before = await page.evaluate(() => [...document.querySelector('#results').lastEmbedding]);
  await page.click('#part');
  await page.waitForSelector('#crop[open]');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Shift+ArrowDown');
  await page.click('#crop-use');
  await settle(page, () => laState.query.name === 'part of 50.png');
  assert.notDeepEqual(await page.evaluate(() => [...document.querySelector('#results').lastEmbedding]), before);
});

export const classes_and_names_filter_what_is_similar = visit(async (page) => {
  if (await page.evaluate(() => Boolean(laState.bundle.labels))) {
    await page.click('#legend [data-index="1"]');
    await settle(page, () => laState.classes.length === 1 && laState.result.neighbours.length > 1
      && laState.result.neighbours.every(({ row }) => laState.bundle.labels[row] === 1));
    assert.equal(params(page).get('class'), '1');
    await page.click('#legend .all');
    await settle(page, () => !laState.classes.length);
  }
  const name = await page.evaluate(() => laState.bundle.names.of(5));
  await page.fill('#named', name);
  await settle(page, (name) => laState.result.neighbours.every(({ row }) => laState.bundle.names.of(row).includes(name)), name);
  await page.fill('#named', 'nothing has this name');
  await settle(page, () => !document.querySelector('#empty').hidden);
  assert.match(await text(page, '#status'), /No picture has this class and name/);
});

export const a_point_under_the_pointer_shows_its_picture = visit(async (page) => {
  if (!await page.evaluate(() => Boolean(laState.bundle.map))) return 'the bundle has no map';
  const box = await page.locator('#map').boundingBox(), [x, y] = await page.evaluate(() => laState.map.screen(7));
  await page.locator('#map').scrollIntoViewIfNeeded();
  const { y: top } = await page.locator('#map').boundingBox();
  await page.mouse.move(box.x + x, top + y);
  await settle(page, () => document.querySelector('#map-name').textContent.length > 0);
  const isPainted = () => document.querySelector('#map-picture').getContext('2d').getImageData(0, 0, 160, 160).data.some((value) => value);
  if (await hasPictures(page)) await settle(page, isPainted);
  await page.mouse.move(5, 5);
  await settle(page, () => document.querySelector('#map-here').hidden);
});

export const the_map_stands_beside_what_is_similar = visit(async (page) => {
  if (!await page.evaluate(() => Boolean(laState.bundle.map))) return 'the bundle has no map';
  const map = await page.locator('#map').boundingBox(), found = await page.locator('#neighbours').boundingBox();
  assert.ok(map.x > found.x + found.width && map.y < 300, `the map is at ${map.x}, ${map.y}`);
});

export const a_picture_of_the_session_lies_among_its_nearest_on_the_map = visit(async (page) => {
  if (!await page.evaluate(() => Boolean(laState.bundle.map))) return 'the bundle has no map';
  await drop(page, 80);
  await page.click('#add');
  await settle(page, () => laState.added.size === 1 && laState.query.row !== undefined);
  const far = await page.evaluate(() => {
    const nearest = laState.result.neighbours.slice(0, 5).map(({ row }) => laState.map.screen(row)), own = laState.map.screen(laState.query.row);
    return [0, 1].map((axis) => own[axis] - nearest.reduce((sum, at) => sum + at[axis], 0) / nearest.length);
  });
  assert.ok(Math.hypot(...far) < 0.01, `it lies ${far} pixels from their mean`);
});

export const one_finger_scrolls_the_page_past_the_map = visit(async (page, site, { context }) => {
  if (!await page.evaluate(() => Boolean(laState.bundle.map))) return 'the bundle has no map';
  await page.locator('#map').scrollIntoViewIfNeeded();
  const box = await page.locator('#map').boundingBox(), touches = await context.newCDPSession(page), before = await page.evaluate(() => scrollY);
  const y = box.y + box.height / 2, touch = (type, ...touchPoints) => touches.send('Input.dispatchTouchEvent', { type, touchPoints });
  await touch('touchStart', { id: 0, x: 100, y });
  for (let i = 1; i <= 15; i++) {
    await touch('touchMove', { id: 0, x: 100, y: y - 10 * i });
    await page.waitForTimeout(16);
  }
  await touch('touchEnd');
  await settle(page, (before) => scrollY > before + 100, before, 3000);
}, { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });

export async function sheets_of_a_large_bank_come_when_they_are_seen(browser, site) {
  const blank = await browser.newPage(), { thumbnails } = await (await fetch(`${site}bundle/manifest.json`)).json();
  if (!thumbnails) return 'the bundle has no thumbnails';
  const files = await enlarged(site, 12000, { page: blank, perSheet: 16, leastBytes: 64000 });
  await blank.close();
  const { asked } = await through(site, { files }, async (address) => {
    const { page, context } = await open(browser, address);
    await settle(page, () => /^Ready.*thumbnails that were seen/.test(laState.offline), null, 60000);
    await context.close();
  });
  const sheets = new Set(asked.filter((name) => name.startsWith('thumbs-')));
  // Eight for the shelf, thirteen for the answer; of a small bank that is repeated the thirteen are far apart.
  assert.ok(sheets.size > 0 && sheets.size <= 22, `${sheets.size} of 750 sheets were asked for`);
  return `${sheets.size} of 750 sheets`;
}
