// What the page answers before all has come, of all pictures at once, and to files that it cannot open.
import assert from 'node:assert/strict';
import { enlarged } from './large.mjs';
import { hand, open, picture, rows as shownRows, settle, text, through } from './pages.mjs';

const quiet = ({ errors }) => assert.deepEqual(errors, [], `console errors: ${errors.join('; ')}`);

export async function the_first_answer_waits_for_no_weights(browser, site) {
  const change = (path, body) => (path.endsWith('model.safetensors') ? null : body);
  await through(site, { change }, async (address) => {
    const { page, context } = await open(browser, address, { serviceWorkers: 'block', until: '#error:not([hidden])' });
    assert.match(await text(page, '#error-text'), /model\.safetensors/);
    assert.equal(await page.locator('#neighbours li').count(), 12, 'there was no answer before the weights were asked for');
    await context.close();
  });
}

// So many rows that the first half of the bank is enough for an answer.
async function large(browser, site) {
  const { bank: { rows, file } } = await (await fetch(`${site}bundle/manifest.json`)).json(), blank = await browser.newPage();
  const count = Math.ceil(2.2 * 2 ** 24 / (file.bytes / rows)), files = await enlarged(site, count, { page: blank, perSheet: 64 });
  await blank.close();
  return { files, count };
}
const ofBank = (path) => path.endsWith('bank.bin');

export async function a_large_bank_is_answered_from_its_first_part_and_then_from_all(browser, site) {
  const { files, count } = await large(browser, site);
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  await through(site, { files, later: (path) => (ofBank(path) ? held : null) }, async (address) => {
    const opened = await open(browser, address, { serviceWorkers: 'block' }), { page, context } = opened;
    const among = await page.evaluate(() => laState.result.among);
    assert.ok(among > 0 && among < count, `answered among ${among} of ${count}`);
    assert.match(await text(page, '#timing'), /among the first [\d,]+ pictures; the others are coming$/);
    assert.ok((await shownRows(page)).every((row) => row < among));
    assert.equal(await page.locator('#vote').isVisible(), false, 'a part of the pictures votes');
    // A row that has not come yet is answered when it has.
    await page.evaluate(async (row) => { history.replaceState(null, '', `?row=${row}`); dispatchEvent(new PopStateEvent('popstate')); }, count - 1);
    release();
    await settle(page, (row) => laState.query.row === row && laState.result.among === 0, count - 1);
    assert.doesNotMatch(await text(page, '#timing'), /among/);
    await page.goto(address);
    await settle(page, () => window.laState?.usual && laState.result.among === 0, null, 60000);
    const copies = await page.evaluate(() => laState.result.neighbours.filter(({ score }) => score > 0.999).length);
    assert.ok(copies > 0, 'what came later is not found');
    quiet(opened);
    await context.close();
  });
}

export async function a_large_bank_that_turns_out_broken_is_said_so_and_answers_no_more(browser, site) {
  const { files } = await large(browser, site);
  const broken = (path) => {
    const bytes = files(path);
    if (!ofBank(path)) return bytes;
    const changed = Buffer.from(bytes);
    changed[bytes.length - 9] ^= 1;
    return changed;
  };
  await through(site, { files: broken }, async (address) => {
    const { page, context } = await open(browser, address, { serviceWorkers: 'block', until: '#error:not([hidden])' });
    assert.match(await text(page, '#error-text'), /bank\.bin: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}: .*export/);
    assert.equal(await page.locator('#main').isVisible(), false, 'what was answered from a broken bank is still shown');
    assert.equal(await page.locator('#pick').isDisabled(), true);
    await context.close();
  });
}

export async function near_duplicates_are_those_that_a_look_at_all_pairs_finds(browser, site) {
  const { bank: { rows, dim, precision } } = await (await fetch(`${site}bundle/manifest.json`)).json();
  if (precision !== 'f32') return 'the bank is not in f32';
  const values = new Float32Array(await (await fetch(`${site}bundle/bank.bin`)).arrayBuffer());
  const similarity = (a, b) => { let sum = 0; for (let i = 0; i < dim; i++) sum += values[a * dim + i] * values[b * dim + i]; return sum; };
  // As high as leaves a few groups.
  const nearest = Array.from({ length: rows }, (_, row) => {
    let best = -1;
    for (let other = row + 1; other < rows; other++) best = Math.max(best, similarity(row, other));
    return best;
  });
  const [above, below] = [...nearest].sort((a, b) => b - a).slice(5, 7), min = (above + below) / 2;
  const expected = [], grouped = new Set();
  for (let row = 0; row < rows; row++) {
    if (grouped.has(row) || nearest[row] < min) continue;
    const group = [row];
    for (let other = row + 1; other < rows; other++) if (!grouped.has(other) && similarity(row, other) >= min) group.push(other);
    if (group.length > 1) { group.forEach((one) => grouped.add(one)); expected.push(group); }
  }
  const opened = await open(browser, site), { page, context } = opened;
  await page.$eval('#twins-min', (field, min) => { field.value = min; }, min);
  await page.click('#twins');
  const ended = () => settle(page, () => /near-duplicates$/.test(document.querySelector('#shelf-where').textContent), null, 60000);
  await ended();
  const shown = await page.$$eval('#shelf li', (cards) => cards.map((card) => [card.querySelector('.label').textContent, Number(card.dataset.row)]));
  const found = [...new Set(shown.map(([name]) => name))].map((name) => shown.filter(([group]) => group === name).map(([, row]) => row));
  // A line joins each group: it begins at the first card.
  const joined = await page.$$eval('#shelf li', (cards) => cards.map((card) => [card.dataset.group, card.classList.contains('same'), getComputedStyle(card).borderTopStyle]));
  joined.forEach(([group, isSame, line], i) => {
    const label = shown[i][0], number = Number(label.replace('group ', '')) - 1;
    assert.deepEqual([group, isSame, line], [String(number % 2), label === shown[i - 1]?.[0], 'solid'], `card ${i}, ${label}`);
  });
  const plain = ([first, ...others]) => [first, ...others.sort((a, b) => a - b)];
  assert.deepEqual(found.map(plain), expected.map(plain));
  assert.equal(await text(page, '#shelf-where'), `${expected.length} group${expected.length === 1 ? '' : 's'} of near-duplicates`);
  // The same picture in another file is one.
  const bytes = await picture(page, 50), file = (name, more) => ({ name, type: 'image/png', bytes: Buffer.concat([bytes, Buffer.from(more)]) });
  await hand(page, 'drop', [file('one.png', ''), file('two.png', 'x')]);
  await settle(page, () => laState.added.size === 2);
  await page.$eval('#twins-min', (field) => { field.value = 0.9999; field.dispatchEvent(new Event('change')); });
  await settle(page, () => document.querySelectorAll('#shelf li').length >= 2 && [...document.querySelectorAll('#shelf .name')].some((name) => name.textContent === 'two.png'), null, 60000);
  await page.click('#twins');
  await settle(page, (total) => document.querySelector('#shelf-where').textContent === `1 to 24 of ${total}`, rows + 2);
  quiet(opened);
  await context.close();
  return `${expected.length} groups from a similarity of ${min.toFixed(3)} on`;
}

export async function clusters_hold_every_picture_once_and_begin_with_the_most_typical(browser, site) {
  const opened = await open(browser, site), { page, context } = opened;
  const rows = await page.evaluate(() => laState.bundle.manifest.bank.rows);
  await page.click('#clusters');
  const where = (words) => settle(page, (words) => new RegExp(words).test(document.querySelector('#shelf-where').textContent), words, 60000);
  await where('^The most typical picture of each of [0-9]+ clusters$');
  const options = await page.$$eval('#cluster option', (all) => all.map((option) => option.textContent));
  const sizes = options.slice(1).map((option, i) => {
    const [, number, size] = option.match(/^(\d+): ([\d,]+) pictures?$/);
    assert.equal(Number(number), i + 1);
    return Number(size.replace(',', ''));
  });
  assert.deepEqual(sizes, [...sizes].sort((a, b) => b - a));
  assert.equal(sizes.reduce((sum, size) => sum + size, 0), rows);
  const cards = () => page.$$eval('#shelf li', (all) => all.map((card) => [Number(card.dataset.row), card.querySelector('.label')?.textContent]));
  const typical = (await cards()).slice(0, sizes.length);
  typical.forEach(([, label], i) => assert.equal(label, `cluster ${i + 1} (${options[i + 1].match(/: ([\d,]+) /)[1]})`));
  await page.selectOption('#cluster', '1');
  await where(`^Cluster 2 of ${sizes.length}, the most typical pictures first$`);
  const second = await cards();
  assert.equal(second.length, Math.min(24, sizes[1]));
  assert.equal(second[0][0], typical[1][0]);
  await page.click('#clusters');
  await settle(page, (total) => document.querySelector('#shelf-where').textContent === `1 to 24 of ${total}`, rows);
  assert.equal(await page.$eval('#cluster', (choice) => choice.parentElement.hidden), true);
  quiet(opened);
  await context.close();
  return `${sizes.length} clusters of ${rows} pictures`;
}

export async function a_picture_in_heic_is_refused_with_the_way_out(browser, site) {
  const { page, context } = await open(browser, site);
  const heic = (name, type) => ({ name, type, bytes: Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic') });
  for (const [name, type] of [['phone.HEIC', 'image/heic'], ['phone.heif', '']]) {
    await hand(page, 'drop', [heic(name, type)]);
    const kind = name.split('.')[1].toUpperCase();
    await settle(page, (words) => document.querySelector('#error-text').textContent === words, `${name}: ${kind} is not read; convert it to JPEG or PNG`);
    await page.click('#dismiss');
  }
  await hand(page, 'drop', [heic('a.heic', ''), { name: 'b.png', type: 'image/png', bytes: await picture(page, 70) }]);
  await settle(page, () => /could not be opened: a\.heic; HEIC is not read; convert it to JPEG or PNG$/.test(document.querySelector('#status').textContent));
  // A browser that opens the format takes it.
  const bytes = [...await picture(page, 90)];
  await page.evaluate((bytes) => {
    const read = createImageBitmap, png = new Blob([new Uint8Array(bytes)]);
    window.createImageBitmap = (source, ...rest) => read(/\.heic$/i.test(source.name) ? png : source, ...rest);
  }, bytes);
  await hand(page, 'drop', [heic('now.heic', 'image/heic')]);
  await settle(page, () => laState.query?.name === 'now.heic');
  await context.close();
}

export async function the_map_stays_beside_the_results(browser, site) {
  const opened = await open(browser, site, { viewport: { width: 1280, height: 900 } }), { page, context } = opened;
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  const [map, bank] = await Promise.all(['#plane', '#bank'].map((id) => page.locator(id).boundingBox()));
  if (map) assert.ok(map.y + map.height <= bank.y, `the map lies ${map.y + map.height - bank.y} pixels over all pictures`);
  quiet(opened);
  await context.close();
}
